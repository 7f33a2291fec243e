//! The files of docs/ that commands write.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cargo;

/// What a file of docs/ says now.
pub(crate) fn read(name: &str) -> Result<String> {
    let path = path(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file of docs/ anew.
pub(crate) fn write(name: &str, text: &str) -> Result<()> {
    let path = path(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("written to docs/{name}");
    Ok(())
}

fn path(name: &str) -> PathBuf {
    cargo::root().join("docs").join(name)
}
