//! What strategies keep for their next run: one small file each, under the interface's name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wireplug_core::StrategyName;
use wireplug_strategy::{MAX_MEMORY, MemoryError};

use crate::files;
use crate::interface::InterfaceName;

/// The files of one interface, in `strategies/INTERFACE` of [`files::state_directory`].
#[derive(Debug, Clone)]
pub struct Memory {
    directory: PathBuf,
    /// One at a time: what was said last is written last.
    writing: Arc<Mutex<()>>,
}

impl Memory {
    /// The files of this interface, under this state directory.
    pub fn new(state: &Path, interface: &InterfaceName) -> Self {
        let directory = state.join("strategies").join(interface.as_str());
        Self { directory, writing: Arc::default() }
    }

    /// Keeps bytes for a strategy instead of those before; none at all remove them. Waits for the disk.
    ///
    /// # Errors
    /// [`MemoryError`]: too many bytes, or what the disk said.
    pub fn keep(&self, strategy: &StrategyName, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.len() > MAX_MEMORY {
            return Err(MemoryError::TooLarge(bytes.len()));
        }
        let path = self.directory.join(strategy.as_str());
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let done = if bytes.is_empty() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => {
                    // The directory goes with its last file; others may have one there.
                    let _ = fs::remove_dir(&self.directory);
                    other
                }
            }
        } else {
            files::write_atomically(&path, bytes)
        };
        done.map_err(|error| MemoryError::NotKept(format!("{}: {error}", path.display())))
    }

    /// What was kept last; nothing where that cannot be read. Waits for the disk.
    pub fn read(&self, strategy: &StrategyName) -> Option<Vec<u8>> {
        let path = self.directory.join(strategy.as_str());
        files::read_bytes_bounded(&path, MAX_MEMORY as u64).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_and_strategy_has_its_own() {
        let state = tempfile::tempdir().unwrap();
        let memory = |name: &str| Memory::new(state.path(), &name.parse().unwrap());
        let (pcp, upnp) = ("pcp".parse().unwrap(), "upnp-igd".parse().unwrap());
        memory("wg0").keep(&pcp, b"one").unwrap();
        memory("wg0").keep(&pcp, b"\xfftwo").unwrap();
        assert_eq!(memory("wg0").read(&pcp).unwrap(), b"\xfftwo");
        assert_eq!((memory("wg0").read(&upnp), memory("wg1").read(&pcp)), (None, None));
        for _ in 0..2 {
            memory("wg0").keep(&pcp, b"").unwrap();
            assert_eq!(memory("wg0").read(&pcp), None);
            assert!(!state.path().join("strategies/wg0").exists());
        }
    }

    #[test]
    fn it_is_bounded_and_a_bad_disk_is_told() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::new(state.path(), &"wg0".parse().unwrap());
        let name = "pcp".parse().unwrap();
        assert!(memory.keep(&name, &vec![0; MAX_MEMORY]).is_ok());
        let larger = memory.keep(&name, &vec![0; MAX_MEMORY + 1]);
        assert_eq!(larger, Err(MemoryError::TooLarge(MAX_MEMORY + 1)));
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        let memory = Memory::new(&file, &"wg0".parse().unwrap());
        assert!(matches!(memory.keep(&name, b"x"), Err(MemoryError::NotKept(_))));
    }
}
