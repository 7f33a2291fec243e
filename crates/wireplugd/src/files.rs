//! Small files that survive a crash: whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Only root may read what wireplug writes: it tells who is connected with whom.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Replaces a file by one with these contents. Whoever opens it sees the old or the new, never a part.
pub(crate) fn write_atomically(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    // Of this process alone: two daemons share the state directory.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
        file.write_all(contents)?;
        file.sync_data()?;
        std::fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// A file's text, `None` where there is none; at most `limit` bytes, so that a mistaken path costs nothing.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<String>> {
    let Some(bytes) = read_bytes_bounded(path, limit)? else { return Ok(None) };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// The same for a file that is no text.
pub(crate) fn read_bytes_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Makes a directory and those above it, for root only; one that exists stays as it is.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Where this network namespace's sockets and records are: `/run/wireplug/INODE`, where the inode is the
/// namespace's number as `ls -L -i /proc/self/ns/net` shows it. `WIREPLUG_RUN_DIR` stands for
/// `/run/wireplug` in tests.
///
/// # Errors
/// Of the system, where /proc is not mounted.
pub fn run_directory() -> io::Result<PathBuf> {
    let base = std::env::var_os("WIREPLUG_RUN_DIR").unwrap_or_else(|| "/run/wireplug".into());
    // Of the thread, as namespaces are; where the kernel is older than 3.17, of the process.
    let namespace =
        std::fs::metadata("/proc/thread-self/ns/net").or_else(|_| std::fs::metadata("/proc/self/ns/net"))?;
    Ok(PathBuf::from(base).join(namespace.ino().to_string()))
}

/// What must survive a restart of the machine: `/var/lib/wireplug`; `WIREPLUG_STATE_DIR` stands for it in
/// tests.
pub fn state_directory() -> PathBuf {
    std::env::var_os("WIREPLUG_STATE_DIR").unwrap_or_else(|| "/var/lib/wireplug".into()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/file");
        assert_eq!(read_bounded(&path, 10).unwrap(), None);
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().as_deref(), Some("two"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_atomically(&path, &[b'x'; 11]).unwrap();
        assert!(read_bounded(&path, 10).is_err());
    }
}
