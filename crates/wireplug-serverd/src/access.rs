//! Who may use the relay: everybody, or who shows a token of the access list.

use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;
use wireplug_proto::rendezvous::AccessToken;

use crate::config::{AccessHash, RelayConfig, WeakToken};

/// The access list of the relay.
#[derive(Debug, Clone, Default)]
pub struct AccessList {
    /// `None` lets everybody in.
    allowed: Option<Vec<AccessHash>>,
}

/// Why somebody is not let onto the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token was shown.
    #[error("this relay is private: set its operator's token in the relay strategy's table of wireplug.toml")]
    NoToken,
    /// A token that is not on the list.
    #[error("this relay does not know the token: ask its operator for another one")]
    WrongToken,
}

/// Why there is no access list to be had.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read relay.tokens-file {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is no token.
    #[error("{path}:{line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What would be one.
        source: WeakToken,
    },
    /// There is a list, and nobody is on it.
    #[error("{path} has no token: write one a line, or remove relay.tokens-file to let everybody in")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl AccessList {
    /// The list of a configuration. Reads `tokens-file`: one token a line; empty lines and those that begin with
    /// `#` are passed over.
    ///
    /// # Errors
    /// [`AccessError`] names the file, and the line if it is one.
    pub fn of(config: &RelayConfig) -> Result<Self, AccessError> {
        let mut allowed = config.tokens.clone();
        if let Some(path) = &config.tokens_file {
            allowed.get_or_insert_default().extend(read(path)?);
        }
        Ok(Self { allowed })
    }

    /// Whether a token is needed at all.
    pub const fn is_private(&self) -> bool {
        self.allowed.is_some()
    }

    /// Lets somebody in, or says why not. How long this takes tells nothing of the tokens on the list.
    ///
    /// # Errors
    /// [`Denied`] says what is missing.
    pub fn admit(&self, shown: Option<&AccessToken>) -> Result<(), Denied> {
        let Some(allowed) = &self.allowed else { return Ok(()) };
        let shown = AccessHash::of(shown.ok_or(Denied::NoToken)?);
        let known = allowed
            .iter()
            .fold(subtle::Choice::from(0), |found, one| found | one.digest().ct_eq(shown.digest()));
        if bool::from(known) { Ok(()) } else { Err(Denied::WrongToken) }
    }
}

fn read(path: &Path) -> Result<Vec<AccessHash>, AccessError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AccessError::Read { path: path.to_owned(), source })?;
    let lines = text.lines().map(str::trim).enumerate();
    let tokens =
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| {
            line.parse().map_err(|source| AccessError::Line {
                path: path.to_owned(),
                line: number + 1,
                source,
            })
        });
    let tokens: Vec<AccessHash> = tokens.collect::<Result<_, _>>()?;
    if tokens.is_empty() { Err(AccessError::Empty { path: path.to_owned() }) } else { Ok(tokens) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "correct-horse-battery";
    const OTHER: &str = "staple-staple-staple";

    fn shown(text: &str) -> AccessToken {
        AccessToken::new(text.to_owned()).unwrap()
    }

    fn list(file: &str) -> Result<AccessList, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, file).unwrap();
        let tokens = Some(vec![ONE.parse().unwrap()]);
        AccessList::of(&RelayConfig { tokens, tokens_file: Some(path), ..RelayConfig::default() })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_list_everybody_is_let_in() {
        let open = AccessList::of(&RelayConfig::default()).unwrap();
        assert!(!open.is_private());
        assert_eq!((open.admit(None), open.admit(Some(&shown("x")))), (Ok(()), Ok(())));
    }

    #[test]
    fn with_a_list_only_its_tokens_open() {
        let list = list(&format!("# friends\n\n  {OTHER}  \n")).unwrap();
        assert!(list.is_private());
        for token in [ONE, OTHER] {
            assert_eq!(list.admit(Some(&shown(token))), Ok(()));
        }
        assert_eq!(list.admit(None), Err(Denied::NoToken));
        for wrong in ["x", "correct-horse-batterx", "correct-horse-batter"] {
            assert_eq!(list.admit(Some(&shown(wrong))), Err(Denied::WrongToken));
        }
        assert!(!format!("{list:?}").contains("horse"));
    }

    #[test]
    fn a_bad_file_is_told_with_its_line_and_without_what_it_says() {
        let error = list(&format!("{OTHER}\nshort\n")).unwrap_err();
        assert!(
            error.contains("tokens:2: ") && error.contains("openssl") && !error.contains("short"),
            "{error}"
        );
        assert!(list("# nobody\n").unwrap_err().contains("has no token"));
        let nowhere = RelayConfig { tokens_file: Some("/nowhere/tokens".into()), ..RelayConfig::default() };
        assert!(AccessList::of(&nowhere).unwrap_err().to_string().contains("/nowhere/tokens"));
    }
}
