//! What is kept of an interface over restarts, sealed with its own key: where its peers were last reached, and what was
//! learnt of the networks that this machine has been in.
//!
//! [`Keeper`] has no clock and writes nothing by itself: [`Keeper::due`] says when there is something to write, and
//! [`Keeper::take`] gives what writes it. It is written when it changes, so never for a tunnel that is settled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, warn};
use wireplug_core::scheduler::Learnt;
use wireplug_core::{PrivateKey, PublicKey, RemoteCandidate};
use wireplug_proto::kept::{
    Kept, KeptKey, KeptNetwork, KeptPeer, MAX_KEPT, MAX_KEPT_NETWORKS, MAX_KEPT_PEERS, NetworkId,
};

use crate::files;
use crate::interface::InterfaceName;

/// After the first change others are waited for: at a start, all peers are found within seconds.
const GATHER: Duration = Duration::from_secs(5);
/// What was not found again for so long is of no use: addresses of homes live for months, those of networks less.
const MAX_AGE_S: u64 = 180 * 24 * 3600;

/// What is known of one interface's peers and networks.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    key: Arc<KeptKey>,
    peers: BTreeMap<PublicKey, (u64, Vec<RemoteCandidate>)>,
    networks: BTreeMap<NetworkId, (u64, Learnt)>,
    write_at: Option<Instant>,
    /// Held while it is written, so that the latest is written last; tells whether it ever failed.
    failed: Arc<Mutex<bool>>,
}

/// Something to write. It blocks.
#[derive(Debug)]
pub struct Writing {
    path: PathBuf,
    key: Arc<KeptKey>,
    kept: Kept,
    failed: Arc<Mutex<bool>>,
}

impl Keeper {
    /// Reads what an earlier run kept of this interface, in `kept/INTERFACE` of [`files::state_directory`]. `wall`: seconds
    /// since 1970. What another private key sealed is nobody's any more.
    pub fn open(state: &Path, interface: &InterfaceName, own: &PrivateKey, wall: u64) -> Self {
        let path = state.join("kept").join(interface.as_str());
        let key = KeptKey::derive(own);
        let kept = match files::read_bytes_bounded(&path, MAX_KEPT as u64) {
            Ok(None) => Kept::default(),
            Ok(Some(bytes)) => key.open(&bytes).unwrap_or_else(|error| {
                debug!(file = %path.display(), %error, "nothing is known of an earlier run");
                Kept::default()
            }),
            Err(error) => {
                debug!(file = %path.display(), %error, "nothing is known of an earlier run");
                Kept::default()
            }
        };
        // A clock that went back makes it fresh: that is harmless, everything is proven before it is used.
        let fresh = |at: u64| wall.saturating_sub(at) <= MAX_AGE_S;
        let peers = kept.peers.into_iter().filter(|peer| fresh(peer.at));
        let networks = kept.networks.into_iter().filter(|network| fresh(network.at));
        Self {
            path,
            key: Arc::new(key),
            peers: peers.map(|peer| (peer.key, (peer.at, peer.candidates))).collect(),
            networks: networks.map(|network| (network.id, (network.at, network.learnt))).collect(),
            write_at: None,
            failed: Arc::default(),
        }
    }

    /// Where a peer was last reached; empty where that is not known.
    pub fn candidates(&self, peer: &PublicKey) -> Vec<RemoteCandidate> {
        self.peers.get(peer).map(|(_, candidates)| candidates.clone()).unwrap_or_default()
    }

    /// The name of the network that these bytes tell from others.
    pub fn network(&self, features: &[u8]) -> NetworkId {
        self.key.network(features)
    }

    /// What was learnt of a network; of a new one, nothing.
    pub fn learnt(&self, network: &NetworkId) -> Learnt {
        self.networks.get(network).map(|(_, learnt)| *learnt).unwrap_or_default()
    }

    /// A peer was reached at these.
    pub fn keep_candidates(
        &mut self,
        now: Instant,
        wall: u64,
        peer: PublicKey,
        candidates: Vec<RemoteCandidate>,
    ) {
        self.peers.insert(peer, (wall, candidates));
        forget_oldest(&mut self.peers, MAX_KEPT_PEERS);
        self.changed(now);
    }

    /// This was learnt of a network. What all networks have is not kept.
    pub fn keep_learnt(&mut self, now: Instant, wall: u64, network: NetworkId, learnt: Learnt) {
        if learnt == Learnt::default() {
            self.networks.remove(&network);
        } else {
            self.networks.insert(network, (wall, learnt));
            forget_oldest(&mut self.networks, MAX_KEPT_NETWORKS);
        }
        self.changed(now);
    }

    /// When there is something to write.
    pub const fn due(&self) -> Option<Instant> {
        self.write_at
    }

    /// What is to be written by now, or at all where `now` is `None`, because it is the end.
    pub fn take(&mut self, now: Option<Instant>) -> Option<Writing> {
        self.write_at.take_if(|at| now.is_none_or(|now| *at <= now))?;
        let peers = self.peers.iter().map(|(key, (at, candidates))| KeptPeer {
            key: *key,
            at: *at,
            candidates: candidates.clone(),
        });
        let networks =
            self.networks.iter().map(|(id, (at, learnt))| KeptNetwork { id: *id, at: *at, learnt: *learnt });
        let kept = Kept { peers: peers.collect(), networks: networks.collect() };
        let (path, key, failed) = (self.path.clone(), Arc::clone(&self.key), Arc::clone(&self.failed));
        Some(Writing { path, key, kept, failed })
    }

    fn changed(&mut self, now: Instant) {
        self.write_at.get_or_insert(now + GATHER);
    }
}

impl Writing {
    /// Writes it; waits for the disk. `nonce` must be random. That it cannot be written is said once and never fatal.
    pub fn write(self, nonce: [u8; 24]) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = self.key.seal(&self.kept, nonce);
        if let Err(error) = files::write_atomically(&self.path, &sealed)
            && !std::mem::replace(&mut *failed, true)
        {
            warn!(
                file = %self.path.display(), %error,
                "cannot keep where peers were reached; after a restart they are found through the server only"
            );
        }
    }
}

fn forget_oldest<K: Ord + Copy, V>(entries: &mut BTreeMap<K, (u64, V)>, most: usize) {
    while entries.len() > most {
        let oldest = entries.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
        oldest.map(|key| entries.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use wireplug_core::{Endpoint, Reach, Tier};

    use super::*;

    const PEER: PublicKey = PublicKey::from_bytes([7; 32]);
    const WALL: u64 = 1_800_000_000;
    const SHORT: Learnt = Learnt { keepalive: 12, suspected: true, on_trial: false, failed_trials: 3 };

    fn candidate(port: u16) -> RemoteCandidate {
        let endpoint = Endpoint::new(([203, 0, 113, 7], port).into()).unwrap();
        RemoteCandidate {
            endpoint,
            strategy: "direct".parse().unwrap(),
            tier: Tier::Direct,
            reach: Reach::Filtered,
        }
    }

    fn open(state: &Path, key: u8, wall: u64) -> Keeper {
        Keeper::open(state, &"wg0".parse().unwrap(), &PrivateKey::from_bytes([key; 32]), wall)
    }

    #[test]
    fn it_survives_a_restart_and_only_the_same_key_reads_it() {
        let state = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut keeper = open(state.path(), 1, WALL);
        let home = keeper.network(b"home");
        keeper.keep_candidates(now, WALL, PEER, vec![candidate(9)]);
        keeper.keep_learnt(now, WALL, home, SHORT);
        keeper.take(None).unwrap().write([3; 24]);
        let again = open(state.path(), 1, WALL + 10);
        assert_eq!((again.candidates(&PEER), again.learnt(&home)), (vec![candidate(9)], SHORT));
        assert_eq!(again.learnt(&again.network(b"elsewhere")), Learnt::default());
        let other = open(state.path(), 2, WALL + 10);
        assert_eq!((other.candidates(&PEER), other.learnt(&home)), (vec![], Learnt::default()));
        assert_ne!(other.network(b"home"), home);
        let old = open(state.path(), 1, WALL + MAX_AGE_S + 1);
        assert_eq!((old.candidates(&PEER), old.learnt(&home)), (vec![], Learnt::default()));
        let clock_went_back = open(state.path(), 1, 0);
        assert_eq!(clock_went_back.candidates(&PEER), [candidate(9)]);
        let file = state.path().join("kept/wg0");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(32).any(|part| part == PEER.as_bytes()), "no key in clear");
        assert!(!bytes.windows(4).any(|part| part == [203, 0, 113, 7]), "no address in clear");
    }

    #[test]
    fn it_is_written_some_seconds_after_a_change_and_not_without_one() {
        let state = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut keeper = open(state.path(), 1, WALL);
        assert!(keeper.due().is_none() && keeper.take(Some(now)).is_none() && keeper.take(None).is_none());
        keeper.keep_candidates(now, WALL, PEER, vec![candidate(9)]);
        keeper.keep_candidates(now + GATHER / 2, WALL, PEER, vec![candidate(10)]);
        assert_eq!(keeper.due(), Some(now + GATHER));
        assert!(keeper.take(Some(now + GATHER / 2)).is_none());
        assert!(keeper.take(Some(now + GATHER)).is_some());
        assert!(keeper.due().is_none());
    }

    #[test]
    fn the_oldest_go_and_what_all_networks_have_is_not_kept() {
        let state = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut keeper = open(state.path(), 1, WALL);
        for number in 0..=MAX_KEPT_PEERS {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            keeper.keep_candidates(now, WALL + number as u64, PublicKey::from_bytes(key), vec![candidate(9)]);
        }
        let network = |number: usize| open(state.path(), 1, WALL).network(&number.to_be_bytes());
        for number in 0..=MAX_KEPT_NETWORKS {
            keeper.keep_learnt(now, WALL + number as u64, network(number), SHORT);
        }
        assert_eq!((keeper.peers.len(), keeper.networks.len()), (MAX_KEPT_PEERS, MAX_KEPT_NETWORKS));
        assert_eq!(keeper.candidates(&PublicKey::from_bytes([0; 32])), []);
        assert_eq!(keeper.learnt(&network(0)), Learnt::default());
        keeper.keep_learnt(now, WALL, network(5), Learnt::default());
        assert_eq!(keeper.networks.len(), MAX_KEPT_NETWORKS - 1);
        keeper.take(None).unwrap().write([3; 24]);
        assert_eq!(open(state.path(), 1, WALL).peers.len(), MAX_KEPT_PEERS);
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_not_fatal_and_junk_is_nothing() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut keeper = open(&file, 1, WALL);
        for port in [9, 10] {
            keeper.keep_candidates(Instant::now(), WALL, PEER, vec![candidate(port)]);
            keeper.take(None).unwrap().write([3; 24]);
            assert_eq!(keeper.candidates(&PEER), [candidate(port)]);
        }
        assert!(*keeper.failed.lock().unwrap());
        std::fs::create_dir(state.path().join("kept")).unwrap();
        for junk in [&b""[..], b"\x01", b"\x02\x03", &[1; 100], &vec![1; MAX_KEPT + 1]] {
            std::fs::write(state.path().join("kept/wg0"), junk).unwrap();
            assert_eq!(open(state.path(), 1, WALL).peers.len(), 0);
        }
    }
}
