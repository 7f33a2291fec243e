//! Where the product's programs are.

use std::path::{Path, PathBuf};

use crate::error::{LabError, Result};

/// The directory of the product's binaries. The lab runs them and knows nothing else of the product.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
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
        Ok(Self { dir })
    }

    /// In a directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
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
