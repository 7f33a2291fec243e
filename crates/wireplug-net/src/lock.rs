//! One daemon per interface: a lock file per network namespace and interface.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Holds an interface until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct InterfaceLock {
    // The file stays where it is: removing it would let two processes lock two files of one name.
    _file: Flock<File>,
}

/// Why an interface could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{interface} is already looked after by {}: stop that one first", holder(*.pid))]
    Held {
        /// Which interface.
        interface: String,
        /// The process that has it, if it has said so yet.
        pid: Option<u32>,
    },
    /// The lock file could not be used.
    #[error("cannot lock {interface} by {}: {source}", .path.display())]
    Io {
        /// Which interface.
        interface: String,
        /// The lock file or its directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl InterfaceLock {
    /// Takes the interface for this process. `dir` is made if it is missing; interfaces of the same name in
    /// other network namespaces are others.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's process id, [`LockError::Io`] else.
    pub fn acquire(dir: &Path, interface: &str) -> Result<Self, LockError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { interface: interface.to_owned(), path, source }
        };
        let namespace = Path::new("/proc/thread-self/ns/net");
        let inode = fs::metadata(namespace).map_err(failed(namespace))?.ino();
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let path = dir.join(format!("{inode}-{interface}.lock"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(failed(&path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                write_pid(&mut file).map_err(failed(&path))?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::Error::EWOULDBLOCK)) => {
                Err(LockError::Held { interface: interface.to_owned(), pid: read_pid(&mut file) })
            }
            Err((_, errno)) => Err(failed(&path)(errno.into())),
        }
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "a process that is just starting".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_with_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("made");
        let first = InterfaceLock::acquire(&below, "wg0").unwrap();
        let error = InterfaceLock::acquire(&below, "wg0").unwrap_err();
        assert!(
            matches!(error, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        let _other = InterfaceLock::acquire(&below, "wg1").unwrap();
        drop(first);
        InterfaceLock::acquire(&below, "wg0").unwrap();
    }
}
