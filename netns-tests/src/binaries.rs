//! Where the product's programs are, and what they log.

use std::path::{Path, PathBuf};

use crate::error::{LabError, Result};

/// The directory of the product's binaries. The lab runs them and knows nothing else of the product.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
    log: String,
}

/// What the programs log for the digest of a failed test.
const LOG_FILTER: &str = "info,wireplug=debug,wireplugd=debug,wireplug_core=debug,wireplug_net=debug,\
    wireplug_strategy=debug,wireplug_direct=debug,wireplug_hole_punch=debug,wireplug_lan_mdns=debug,wireplug_relay=debug,wireplug_serverd=debug";

impl Binaries {
    /// In the directory that `WIREPLUG_LAB_BINARIES` names, else beside the running executable.
    ///
    /// # Errors
    /// When the running executable's path is unknown.
    pub fn find() -> Result<Self> {
        match std::env::var_os("WIREPLUG_LAB_BINARIES") {
            Some(dir) => Ok(Self::in_dir(dir)),
            None => Self::beside_current_exe(),
        }
    }

    /// Beside the running executable, as cargo lays them out (`target/PROFILE/`).
    ///
    /// # Errors
    /// When the running executable's path is unknown.
    pub fn beside_current_exe() -> Result<Self> {
        let exe = std::env::current_exe().map_err(LabError::io("find the running executable"))?;
        let mut dir = exe.parent().unwrap_or(Path::new(".")).to_owned();
        if dir.ends_with("deps") {
            dir.pop();
        }
        Ok(Self::in_dir(dir))
    }

    /// In a directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), log: LOG_FILTER.to_owned() }
    }

    /// Lets them log something else than tests need: a filter such as `info`.
    #[must_use]
    pub fn logging(mut self, filter: impl Into<String>) -> Self {
        self.log = filter.into();
        self
    }

    /// The environment in which they run.
    pub(crate) fn environment(&self) -> [(&str, &str); 1] {
        [("WIREPLUG_LOG", &self.log)]
    }

    /// The path of one binary.
    ///
    /// # Errors
    /// When it was not built.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(LabError::Binary { name: name.to_owned(), dir: self.dir.clone() })
    }
}
