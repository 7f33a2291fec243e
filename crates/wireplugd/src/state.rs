//! What is kept over restarts: the addresses at which servers last answered.
//!
//! The system's resolver may sit behind the very tunnel that is dead; then these are the way out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::config::ServerUrl;
use crate::files;

/// The most servers remembered: those of a config, and some that it had before.
const MAX_SERVERS: usize = 16;
/// The most addresses of one.
const MAX_ADDRESSES: usize = 8;
const MAX_FILE: u64 = 64 << 10;

/// The last good addresses of servers, on disk. That it cannot be written is said once and never fatal.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    known: Mutex<Known>,
    /// Held while the file is written, so that the latest is written last; tells whether it ever failed.
    failed: Mutex<bool>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// By URL; the greater `age`, the longer ago.
    servers: BTreeMap<String, Server>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Server {
    addresses: Vec<IpAddr>,
    /// How many other servers have been remembered since.
    age: u32,
}

impl State {
    /// Reads what is known from `servers.json` in [`files::state_directory`].
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("servers.json");
        let known = match files::read_bounded(&path, MAX_FILE) {
            Ok(None) => Known::default(),
            Ok(Some(text)) => serde_json::from_str(&text).unwrap_or_else(|error| {
                warn!(file = %path.display(), %error, "what was kept of servers cannot be read; starting anew");
                Known::default()
            }),
            Err(error) => {
                debug!(file = %path.display(), %error, "nothing is known of servers");
                Known::default()
            }
        };
        Self { path, known: Mutex::new(known), failed: Mutex::new(false) }
    }

    /// What is known, from the text of its file and as it would be written after one more server answered at `at`: for
    /// the fuzz target, without a file.
    ///
    /// # Errors
    /// Where it is not such a text.
    #[doc(hidden)]
    pub fn text_after(text: &str, url: &str, at: IpAddr) -> serde_json::Result<String> {
        let mut known: Known = serde_json::from_str(text)?;
        known.remember(url, at, &[]);
        serde_json::to_string_pretty(&known)
    }

    /// Where a server last answered, best first.
    pub fn addresses(&self, url: &ServerUrl) -> Vec<IpAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.servers.get(&url.to_string()).map(|server| server.addresses.clone()).unwrap_or_default()
    }

    /// Notes that a server answered at `at`, one of its addresses. Returns whether that is news, so that
    /// [`State::save`] has something to do.
    pub fn remember(&self, url: &ServerUrl, at: IpAddr, all: &[IpAddr]) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remember(&url.to_string(), at, all)
    }

    /// Writes what is known. Waits for the disk: not for the event loop.
    pub fn save(&self) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec_pretty(&*self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let written =
            text.map_err(std::io::Error::from).and_then(|text| files::write_atomically(&self.path, &text));
        if let Err(error) = written
            && !std::mem::replace(&mut *failed, true)
        {
            warn!(
                file = %self.path.display(), %error,
                "cannot keep the servers' addresses; after a restart they must be resolved before anything else"
            );
        }
    }
}

impl Known {
    /// Returns whether there is something new to write.
    fn remember(&mut self, url: &str, at: IpAddr, all: &[IpAddr]) -> bool {
        let mut addresses = vec![at];
        for ip in all {
            if !addresses.contains(ip) && addresses.len() < MAX_ADDRESSES {
                addresses.push(*ip);
            }
        }
        if self.servers.get(url).is_some_and(|known| known.addresses == addresses) {
            return false;
        }
        for server in self.servers.values_mut() {
            server.age = server.age.saturating_add(1);
        }
        self.servers.insert(url.to_owned(), Server { addresses, age: 0 });
        while self.servers.len() > MAX_SERVERS {
            let oldest = self.servers.iter().max_by_key(|(_, server)| server.age).map(|(url, _)| url.clone());
            oldest.map(|url| self.servers.remove(&url));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    fn url(number: usize) -> ServerUrl {
        format!("wss://s{number}.example").parse().unwrap()
    }

    #[test]
    fn addresses_survive_a_restart_the_good_one_first() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(directory.path());
        assert!(state.remember(&url(1), ip(2), &[ip(1), ip(2), ip(3)]));
        state.save();
        assert_eq!(State::open(directory.path()).addresses(&url(1)), [ip(2), ip(1), ip(3)]);
        assert!(State::open(directory.path()).addresses(&url(2)).is_empty());
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let mut known = Known::default();
        let many: Vec<_> = (0..50).map(ip).collect();
        for number in 0..=MAX_SERVERS {
            known.remember(&url(number).to_string(), ip(200), &many);
        }
        assert_eq!(known.servers.len(), MAX_SERVERS);
        assert!(!known.servers.contains_key(&url(0).to_string()));
        assert!(known.servers.values().all(|server| server.addresses.len() == MAX_ADDRESSES));
    }

    #[test]
    fn the_same_again_is_not_written() {
        let mut known = Known::default();
        assert!(known.remember("a", ip(1), &[ip(1)]));
        assert!(!known.remember("a", ip(1), &[ip(1)]));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_not_fatal() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let state = State::open(&file);
        state.remember(&url(1), ip(1), &[]);
        state.save();
        assert_eq!(state.addresses(&url(1)), [ip(1)]);
    }
}
