//! Generates the API's messages, client and server from `proto/vrouter.proto`, without protoc.
//!
//! Beside what tonic generates, every message derives `serde::Serialize` such that its JSON is fit for
//! people: values of enumerations as words, bytes in hex, absent fields left out. The words of each
//! enumeration are generated too (`words.rs`).

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto};

const PACKAGE: &str = "vrouter.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/vrouter.proto");
    let files = protox::compile(["proto/vrouter.proto"], ["proto"])?;
    let mut builder = tonic_prost_build::configure().message_attribute(".", "#[derive(serde::Serialize)]");
    let mut words = String::new();
    for file in files.file.iter().filter(|file| file.package() == PACKAGE) {
        for message in &file.message_type {
            for (field, attribute) in attributes(message) {
                builder = builder.field_attribute(field, attribute);
            }
        }
        for enumeration in &file.enum_type {
            write_words(&mut words, enumeration)?;
        }
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("words.rs"), words)?;
    builder.compile_fds(files)?;
    Ok(())
}

/// Serde attributes of a message's fields: (path of the field, attribute).
fn attributes(message: &DescriptorProto) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for field in &message.field {
        let path = format!("{PACKAGE}.{}.{}", message.name(), field.name());
        let repeated = field.label() == Label::Repeated;
        let optional = field.proto3_optional() || (field.r#type() == Type::Message && !repeated);
        match field.r#type() {
            Type::Enum => {
                assert!(!repeated && !optional, "{path}: no words for lists of enumerations");
                let kind = field.type_name().rsplit('.').next().unwrap_or_default();
                let with = format!("crate::rpc::as_word::<{kind}, _>");
                out.push((path, format!("#[serde(serialize_with = \"{with}\")]")));
            }
            Type::Bytes => {
                assert!(!repeated && !optional, "{path}: no hex for lists of bytes");
                out.push((path, "#[serde(serialize_with = \"crate::rpc::as_hex\")]".to_owned()));
            }
            _ if optional => {
                let skip = "#[serde(skip_serializing_if = \"Option::is_none\")]";
                out.push((path, skip.to_owned()));
            }
            _ => {}
        }
    }
    out
}

/// `PORT_KIND_AF_XDP` of `PortKind` has the word `af_xdp`.
fn write_words(out: &mut String, enumeration: &EnumDescriptorProto) -> std::fmt::Result {
    let name = enumeration.name();
    let mut prefix = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix.push('_');
    writeln!(out, "impl Word for v1::{name} {{")?;
    writeln!(out, "    fn word_of(number: i32) -> &'static str {{")?;
    writeln!(out, "        match number {{")?;
    for value in &enumeration.value {
        let word = value.name().strip_prefix(&prefix).unwrap_or(value.name());
        let word = match word {
            "UNSPECIFIED" => "unknown".to_owned(),
            word => word.to_ascii_lowercase(),
        };
        writeln!(out, "            {} => {word:?},", value.number())?;
    }
    writeln!(out, "            _ => \"unknown\",\n        }}\n    }}\n}}")
}
