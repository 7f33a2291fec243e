//! Where the config comes from: a file, and what the command line says in its place, which stays in force when the file
//! is read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, DEFAULT_PATH, ServerConfig};
use crate::interface::InterfaceName;

/// The config file and the command line.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The file that was asked for; without one that at [`DEFAULT_PATH`], which may be missing.
    pub file: Option<PathBuf>,
    /// The only server, in place of those of the file.
    pub server: Option<ServerConfig>,
    /// The only interface, whatever the file names.
    pub only: Option<InterfaceName>,
}

/// Why the config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to look after.
    #[error("{} names no interface: add [interface.NAME], or run `wireplug NAME`", path.display())]
    NoInterface {
        /// The file.
        path: PathBuf,
    },
}

impl Source {
    /// The file.
    pub fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    /// Reads the config as it is now. It names the interfaces that are to be looked after, and no others.
    ///
    /// # Errors
    /// [`SourceError`], with the line where it is the file's.
    pub fn load(&self) -> Result<Config, SourceError> {
        let mut config = Config::load(self.file.as_deref())?;
        if let Some(server) = &self.server {
            config.servers = vec![server.clone()];
        }
        if let Some(only) = &self.only {
            config.interfaces = BTreeMap::from([(only.clone(), config.interface(only))]);
        }
        if config.interfaces.is_empty() {
            return Err(SourceError::NoInterface { path: self.path().to_owned() });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_stays_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("w.toml");
        std::fs::write(&file, "[[server]]\nurl = \"wss://a.example\"\n[interface.wg0]\n[interface.wg1]\n")
            .unwrap();
        let mut source = Source { file: Some(file.clone()), ..Source::default() };
        let names = |config: &Config| config.interfaces.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&source.load().unwrap()), ["wg0", "wg1"]);

        source.only = Some("wg7".parse().unwrap());
        source.server = Some(ServerConfig::parse("wss://b.example", None).unwrap());
        let config = source.load().unwrap();
        assert_eq!(names(&config), ["wg7"]);
        assert_eq!(config.servers[0].url.to_string(), "wss://b.example/");

        std::fs::write(&file, "").unwrap();
        assert_eq!(names(&source.load().unwrap()), ["wg7"]);
        source.only = None;
        assert!(source.load().unwrap_err().to_string().contains("names no interface"));
    }
}
