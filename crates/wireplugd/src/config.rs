//! The config: `/etc/wireplug/wireplug.toml`, all of it optional.
//!
//! It is read by hand from the spanned tables of `toml`, because every complaint must name file, line and
//! what is accepted, also in the tables that strategies read themselves.

mod change;
mod pin;
mod read;
mod server;
mod toml_file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wireplug_core::{PublicKey, StrategyName};
use wireplug_strategy::Registration;

pub use change::{Change, Difference, InterfaceChange, ServerChange};
pub use pin::{BadPin, Pin};
pub use server::{BadServer, ServerConfig, ServerUrl};

use crate::interface::InterfaceName;

/// Where the config is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/wireplug/wireplug.toml";

/// Everything that a person configured.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The rendezvous servers, in the order of the file. Without one only configured endpoints can be tried.
    pub servers: Vec<ServerConfig>,
    /// What was said of interfaces; [`Config::interface`] also answers for those not mentioned.
    pub interfaces: BTreeMap<InterfaceName, InterfaceConfig>,
}

/// One `[interface.NAME]`.
#[derive(Debug, Clone)]
pub struct InterfaceConfig {
    /// What is run, best first, each with its own table, which its `build` has accepted.
    pub strategies: Vec<(&'static Registration, toml::Table)>,
    /// What was said of peers. A peer that is not here has the interface's strategies and no endpoint.
    pub peers: BTreeMap<PublicKey, PeerConfig>,
}

/// One `[interface.NAME.peer."KEY="]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// What people call it.
    pub name: Option<String>,
    /// Which of the interface's strategies are for it, best first; `None` is all of them in their order.
    pub strategies: Option<Vec<StrategyName>>,
    /// `host:port`, where host is a name or an address, as `direct` resolves it.
    pub endpoint: Option<String>,
}

/// Why the config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {}: {why}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The file says something that has no meaning.
    #[error("{file}:{line}: {message}")]
    At {
        /// Which file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong, and what is accepted.
        message: String,
    },
}

impl Config {
    /// Reads the file that was asked for, or else the one at [`DEFAULT_PATH`], which may be missing.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line and what is accepted.
    pub fn load(asked_for: Option<&Path>) -> Result<Self, ConfigError> {
        let path = asked_for.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && asked_for.is_none() => {
                Ok(Self::default())
            }
            Err(error) => Err(ConfigError::Read { path: path.to_owned(), why: error.to_string() }),
        }
    }

    /// Reads a config's text; `file` is its name in complaints.
    ///
    /// # Errors
    /// [`ConfigError::At`] names the line and what is accepted.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        read::config(text, file)
    }

    /// What holds for an interface, also for one that the file does not mention.
    pub fn interface(&self, name: &InterfaceName) -> InterfaceConfig {
        self.interfaces.get(name).cloned().unwrap_or_default()
    }
}

impl Default for InterfaceConfig {
    /// All strategies linked into this binary in the order of their tiers, without options.
    fn default() -> Self {
        let strategies = wireplug_strategy::registered();
        Self {
            strategies: strategies.into_iter().map(|one| (one, toml::Table::new())).collect(),
            peers: BTreeMap::new(),
        }
    }
}
