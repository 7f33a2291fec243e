//! The two config files.

use std::path::Path;

use wireplug_serverd::config as serverd;
use wireplugd::config::{Config, ConfigError};

pub(crate) fn daemon(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::parse(&text, "wireplug.toml") {
        Ok(config) => {
            for server in &config.servers {
                assert_eq!(server.url.to_string().parse().as_ref(), Ok(&server.url));
                assert!(server.pin.is_none_or(|pin| pin.to_string().parse() == Ok(pin)));
            }
            for name in config.interfaces.keys() {
                assert!(!config.interface(name).strategies.iter().any(|(one, _)| one.name.is_empty()));
            }
        }
        Err(ConfigError::At { line, message, .. }) => {
            assert!((1..=lines(&text)).contains(&line), "line {line} of {}: {message}", lines(&text));
            assert!(!message.is_empty());
        }
        Err(error @ ConfigError::Read { .. }) => panic!("nothing was to be read: {error}"),
    }
}

pub(crate) fn server(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match serverd::Config::parse(Path::new("serverd.toml"), &text) {
        Ok(config) => assert!((1..=8).contains(&config.udp.len())),
        Err(serverd::ConfigError::Parse { line, column, message, .. }) => {
            assert!((1..=lines(&text)).contains(&line), "line {line} of {}: {message}", lines(&text));
            let length = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
            assert!((1..=length + 1).contains(&column), "column {column} of {length}: {message}");
        }
        Err(serverd::ConfigError::Conflict { message, .. }) => assert!(!message.is_empty()),
        Err(error) => panic!("nothing was to be read: {error}"),
    }
}

/// What an editor shows: one line more than there are line breaks.
fn lines(text: &str) -> usize {
    text.matches('\n').count() + 1
}
