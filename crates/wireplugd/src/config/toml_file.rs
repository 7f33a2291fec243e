//! Reading TOML by hand, so that every complaint carries its line.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// A config file's name and text: what turns a place into `FILE:LINE`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

/// A value with the name of its key, as complaints call it.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) source: Source<'a>,
    pub(super) key: &'a str,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// A table and where it begins.
#[derive(Clone)]
pub(super) struct Section<'a> {
    source: Source<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Source<'a> {
    /// An error at a place in the text, given in bytes.
    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> ConfigError {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        ConfigError::At { file: self.file.to_owned(), line, message: message.into() }
    }

    /// The whole file as a section.
    pub(super) fn section(self, table: &'a DeTable<'a>) -> Section<'a> {
        Section { source: self, table, span: 0..0 }
    }
}

impl<'a> Item<'a> {
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        self.source.error(self.value.span().start, message)
    }

    fn wrong_type(&self, expected: &str) -> ConfigError {
        self.error(format!("{} is {}; expected {expected}", self.key, describe(self.value.get_ref())))
    }

    pub(super) fn string(&self, expected: &str) -> Result<&'a str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(expected)),
        }
    }

    pub(super) fn section(&self) -> Result<Section<'a>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Section { source: self.source, table, span: self.value.span() }),
            _ => Err(self.wrong_type("a table")),
        }
    }

    /// The elements of an array, each named as the array's key.
    pub(super) fn elements(&self, expected: &str) -> Result<Vec<Item<'a>>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Array(array) => {
                Ok(array.iter().map(|value| Item { source: self.source, key: self.key, value }).collect())
            }
            _ => Err(self.wrong_type(expected)),
        }
    }
}

impl<'a> Section<'a> {
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let (key, value) = self.table.get_key_value(key)?;
        Some(Item { source: self.source, key: key.get_ref(), value })
    }

    /// All entries, each with the place of its key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, Item<'a>)> + use<'a> {
        let source = self.source;
        self.table
            .iter()
            .map(move |(key, value)| (key.span().start, Item { source, key: key.get_ref(), value }))
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        self.source.error(self.span.start, message)
    }

    /// An error at one of the section's keys, or at its beginning where the key is not known.
    pub(super) fn error_at(&self, key: Option<&str>, message: impl Into<String>) -> ConfigError {
        let at = key
            .and_then(|key| self.table.get_key_value(key))
            .map_or(self.span.start, |(k, _)| k.span().start);
        self.source.error(at, message)
    }

    pub(super) fn refuse_unknown_keys(&self, place: &str, accepted: &[&str]) -> Result<(), ConfigError> {
        match self.entries().find(|(_, item)| !accepted.contains(&item.key)) {
            None => Ok(()),
            Some((at, item)) => Err(self
                .source
                .error(at, format!("unknown key {:?} {place}; accepted: {}", item.key, accepted.join(", ")))),
        }
    }

    /// The section as an ordinary table, for those who read it themselves.
    pub(super) fn to_table(&self) -> Result<toml::Table, ConfigError> {
        self.entries().map(|(_, item)| Ok((item.key.to_owned(), to_value(&item)?))).collect()
    }
}

/// Goes through the text again for one value: `toml` converts only whole documents to plain values.
fn to_value(item: &Item<'_>) -> Result<toml::Value, ConfigError> {
    let out_of_range = || item.error(format!("{} is a number out of range", item.key));
    Ok(match item.value.get_ref() {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => toml::Value::Integer(
            i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| out_of_range())?,
        ),
        DeValue::Float(number) => toml::Value::Float(number.as_str().parse().map_err(|_| out_of_range())?),
        DeValue::Boolean(value) => toml::Value::Boolean(*value),
        DeValue::Datetime(value) => toml::Value::Datetime(*value),
        DeValue::Array(_) => {
            toml::Value::Array(item.elements("a list")?.iter().map(to_value).collect::<Result<_, _>>()?)
        }
        DeValue::Table(_) => toml::Value::Table(item.section()?.to_table()?),
    })
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
