//! Notices that the config file is another one. Editors write a new file and rename it, so it is its directory that is
//! watched; nothing is polled.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::info;
use wireplug_net::{Directories, DirectoryEvent};

/// How long nothing more must happen to the file before it is read: saving is several steps, and some editors write
/// twice. Longer would be felt by whoever saves and looks.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// The watch of one file.
pub(super) struct FileWatch {
    path: PathBuf,
    directories: Option<Directories>,
    /// The names in the watched directories that matter.
    names: BTreeSet<OsString>,
    seen: Option<Stamp>,
    due: Option<Instant>,
}

/// What tells one file, and one content of it, from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches a file, which may be missing, as may its directory. Must be called within a tokio runtime.
    pub(super) fn new(path: &Path) -> Self {
        let directories = Directories::new()
            .map_err(
                |error| info!(%error, "the config file is not watched: use `wireplug reload` after a change"),
            )
            .ok();
        let (names, seen) = (BTreeSet::new(), Stamp::of(path));
        let mut watch = Self { path: path.to_owned(), directories, names, seen, due: None };
        watch.aim();
        watch
    }

    /// The file is about to be read: what was done to it before is known.
    pub(super) fn read(&mut self) {
        self.seen = Stamp::of(&self.path);
    }

    /// Waits until the file is there and is another than the one that was read. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let due = self.due;
            let Some(directories) = &mut self.directories else { return std::future::pending().await };
            tokio::select! {
                events = directories.next() => match events {
                    Ok(events) => {
                        if events.iter().any(|event| self.concerns(event)) {
                            self.due = Some(Instant::now() + DEBOUNCE);
                        }
                    }
                    Err(error) => {
                        info!(%error, "the config file is watched no more: use `wireplug reload` after a change");
                        self.directories = None;
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.due = None;
                    // Directories may have come and gone, and links may lead elsewhere.
                    self.aim();
                    if self.is_another() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether an event may mean that the file is another. One that is just being written is not yet; a link is never
    /// written.
    fn concerns(&self, event: &DirectoryEvent) -> bool {
        match event {
            DirectoryEvent::Created(name) => self.names.contains(name) && self.path.is_symlink(),
            DirectoryEvent::Changed(name) => self.names.contains(name),
            DirectoryEvent::Unknown => true,
        }
    }

    fn is_another(&mut self) -> bool {
        match (Stamp::of(&self.path), &self.seen) {
            (None, None) => false,
            (None, Some(_)) => {
                info!(file = %self.path.display(), "the config file is gone: what it said stays in force");
                self.seen = None;
                false
            }
            (stamp, seen) => {
                let another = stamp != *seen;
                self.seen = stamp;
                another
            }
        }
    }

    /// Watches the directory of the file, or the nearest that there is; behind links the true file's as well.
    fn aim(&mut self) {
        let Some(directories) = &mut self.directories else { return };
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let real = path.canonicalize().ok().filter(|real| *real != path);
        self.names.clear();
        let mut watched = Vec::new();
        for file in [Some(path), real].into_iter().flatten() {
            let mut below = file.as_path();
            while let (Some(directory), Some(name)) = (below.parent(), below.file_name()) {
                if directory.is_dir() {
                    self.names.insert(name.to_owned());
                    watched.push(directory.to_owned());
                    break;
                }
                below = directory;
            }
        }
        directories.follow(&watched);
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    /// Far more than the debounce: only what never comes is waited for so long.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn changes(watch: &mut FileWatch) {
        timeout(PATIENCE, watch.changed()).await.expect("the change is noticed");
    }

    async fn is_calm(watch: &mut FileWatch) {
        assert!(timeout(3 * DEBOUNCE, watch.changed()).await.is_err(), "nothing that matters has changed");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_or_written_is_noticed_once() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("w.toml"), directory.path().join(".w.toml.swp"));
        fs::write(&path, "1").unwrap();
        let mut watch = FileWatch::new(&path);
        is_calm(&mut watch).await;
        fs::write(&new, "2").unwrap();
        fs::rename(&new, &path).unwrap();
        changes(&mut watch).await;
        is_calm(&mut watch).await;
        fs::write(&path, "33").unwrap();
        changes(&mut watch).await;
        fs::write(directory.path().join("other"), "").unwrap();
        is_calm(&mut watch).await;
    }

    #[tokio::test]
    async fn one_that_was_read_meanwhile_or_is_gone_is_no_news() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.toml");
        fs::write(&path, "1").unwrap();
        let mut watch = FileWatch::new(&path);
        fs::write(&path, "22").unwrap();
        watch.read();
        is_calm(&mut watch).await;
        fs::remove_file(&path).unwrap();
        is_calm(&mut watch).await;
        fs::write(&path, "333").unwrap();
        changes(&mut watch).await;
    }

    #[tokio::test]
    async fn a_directory_that_comes_later_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/wireplug/w.toml");
        let mut watch = FileWatch::new(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        is_calm(&mut watch).await;
        fs::write(&path, "1").unwrap();
        changes(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        for name in ["one", "two"] {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("w.toml"), name).unwrap();
        }
        let path = place("w.toml");
        std::os::unix::fs::symlink(place("one/w.toml"), &path).unwrap();
        let mut watch = FileWatch::new(&path);
        fs::write(place("one/w.toml"), "other").unwrap();
        changes(&mut watch).await;
        std::os::unix::fs::symlink(place("two/w.toml"), place("new")).unwrap();
        fs::rename(place("new"), &path).unwrap();
        changes(&mut watch).await;
        fs::write(place("two/w.toml"), "again").unwrap();
        changes(&mut watch).await;
    }
}
