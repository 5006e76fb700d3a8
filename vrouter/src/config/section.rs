//! A walk over one TOML table that keeps count of the keys: what nobody takes is unknown.
//!
//! A taker never stops at the first fault: it records the fault and yields `None` or the default, so
//! that one reading names everything that is wrong.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml_edit::{Item, TableLike, Value};

use super::diagnostics::{Diagnostics, Place, Setting};
use super::suggest::nearest;

/// A table and its bytes in the file.
type Spanned<'a> = (&'a dyn TableLike, Option<Range<usize>>);

/// One table of the file.
pub(super) struct Section<'a, 'd> {
    table: Option<&'a dyn TableLike>,
    place: Place,
    known: Vec<&'static str>,
    out: &'d mut Diagnostics,
}

impl<'a, 'd> Section<'a, 'd> {
    /// The table at `place`; `None` stands for a table that the file does not have.
    pub(super) fn new(table: Option<&'a dyn TableLike>, place: Place, out: &'d mut Diagnostics) -> Self {
        Self { table, place, known: Vec::new(), out }
    }

    /// Where the table itself stands.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The place of a key: that of its value, else that of the table.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let item = self.table.and_then(|table| table.get(key));
        let span = item.and_then(Item::span);
        Place::new(join(&self.place.key, key), span.or_else(|| self.place.span.clone()))
    }

    /// Records an error at a key.
    pub(super) fn error(&mut self, key: &str, message: impl Into<String>, expected: impl Into<String>) {
        let place = self.place_of(key);
        self.out.error(&place, message, expected);
    }

    /// Records an error at a place of this section.
    pub(super) fn error_at(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.out.error(place, message, expected);
    }

    /// Takes a key as it stands.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Item> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key).filter(|item| !item.is_none())
    }

    /// Records that a key which must be there is not.
    pub(super) fn missing(&mut self, key: &'static str, expected: &str) {
        if self.table.is_none_or(|table| table.get(key).is_none()) {
            self.error(key, format!("{key} is missing"), expected);
        }
    }

    /// Takes a string.
    pub(super) fn string(&mut self, key: &'static str, expected: &str) -> Option<Setting<&'a str>> {
        let item = self.take(key)?;
        let Some(text) = item.as_str() else {
            self.error(key, format!("found {}", show(item)), expected);
            return None;
        };
        Some(Setting::new(text, self.place_of(key)))
    }

    /// Takes a string and parses it.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Setting<T>> {
        let Setting { value: text, place } = self.string(key, expected)?;
        match parse(text) {
            Ok(value) => Some(Setting::new(value, place)),
            Err(message) => {
                self.out.error(&place, message, expected);
                None
            }
        }
    }

    /// Takes one of the words of a closed set. `later` are words of features that are not built.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        later: &[&str],
        default: T,
    ) -> Setting<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let expected = one_of(&names);
        let Some(Setting { value: text, place }) = self.string(key, &expected) else {
            return Setting::new(default, self.place_of(key));
        };
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Setting::new(*value, place);
        }
        let message = if later.contains(&text) {
            unsupported(key, text)
        } else {
            let hint = nearest(text, names).map(|near| format!("; did you mean {near:?}?"));
            format!("found {text:?}{}", hint.unwrap_or_default())
        };
        self.out.error(&place, message, expected);
        Setting::new(default, place)
    }

    /// Takes a boolean, `false` when absent.
    pub(super) fn boolean(&mut self, key: &'static str) -> Setting<bool> {
        let item = self.take(key);
        let value = item.and_then(Item::as_bool);
        if let (Some(item), None) = (item, value) {
            self.error(key, format!("found {}", show(item)), "true or false");
        }
        Setting::new(value.unwrap_or(false), self.place_of(key))
    }

    /// Takes a whole number within a range.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> Setting<u32> {
        let place = self.place_of(key);
        let Some(item) = self.take(key) else {
            return Setting::new(default, place);
        };
        let number = item.as_integer().and_then(|n| u32::try_from(n).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Setting::new(number, place),
            None => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.out.error(&place, format!("found {}", show(item)), expected);
                Setting::new(default, place)
            }
        }
    }

    /// Takes an array whose elements `read` understands; `expected` describes one element. `None`
    /// when the key is absent or no array.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        mut read: impl FnMut(&Value) -> Result<T, String>,
    ) -> Option<Vec<Setting<T>>> {
        let item = self.take(key)?;
        let Some(array) = item.as_array() else {
            self.error(key, format!("found {}", show(item)), format!("an array of {expected}"));
            return None;
        };
        let mut out = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            let key = format!("{}[{index}]", join(&self.place.key, key));
            let place = Place::new(key, value.span());
            match read(value) {
                Ok(value) => out.push(Setting::new(value, place)),
                Err(message) => self.out.error(&place, message, expected),
            }
        }
        Some(out)
    }

    /// Takes one value that `read` understands, or an array of such; `expected` describes one.
    /// `None` when the key is absent or one of them was not understood.
    pub(super) fn one_or_list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<Vec<Setting<T>>> {
        let item = self.take(key)?;
        if let Some(array) = item.as_array() {
            let read = self.list(key, expected, read)?;
            return (read.len() == array.len()).then_some(read);
        }
        let one = item.as_value().ok_or_else(|| format!("found {}", show(item))).and_then(read);
        match one {
            Ok(value) => Some(vec![Setting::new(value, self.place_of(key))]),
            Err(message) => {
                self.error(key, message, expected);
                None
            }
        }
    }

    /// Takes an array of strings that `parse` understands.
    pub(super) fn strings<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Setting<T>>> {
        self.list(key, expected, |value| match value.as_str() {
            Some(text) => parse(text),
            None => Err(format!("found {}", show_value(value))),
        })
    }

    /// Takes a table of strings.
    pub(super) fn string_table(&mut self, key: &'static str) -> BTreeMap<String, String> {
        const EXPECTED: &str = "a table of strings such as { app = \"web\" }";
        let mut out = BTreeMap::new();
        let Some(item) = self.take(key) else {
            return out;
        };
        let Some(table) = item.as_table_like() else {
            self.error(key, format!("found {}", show(item)), EXPECTED);
            return out;
        };
        for (name, value) in table.iter() {
            match value.as_str() {
                Some(text) => {
                    out.insert(name.to_owned(), text.to_owned());
                }
                None => {
                    let key = join(&join(&self.place.key, key), name);
                    let place = Place::new(key, value.span());
                    self.out.error(&place, format!("found {}", show(value)), "a string");
                }
            }
        }
        out
    }

    /// Takes a table and reads it; an absent table reads as an empty one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a, '_>) -> T) -> T {
        let item = self.take(key);
        let table = item.and_then(Item::as_table_like);
        let place = self.place_of(key);
        if let (Some(item), None) = (item, table) {
            self.out.error(&place, format!("found {}", show(item)), format!("a table [{key}]"));
        }
        let mut section = Section::new(table, place, self.out);
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Takes an array of tables and reads each; those that `read` finds wanting are left out.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'a, '_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(item) = self.take(key) else {
            return Vec::new();
        };
        let tables: Option<Vec<Spanned<'a>>> = match item {
            Item::ArrayOfTables(tables) => {
                Some(tables.iter().map(|table| (table as &dyn TableLike, table.span())).collect())
            }
            Item::Value(Value::Array(array)) => array
                .iter()
                .map(|value| {
                    let table = value.as_inline_table()?;
                    Some((table as &dyn TableLike, table.span()))
                })
                .collect(),
            _ => None,
        };
        let Some(tables) = tables else {
            self.error(key, format!("found {}", show(item)), format!("tables [[{key}]]"));
            return Vec::new();
        };
        let mut out = Vec::with_capacity(tables.len());
        for (index, (table, span)) in tables.into_iter().enumerate() {
            let key = format!("{}[{index}]", join(&self.place.key, key));
            let mut section = Section::new(Some(table), Place::new(key, span), self.out);
            out.extend(read(&mut section));
            section.finish();
        }
        out
    }

    /// Takes over every key that is left, unread: for tables that are refused as a whole.
    pub(super) fn skip_rest(&mut self) {
        self.table = None;
    }

    /// Ends the walk: keys that nobody took are errors.
    pub(super) fn finish(self) {
        let Some(table) = self.table else {
            return;
        };
        for (name, _) in table.iter() {
            if self.known.contains(&name) {
                continue;
            }
            let span = table.key(name).and_then(toml_edit::Key::span);
            let place = Place::new(join(&self.place.key, name), span);
            let expected = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => one_of(&self.known),
            };
            self.out.error(&place, format!("unknown key `{name}`"), expected);
        }
    }
}

/// The message for a value whose feature is not built.
pub(super) fn unsupported(key: &str, value: &str) -> String {
    format!("{key} = {value:?} is not supported by this release")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `a, b or c`.
fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// An item in few words, for a message.
fn show(item: &Item) -> String {
    match item {
        Item::None => "nothing".to_owned(),
        Item::Value(value) => show_value(value),
        Item::Table(_) => "a table".to_owned(),
        Item::ArrayOfTables(_) => "an array of tables".to_owned(),
    }
}

/// A value in few words, for a message.
pub(super) fn show_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.value()),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => number.value().to_string(),
        Value::Boolean(value) => value.value().to_string(),
        Value::Datetime(time) => time.value().to_string(),
        Value::Array(array) => format!("an array of {}", array.len()),
        Value::InlineTable(_) => "a table".to_owned(),
    }
}
