//! Whether JSON fits `pktgen.schema.json`: the keywords that the schema uses, and no others.

use std::sync::LazyLock;

use serde_json::Value;

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../pktgen.schema.json")).unwrap());

/// Panics where `value` does not fit.
pub(crate) fn check(value: &Value) {
    if let Err(problem) = fits(value, &SCHEMA, "output") {
        panic!("{problem}");
    }
}

fn fits(value: &Value, schema: &Value, place: &str) -> Result<(), String> {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let ok = match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" | "additionalProperties" => true,
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                fits(value, &SCHEMA["$defs"][name], place)?;
                true
            }
            "oneOf" => {
                let problems: Vec<String> = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|one| fits(value, one, place).err())
                    .collect();
                if problems.len() + 1 != wanted.as_array().unwrap().len() {
                    return Err(format!("{place}: not exactly one fits: {problems:?}"));
                }
                true
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => match wanted {
                Value::String(one) => is_of(value, one),
                many => many.as_array().unwrap().iter().any(|one| is_of(value, one.as_str().unwrap())),
            },
            "required" => {
                wanted.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    let schema =
                        wanted.get(key).ok_or_else(|| format!("{place}: {key} is not in the schema"))?;
                    fits(inner, schema, &format!("{place}.{key}"))?;
                }
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    fits(item, wanted, &format!("{place}[]"))?;
                }
                true
            }
            "prefixItems" => {
                for (item, schema) in value.as_array().into_iter().flatten().zip(wanted.as_array().unwrap()) {
                    fits(item, schema, &format!("{place}[]"))?;
                }
                true
            }
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
            other => panic!("keyword {other} is not known here"),
        };
        if !ok {
            return Err(format!("{place}: {keyword} {wanted} is not met by {value}"));
        }
    }
    Ok(())
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("type {other} is not known here"),
    }
}
