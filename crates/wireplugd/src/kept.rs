//! What is kept of an interface over restarts, sealed with its own key: where its peers were last reached, and what was
//! learnt of the networks that this machine has been in.
//!
//! [`Keeper`] has no clock and writes nothing by itself: [`Keeper::due`] says when there is something to write,
//! [`Keeper::take`] gives it, and [`write_all`] writes it. It is written when it changes, so never for a tunnel that is
//! settled. What was not of use for the longest time is forgotten first; no wall clock, which may be wrong, has a say in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
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
/// After so long what could not be written is tried again: a full disk has room again some day.
const AGAIN: Duration = Duration::from_secs(60);

/// What is known of one interface's peers and networks.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    key: Arc<KeptKey>,
    kept: Kept,
    write_at: Option<Instant>,
}

/// Something to write. It blocks.
#[derive(Debug, Clone)]
pub struct Writing {
    path: PathBuf,
    key: Arc<KeptKey>,
    kept: Kept,
}

impl Keeper {
    /// Reads what an earlier run kept of this interface, in `kept/INTERFACE` of [`files::state_directory`]. What another
    /// private key sealed is nobody's any more. Waits for the disk.
    pub fn open(state: &Path, interface: &InterfaceName, own: &PrivateKey) -> Self {
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
        Self { path, key: Arc::new(key), kept, write_at: None }
    }

    /// Where a peer was last reached; empty where that is not known.
    pub fn candidates(&self, peer: &PublicKey) -> &[RemoteCandidate] {
        let known = self.kept.peers.iter().find(|known| known.key == *peer);
        known.map_or(&[], |known| &known.candidates)
    }

    /// The name of the network that these bytes tell from others.
    pub fn network(&self, features: &[u8]) -> NetworkId {
        self.key.network(features)
    }

    /// What was learnt of a network; of a new one, nothing.
    pub fn learnt(&self, network: &NetworkId) -> Learnt {
        let known = self.kept.networks.iter().find(|known| known.id == *network);
        known.map(|known| known.learnt).unwrap_or_default()
    }

    /// A peer was reached at these.
    pub fn keep_candidates(&mut self, now: Instant, peer: PublicKey, candidates: Vec<RemoteCandidate>) {
        let latest = KeptPeer { key: peer, candidates };
        let changed = put_first(&mut self.kept.peers, latest, MAX_KEPT_PEERS, |one| one.key == peer);
        self.note(now, changed);
    }

    /// This was learnt of a network. What all networks have is not kept.
    pub fn keep_learnt(&mut self, now: Instant, network: NetworkId, learnt: Learnt) {
        let networks = &mut self.kept.networks;
        let is = |one: &KeptNetwork| one.id == network;
        let changed = if learnt == Learnt::default() {
            let before = networks.len();
            networks.retain(|one| !is(one));
            networks.len() != before
        } else {
            put_first(networks, KeptNetwork { id: network, learnt }, MAX_KEPT_NETWORKS, is)
        };
        self.note(now, changed);
    }

    /// We are in this network again: it is not forgotten before others.
    pub fn is_in(&mut self, now: Instant, network: NetworkId) {
        let learnt = self.learnt(&network);
        if learnt != Learnt::default() {
            self.keep_learnt(now, network, learnt);
        }
    }

    /// When there is something to write.
    pub const fn due(&self) -> Option<Instant> {
        self.write_at
    }

    /// What is to be written by now, or at all where `now` is `None`, because it is the end.
    pub fn take(&mut self, now: Option<Instant>) -> Option<Writing> {
        self.write_at.take_if(|at| now.is_none_or(|now| *at <= now))?;
        Some(Writing { path: self.path.clone(), key: Arc::clone(&self.key), kept: self.kept.clone() })
    }

    /// What was taken cannot be written now: it is due again later.
    pub fn later(&mut self, now: Instant) {
        self.note(now, true);
    }

    fn note(&mut self, now: Instant, changed: bool) {
        if changed {
            self.write_at.get_or_insert(now + GATHER);
        }
    }
}

impl Writing {
    /// Writes it; waits for the disk. `nonce` must be random.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, nonce: [u8; 24]) -> std::io::Result<()> {
        files::write_atomically(&self.path, &self.key.seal(&self.kept, nonce))
    }
}

/// Writes one after another what is sent, until there is no sender any more: so the latest is written last. What could not be
/// written is tried again until there is something later. That it cannot is said once and never fatal.
pub async fn write_all(mut writings: mpsc::Receiver<Writing>, nonce: fn() -> [u8; 24]) {
    let mut failed: Option<Writing> = None;
    let mut told = false;
    loop {
        let writing = tokio::select! {
            biased;
            later = writings.recv() => match later {
                Some(later) => later,
                None => return,
            },
            () = sleep(AGAIN), if failed.is_some() => match failed.take() {
                Some(again) => again,
                None => continue,
            },
        };
        let (path, again) = (writing.path.clone(), writing.clone());
        let written = spawn_blocking(move || writing.write(nonce())).await;
        failed = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(
                        file = %path.display(), %error,
                        "cannot keep where peers were reached; after a restart they are found through the server only"
                    );
                }
                Some(again)
            }
            // The runtime ends.
            Err(_) => return,
        };
    }
}

/// Puts an entry before all others, in the place of the one that `is` it already. Says whether anything is another now.
fn put_first<T: PartialEq>(entries: &mut Vec<T>, entry: T, most: usize, is: impl Fn(&T) -> bool) -> bool {
    if entries.first() == Some(&entry) {
        return false;
    }
    entries.retain(|one| !is(one));
    entries.insert(0, entry);
    entries.truncate(most);
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use wireplug_core::{Endpoint, Reach, Tier};

    use super::*;

    const PEER: PublicKey = PublicKey::from_bytes([7; 32]);
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

    fn peer(number: usize) -> PublicKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(key)
    }

    fn open(state: &Path, key: u8) -> Keeper {
        Keeper::open(state, &"wg0".parse().unwrap(), &PrivateKey::from_bytes([key; 32]))
    }

    #[test]
    fn it_survives_a_restart_and_only_the_same_key_reads_it() {
        let state = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut keeper = open(state.path(), 1);
        let home = keeper.network(b"home");
        keeper.keep_candidates(now, PEER, vec![candidate(9)]);
        keeper.keep_learnt(now, home, SHORT);
        keeper.take(None).unwrap().write([3; 24]).unwrap();
        let again = open(state.path(), 1);
        assert_eq!((again.candidates(&PEER), again.learnt(&home)), (&[candidate(9)][..], SHORT));
        assert_eq!(again.learnt(&again.network(b"elsewhere")), Learnt::default());
        let other = open(state.path(), 2);
        assert_eq!((other.candidates(&PEER), other.learnt(&home)), (&[][..], Learnt::default()));
        assert_ne!(other.network(b"home"), home);
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
        let mut keeper = open(state.path(), 1);
        assert!(keeper.due().is_none() && keeper.take(Some(now)).is_none() && keeper.take(None).is_none());
        keeper.keep_candidates(now, PEER, vec![candidate(9)]);
        keeper.keep_candidates(now + GATHER / 2, PEER, vec![candidate(10)]);
        assert_eq!(keeper.due(), Some(now + GATHER));
        assert!(keeper.take(Some(now + GATHER / 2)).is_none());
        assert!(keeper.take(Some(now + GATHER)).is_some());
        keeper.keep_candidates(now + GATHER, PEER, vec![candidate(10)]);
        let elsewhere = keeper.network(b"elsewhere");
        keeper.keep_learnt(now + GATHER, elsewhere, Learnt::default());
        keeper.is_in(now + GATHER, elsewhere);
        assert_eq!(keeper.due(), None, "it is no news");
        keeper.later(now + GATHER);
        assert_eq!(keeper.due(), Some(now + 2 * GATHER));
    }

    #[test]
    fn what_was_of_no_use_for_longest_goes_and_what_all_networks_have_is_not_kept() {
        let state = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut keeper = open(state.path(), 1);
        let network = |number: usize| open(state.path(), 1).network(&number.to_be_bytes());
        for number in 0..MAX_KEPT_PEERS {
            keeper.keep_candidates(now, peer(number), vec![candidate(9)]);
        }
        for number in 0..MAX_KEPT_NETWORKS {
            keeper.keep_learnt(now, network(number), SHORT);
        }
        // The first of all are of use again, also in a later run, and so are not the next to go.
        keeper.take(None).unwrap().write([3; 24]).unwrap();
        let mut keeper = open(state.path(), 1);
        keeper.keep_candidates(now, peer(0), vec![candidate(9)]);
        keeper.is_in(now, network(0));
        keeper.keep_candidates(now, peer(MAX_KEPT_PEERS), vec![candidate(9)]);
        keeper.keep_learnt(now, network(MAX_KEPT_NETWORKS), SHORT);
        let lengths = (keeper.kept.peers.len(), keeper.kept.networks.len());
        assert_eq!(lengths, (MAX_KEPT_PEERS, MAX_KEPT_NETWORKS));
        assert!(!keeper.candidates(&peer(0)).is_empty() && keeper.candidates(&peer(1)).is_empty());
        assert_eq!([0, 1].map(|number| keeper.learnt(&network(number))), [SHORT, Learnt::default()]);
        keeper.keep_learnt(now, network(5), Learnt::default());
        assert_eq!(keeper.kept.networks.len(), MAX_KEPT_NETWORKS - 1);
    }

    #[test]
    fn junk_is_nothing() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("kept")).unwrap();
        for junk in [&b""[..], b"\x01", b"\x02\x03", &[1; 100], &vec![1; MAX_KEPT + 1]] {
            std::fs::write(state.path().join("kept/wg0"), junk).unwrap();
            assert_eq!(open(state.path(), 1).kept, Kept::default());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_is_written_last_and_a_disk_that_was_full_is_tried_again() {
        let state = tempfile::tempdir().unwrap();
        // Where the directory is to be, there is a file.
        let in_the_way = state.path().join("kept");
        std::fs::write(&in_the_way, "").unwrap();
        let (sender, receiver) = mpsc::channel(4);
        let writer = tokio::spawn(write_all(receiver, || [3; 24]));
        let mut keeper = open(state.path(), 1);
        for port in [9, 10] {
            keeper.keep_candidates(Instant::now(), PEER, vec![candidate(port)]);
            sender.send(keeper.take(None).unwrap()).await.unwrap();
        }
        sleep(AGAIN / 2).await;
        assert_eq!(open(state.path(), 1).kept, Kept::default());
        std::fs::remove_file(in_the_way).unwrap();
        sleep(AGAIN).await;
        while !state.path().join("kept/wg0").exists() {
            sleep(Duration::from_millis(1)).await;
        }
        keeper.keep_candidates(Instant::now(), PEER, vec![candidate(11)]);
        sender.send(keeper.take(None).unwrap()).await.unwrap();
        drop(sender);
        writer.await.unwrap();
        assert_eq!(open(state.path(), 1).candidates(&PEER), [candidate(11)]);
    }
}
