//! Directories whose files change, as the kernel tells it (inotify). Nothing is polled.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// Directories that are watched.
#[derive(Debug)]
pub struct Directories {
    inotify: AsyncFd<Descriptor>,
    watched: Vec<WatchDescriptor>,
}

/// Something that happened in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryEvent {
    /// A file, which is most likely still being written, or a link appeared under this name.
    Created(OsString),
    /// What is under this name is another one now, is written to the end, or is gone.
    Changed(OsString),
    /// The directory itself is another or gone, or events were lost.
    Unknown,
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Directories {
    /// Watches none yet. Panics outside of a tokio runtime, as tokio's own sockets do.
    ///
    /// # Errors
    /// Of the system, such as where a user has too many such watches.
    pub fn new() -> io::Result<Self> {
        let inotify = Descriptor(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?);
        // SAFETY: an `Inotify` owns one open descriptor from its making to its drop, has no way to exchange it, and
        // `as_raw_fd` always returns it. It is moved into the `AsyncFd`, of which nobody here calls `get_mut` or
        // `into_inner`, so nothing can close the descriptor or put another in its place before.
        let inotify = unsafe { AsyncFd::register(inotify) }?;
        Ok(Self { inotify, watched: Vec::new() })
    }

    /// Watches these directories and no others. One that cannot be watched is left out.
    pub fn follow(&mut self, directories: &[PathBuf]) {
        let inotify = &self.inotify.get_ref().0;
        let watch = |directory: &PathBuf| inotify.add_watch(directory, flags()).ok();
        let watched: Vec<_> = directories.iter().filter_map(watch).collect();
        for old in self.watched.iter().filter(|old| !watched.contains(old)) {
            // One whose directory is gone has gone with it.
            let _ = inotify.rm_watch(*old);
        }
        self.watched = watched;
    }

    /// Waits for the next things that happen. Cancel-safe.
    ///
    /// # Errors
    /// Of the system; then no more is told.
    pub async fn next(&mut self) -> io::Result<Vec<DirectoryEvent>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            // Otherwise it was not ready after all.
            if let Ok(events) = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                return Ok(events?.into_iter().map(read).collect());
            }
        }
    }
}

fn flags() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

fn read(event: InotifyEvent) -> DirectoryEvent {
    let unfinished =
        event.mask.contains(AddWatchFlags::IN_CREATE) && !event.mask.contains(AddWatchFlags::IN_ISDIR);
    match event.name {
        Some(name) if unfinished => DirectoryEvent::Created(name),
        Some(name) => DirectoryEvent::Changed(name),
        None => DirectoryEvent::Unknown,
    }
}
