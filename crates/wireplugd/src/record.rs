//! Which keepalives are ours.
//!
//! wireplug sets a keepalive of its own where a mapping must be held, and takes it back when it ends. What
//! it set is written down *before* it is set, so that after `kill -9` the next run knows it from the
//! person's and gives back what was there.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wireplug_core::PublicKey;

use crate::files;
use crate::interface::InterfaceName;

/// The largest record that is read, in bytes: some ten thousand peers.
const MAX_FILE: u64 = 1 << 20;

/// The keepalives that are ours, of one device. Pure: the caller reads the device and writes the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepalives {
    entries: BTreeMap<PublicKey, Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The person's value, in seconds; `None` is off.
    before: Option<u16>,
    /// What we set.
    ours: u16,
    /// What was ours until then: while the device may have the one or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    earlier: Option<u16>,
}

impl Keepalives {
    /// Notes that we are about to set `ours` seconds for a peer whose keepalive is `current`. A value that
    /// is ours already does not become the person's. Returns whether the record changed: write it first.
    pub fn take(&mut self, peer: PublicKey, current: Option<u16>, ours: u16) -> bool {
        let known = self.entries.get(&peer).filter(|_| self.is_ours(&peer, current));
        let before = known.map_or(current, |entry| entry.before);
        let earlier = current.filter(|seconds| known.is_some() && *seconds != ours);
        let entry = Entry { before, ours, earlier };
        self.entries.insert(peer, entry) != Some(entry)
    }

    /// Notes that the device has what was taken last: what was ours before that is not, if anybody sets it now. Returns
    /// whether the record changed.
    pub fn settle(&mut self, peer: &PublicKey) -> bool {
        self.entries.get_mut(peer).is_some_and(|entry| entry.earlier.take().is_some())
    }

    /// Whether a peer's keepalive, as the device has it now, is the one that we set.
    pub fn is_ours(&self, peer: &PublicKey, current: Option<u16>) -> bool {
        let is = |entry: &Entry| current == Some(entry.ours) || current == entry.earlier;
        current.is_some() && self.entries.get(peer).is_some_and(is)
    }

    /// Takes a peer out of the record and says what to set on the device, in seconds, 0 being off; `None` if the
    /// keepalive is not ours (any more). Set it first, then write the record.
    pub fn give_back(&mut self, peer: &PublicKey, current: Option<u16>) -> Option<u16> {
        let ours = self.is_ours(peer, current);
        let entry = self.entries.remove(peer)?;
        ours.then_some(entry.before.unwrap_or(0))
    }

    /// A peer is gone, or was made anew: whatever keepalive it has now is not the one that we set.
    pub fn forget(&mut self, peer: &PublicKey) -> bool {
        self.entries.remove(peer).is_some()
    }

    /// The peers in the record.
    pub fn peers(&self) -> impl Iterator<Item = &PublicKey> {
        self.entries.keys()
    }

    /// Whether there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads what [`Keepalives::text`] gives: nothing of it is of a device with another number.
    ///
    /// # Errors
    /// Where it is not such a text.
    pub fn parse(text: &str, ifindex: u32) -> serde_json::Result<Self> {
        let written: Written = serde_json::from_str(text)?;
        if written.ifindex != ifindex {
            return Ok(Self::default());
        }
        let keyed = |(key, entry): (String, Entry)| key.parse().ok().map(|key| (key, entry));
        Ok(Self { entries: written.peers.into_iter().filter_map(keyed).collect() })
    }

    /// The record of the device with this number as it is written: JSON.
    ///
    /// # Errors
    /// Of the serialiser, never in practice.
    pub fn text(&self, ifindex: u32) -> serde_json::Result<String> {
        let peers = self.entries.iter().map(|(key, entry)| (key.to_string(), *entry)).collect();
        serde_json::to_string(&Written { ifindex, peers })
    }
}

/// Where the record of one interface is kept, for one device: one that was removed and made again under the
/// same name has another number, and what is recorded of the former says nothing of it.
#[derive(Debug, Clone)]
pub struct RecordFile {
    path: PathBuf,
    ifindex: u32,
}

/// The record as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    ifindex: u32,
    /// By public key in base64.
    peers: BTreeMap<String, Entry>,
}

impl RecordFile {
    /// The record of an interface in [`files::run_directory`].
    pub fn new(run_directory: &Path, interface: &InterfaceName, ifindex: u32) -> Self {
        Self { path: run_directory.join(format!("{interface}.keepalive")), ifindex }
    }

    /// What an earlier run left; empty where there is nothing, or nothing of this device.
    ///
    /// # Errors
    /// Of the system, and where the file is not a record: then nothing is known, and no keepalive is ours.
    pub fn read(&self) -> io::Result<Keepalives> {
        let Some(text) = files::read_bounded(&self.path, MAX_FILE)? else {
            return Ok(Keepalives::default());
        };
        Ok(Keepalives::parse(&text, self.ifindex)?)
    }

    /// Replaces the record; an empty one is removed.
    ///
    /// # Errors
    /// Of the system.
    pub fn write(&self, keepalives: &Keepalives) -> io::Result<()> {
        if keepalives.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        files::write_atomically(&self.path, keepalives.text(self.ifindex)?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PublicKey = PublicKey::from_bytes([7; 32]);

    #[test]
    fn one_that_replaces_ours_is_ours_whether_or_not_the_device_has_it_yet() {
        for before in [None, Some(120)] {
            let mut record = Keepalives::default();
            assert!(record.take(PEER, before, 25));
            assert!(record.take(PEER, Some(25), 12));
            for current in [25, 12] {
                assert!(record.is_ours(&PEER, Some(current)), "killed before or after it was set");
                assert_eq!(record.clone().give_back(&PEER, Some(current)), Some(before.unwrap_or(0)));
            }
            assert!(record.settle(&PEER) && !record.settle(&PEER));
            assert!(record.is_ours(&PEER, Some(12)) && !record.is_ours(&PEER, Some(25)), "set by hand");
            assert!(!record.is_ours(&PEER, None));
        }
    }

    #[test]
    fn what_was_there_is_given_back() {
        for before in [None, Some(120)] {
            let mut record = Keepalives::default();
            assert!(record.take(PEER, before, 15));
            assert!(record.is_ours(&PEER, Some(15)) && !record.is_ours(&PEER, before));
            assert_eq!(record.give_back(&PEER, Some(15)), Some(before.unwrap_or(0)));
            assert!(record.is_empty());
        }
    }

    #[test]
    fn ours_does_not_become_the_persons() {
        let mut record = Keepalives::default();
        record.take(PEER, None, 15);
        assert!(!record.take(PEER, Some(15), 15), "nothing new to write");
        assert!(record.take(PEER, Some(15), 20));
        assert_eq!(record.give_back(&PEER, Some(20)), Some(0));
    }

    #[test]
    fn what_the_person_set_meanwhile_stays() {
        let mut record = Keepalives::default();
        record.take(PEER, None, 15);
        assert_eq!(record.give_back(&PEER, Some(40)), None);
        assert!(record.is_empty());
        record.take(PEER, None, 15);
        record.take(PEER, Some(40), 15);
        assert_eq!(record.give_back(&PEER, Some(15)), Some(40));
    }

    #[test]
    fn a_peer_that_is_not_recorded_is_left_alone() {
        assert_eq!(Keepalives::default().give_back(&PEER, Some(25)), None);
    }

    #[test]
    fn the_record_survives_a_restart_but_not_another_device() {
        let directory = tempfile::tempdir().unwrap();
        let name = "wg0".parse().unwrap();
        let file = RecordFile::new(directory.path(), &name, 7);
        let mut record = Keepalives::default();
        record.take(PEER, Some(120), 15);
        file.write(&record).unwrap();
        assert_eq!(file.read().unwrap(), record);
        assert!(RecordFile::new(directory.path(), &name, 8).read().unwrap().is_empty());
        record.give_back(&PEER, Some(15));
        file.write(&record).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        file.write(&record).unwrap();
    }

    #[test]
    fn a_garbled_record_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = RecordFile::new(directory.path(), &"wg0".parse().unwrap(), 7);
        std::fs::write(directory.path().join("wg0.keepalive"), "{").unwrap();
        assert!(file.read().is_err());
    }
}
