//! A strategy's own table of the config.

mod duration;

use serde::de::DeserializeOwned;

pub use duration::{BadDuration, duration, duration_within, parse_duration};

/// One key of a strategy's table, for people and for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionDoc {
    /// The key.
    pub key: &'static str,
    /// What may stand there, with its unit.
    pub accepts: &'static str,
    /// What holds where it is left out.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether its value must not be shown: a token, a password.
    pub secret: bool,
}

/// What is wrong in a strategy's table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// The offending key, where it is known: the daemon adds file and line to it.
    pub key: Option<String>,
    /// What is wrong, and what is accepted.
    pub message: String,
}

/// Reads a table into a strategy's own type. An unknown key is refused by its name, with the known ones.
/// The type must have a default for every key (`#[serde(default)]`), as every option has.
///
/// # Errors
/// [`ConfigError`] names the key and what it accepts.
pub fn parse<T: DeserializeOwned>(table: &toml::Table, options: &[OptionDoc]) -> Result<T, ConfigError> {
    if let Some(key) = table.keys().find(|key| !options.iter().any(|option| option.key == **key)) {
        let known: Vec<_> = options.iter().map(|option| option.key).collect();
        let known = if known.is_empty() {
            "it has no options".to_owned()
        } else {
            format!("it knows {}", known.join(", "))
        };
        return Err(ConfigError { key: Some(key.clone()), message: format!("unknown key {key:?}: {known}") });
    }
    table.clone().try_into().map_err(|error: toml::de::Error| {
        let message = error.message().to_owned();
        let key = options.iter().find(|option| one_is_wrong::<T>(table, option.key));
        match key {
            Some(option) => ConfigError {
                key: Some(option.key.to_owned()),
                message: format!("{}: {message}; it accepts {}", option.key, option.accepts),
            },
            None => ConfigError { key: None, message },
        }
    })
}

/// Whether this key alone already makes the table unreadable: how the offending one is found,
/// since a table that has lost its text has no lines.
fn one_is_wrong<T: DeserializeOwned>(table: &toml::Table, key: &str) -> bool {
    let Some(value) = table.get(key) else { return false };
    let alone = toml::Table::from_iter([(key.to_owned(), value.clone())]);
    alone.try_into::<T>().is_err()
}
