//! Who was heard where, and so which peer may be reached where.
//!
//! Work and memory are bounded whatever is announced: a name costs one MAC for each peer, and only so many MACs are
//! computed in a second; so many names are kept, and so many for each peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use wireplug_core::{Endpoint, PublicKey};

use crate::link::Link;
use crate::name::Name;

/// The most names that are kept, strangers' among them: recognising one again is free. A LAN with more hosts that
/// run wireplug still works, it only costs more MACs.
const MAX_NAMES: usize = 256;

/// The most names of one peer: it has one for each link, and one more for a while after it was killed.
const MAX_NAMES_OF_PEER: usize = 4;

/// The most endpoints of one name.
const MAX_ENDPOINTS: usize = 4;

/// MACs that may be computed at once, and in each second after that: some milliseconds of work.
const MAC_BURST: u32 = 4096;
const MACS_PER_SECOND: u32 = 1024;

/// How long an address that is not link-local is waited for. A name is often heard over IPv6 first, with a link-local
/// address alone, and over IPv4 within 0.1 s; an endpoint with a link-local address holds only as long as the link keeps
/// its number.
pub(crate) const LINK_LOCAL_WAITS: Duration = Duration::from_millis(250);

/// How long after asking began a known name must have been heard again: three questions' time (RFC 6762 section 5.2).
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Book {
    entries: BTreeMap<(u32, Name), Entry>,
    macs: Macs,
    confirm_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// Whose name it is; `None` for a stranger's.
    peer: Option<PublicKey>,
    port: u16,
    addresses: Vec<IpAddr>,
    first_heard: Instant,
    confirmed: bool,
}

/// What became of something heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was written down.
    Yes,
    /// There was no time for it: listen again later.
    Later,
}

impl Book {
    pub(crate) fn new(now: Instant) -> Self {
        Self { entries: BTreeMap::new(), macs: Macs { left: MAC_BURST, filled: now }, confirm_until: None }
    }

    /// Somebody is there.
    pub(crate) fn heard<'a>(
        &mut self,
        now: Instant,
        ifindex: u32,
        name: Name,
        (port, addresses): (u16, Vec<IpAddr>),
        peers: impl ExactSizeIterator<Item = &'a PublicKey>,
    ) -> Taken {
        if let Some(entry) = self.entries.get_mut(&(ifindex, name)) {
            (entry.port, entry.addresses, entry.confirmed) = (port, addresses, true);
            return Taken::Yes;
        }
        if !self.macs.take(now, peers.len()) {
            return Taken::Later;
        }
        let peer = peers.copied().find(|key| name.is_of(key));
        let of_peer = |entry: &Entry| peer.is_some() && entry.peer == peer;
        if self.entries.values().filter(|entry| of_peer(entry)).count() >= MAX_NAMES_OF_PEER {
            self.drop_oldest(of_peer);
        } else if self.entries.len() >= MAX_NAMES && !self.drop_oldest(|entry| entry.peer.is_none()) {
            self.drop_oldest(|_| true);
        }
        let entry = Entry { peer, port, addresses, first_heard: now, confirmed: true };
        self.entries.insert((ifindex, name), entry);
        Taken::Yes
    }

    /// Somebody went.
    pub(crate) fn gone(&mut self, ifindex: u32, name: Name) {
        self.entries.remove(&(ifindex, name));
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.confirm_until = None;
    }

    /// Forgets what was heard on links that are no more.
    pub(crate) fn retain_links(&mut self, is_there: impl Fn(u32) -> bool) {
        self.entries.retain(|(ifindex, _), _| is_there(*ifindex));
    }

    /// There are other peers: a stranger may be one of them. Listen again.
    pub(crate) fn follow_peers(&mut self, is_peer: impl Fn(&PublicKey) -> bool) {
        self.entries.retain(|_, entry| entry.peer.as_ref().is_some_and(&is_peer));
    }

    /// All are asked now: those that do not answer within [`CONFIRM_WITHIN`] have gone.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.entries.values_mut().for_each(|entry| entry.confirmed = false);
        self.confirm_until = Some(now + CONFIRM_WITHIN);
    }

    /// Nobody is asked any more, so nobody can be missed.
    pub(crate) fn stop_asking(&mut self) {
        self.confirm_until = None;
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.confirm_until.is_some_and(|until| until <= now) {
            self.confirm_until = None;
            self.entries.retain(|_, entry| entry.confirmed);
        }
    }

    /// When [`Book::handle_timeout`] or [`Book::reachable`] has something new.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let of_peers = self.entries.values().filter(|entry| entry.peer.is_some());
        let waits = of_peers.map(|entry| entry.first_heard + LINK_LOCAL_WAITS).filter(|at| *at > now);
        waits.chain(self.confirm_until).min()
    }

    /// Where peers may be reached now.
    pub(crate) fn reachable(&self, now: Instant, links: &[&Link]) -> BTreeSet<(PublicKey, Endpoint)> {
        let mut reachable = BTreeSet::new();
        for ((ifindex, _), entry) in &self.entries {
            let Some(link) = links.iter().find(|link| link.ifindex == *ifindex) else { continue };
            let Some(peer) = entry.peer else { continue };
            let all = entry.addresses.iter().filter_map(|ip| link.endpoint(*ip, entry.port));
            // Sorted, so that the same ones are taken in whatever order they are heard.
            let (scoped, mut endpoints): (BTreeSet<Endpoint>, BTreeSet<Endpoint>) = all.partition(is_scoped);
            if endpoints.is_empty() && entry.first_heard + LINK_LOCAL_WAITS <= now {
                endpoints = scoped;
            }
            reachable.extend(endpoints.into_iter().take(MAX_ENDPOINTS).map(|endpoint| (peer, endpoint)));
        }
        reachable
    }

    fn drop_oldest(&mut self, which: impl Fn(&Entry) -> bool) -> bool {
        let candidates = self.entries.iter().filter(|(_, entry)| which(entry));
        let oldest = candidates.min_by_key(|(_, entry)| entry.first_heard).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.entries.remove(&key).is_some())
    }
}

fn is_scoped(endpoint: &Endpoint) -> bool {
    matches!(endpoint.addr(), std::net::SocketAddr::V6(v6) if v6.scope_id() != 0)
}

/// MACs that may still be computed: a bucket that fills with time.
#[derive(Debug)]
struct Macs {
    left: u32,
    filled: Instant,
}

impl Macs {
    fn take(&mut self, now: Instant, count: usize) -> bool {
        let ms = u32::try_from((now - self.filled).as_millis()).unwrap_or(u32::MAX);
        let more = ms.saturating_mul(MACS_PER_SECOND) / 1000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(MAC_BURST);
            self.filled = now;
        }
        // However many peers there are, a full bucket does for one name.
        let count = u32::try_from(count).unwrap_or(MAC_BURST).min(MAC_BURST);
        let enough = self.left >= count;
        if enough {
            self.left -= count;
        }
        enough
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
