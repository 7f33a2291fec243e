//! `relay`: a place at the server for each peer that wants one, over UDP first, over TLS where that does not answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use wireplug_core::scheduler::Input;
use wireplug_core::{Endpoint, PublicKey, Reach, RemoteCandidate, Tier};

use super::name;
use crate::server::{Addresses, RELAY_PORT};
use crate::{Time, earlier, ms, secs};

/// How long UDP to the relay may stay without an answer before TLS is tried.
const UDP_PATIENCE: Time = ms(1500);
/// The least time between two askings for one peer.
const ASK_GAP: Time = secs(1);

/// The socket on this host that leads to the relay over TLS.
pub fn tls_endpoint() -> Endpoint {
    const PORT: NonZeroU16 = NonZeroU16::new(40_000).unwrap();
    Endpoint::on_this_host(PORT)
}

/// All places.
#[derive(Debug, Default)]
pub struct Places(BTreeMap<PublicKey, Place>);

#[derive(Debug)]
struct Place {
    asked: Option<Time>,
    credential: Option<u64>,
    suggested: Vec<Endpoint>,
    /// When TLS is suggested, unless UDP answers before.
    tls_at: Option<Time>,
}

impl Places {
    /// Follows whether a place is wanted. Says whether the server is to be asked now, and what to withdraw.
    pub fn want(&mut self, now: Time, peer: PublicKey, wanted: bool, server_up: bool) -> Wish {
        if !wanted {
            return self.0.remove(&peer).map_or(Wish::Nothing, |place| Wish::Release(place.suggested));
        }
        let fresh = Place { asked: None, credential: None, suggested: Vec::new(), tls_at: None };
        let place = self.0.entry(peer).or_insert(fresh);
        if place.asked.is_some() || !server_up {
            return Wish::Nothing;
        }
        place.asked = Some(now);
        Wish::Ask
    }

    /// The server does not know our places (any more).
    pub fn ask_again(&mut self, now: Time, peer: Option<PublicKey>) {
        for (key, place) in &mut self.0 {
            let lately = place.asked.is_some_and(|at| at + ASK_GAP > now);
            if peer.is_none() || peer == Some(*key) && !lately {
                place.asked = None;
            }
        }
    }

    /// The server gave a place.
    pub fn allocated(
        &mut self,
        now: Time,
        peer: PublicKey,
        credential: u64,
        own: &[IpAddr],
        servers: &[Addresses],
    ) -> Vec<RemoteCandidate> {
        let Some(place) = self.0.get_mut(&peer) else { return Vec::new() };
        place.credential = Some(credential);
        place.suggest(now, own, servers)
    }

    /// The network is another one: all places are suggested again.
    pub fn network_changed(
        &mut self,
        now: Time,
        own: &[IpAddr],
        servers: &[Addresses],
    ) -> Vec<(PublicKey, RemoteCandidate)> {
        let known = self.0.iter_mut().filter(|(_, place)| place.credential.is_some());
        known
            .flat_map(|(peer, place)| {
                place.suggested.clear();
                place.suggest(now, own, servers).into_iter().map(|candidate| (*peer, candidate))
            })
            .collect()
    }

    /// What shows a place to the server.
    pub fn credential(&self, peer: PublicKey) -> Option<u64> {
        self.0.get(&peer)?.credential
    }

    /// Whose place that is.
    pub fn peer_at(&self, endpoint: Endpoint) -> Option<PublicKey> {
        self.0.iter().find(|(_, place)| place.suggested.contains(&endpoint)).map(|(peer, _)| *peer)
    }

    /// UDP to the relay passes.
    pub fn udp_answers(&mut self, peer: PublicKey) {
        if let Some(place) = self.0.get_mut(&peer) {
            place.tls_at = None;
        }
    }

    /// When [`Places::due`] has something.
    pub fn next_event(&self) -> Option<Time> {
        self.0.values().map(|place| place.tls_at).fold(None, earlier)
    }

    /// TLS where UDP did not answer.
    pub fn due(&mut self, now: Time) -> Option<(PublicKey, RemoteCandidate)> {
        let (peer, place) = self.0.iter_mut().find(|(_, place)| place.tls_at.is_some_and(|at| at <= now))?;
        place.tls_at = None;
        place.suggested.push(tls_endpoint());
        Some((*peer, candidate(tls_endpoint(), Tier::RelayTls)))
    }
}

/// What follows from whether a place is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// The server is to be asked for a place.
    Ask,
    /// It is to be released, and these to be withdrawn.
    Release(Vec<Endpoint>),
}

impl Place {
    fn suggest(&mut self, now: Time, own: &[IpAddr], servers: &[Addresses]) -> Vec<RemoteCandidate> {
        let reachable = servers.iter().map(|server| server.primary.ip());
        let reachable = reachable.filter(|ip| own.iter().any(|own| own.is_ipv4() == ip.is_ipv4()));
        let endpoints = reachable.filter_map(|ip| Endpoint::new(SocketAddr::new(ip, RELAY_PORT)).ok());
        let udp: Vec<_> = endpoints.collect();
        let over_tls = self.suggested.contains(&tls_endpoint());
        self.suggested.clone_from(&udp);
        let mut candidates: Vec<_> = udp.into_iter().map(|at| candidate(at, Tier::Relay)).collect();
        if over_tls || candidates.is_empty() {
            self.suggested.push(tls_endpoint());
            candidates.push(candidate(tls_endpoint(), Tier::RelayTls));
        } else {
            self.tls_at = Some(now + UDP_PATIENCE);
        }
        candidates
    }
}

fn candidate(endpoint: Endpoint, tier: Tier) -> RemoteCandidate {
    RemoteCandidate { endpoint, strategy: name("relay"), tier, reach: Reach::Open }
}

/// What the scheduler is told of a place.
pub fn suggested(generation: u32, peer: PublicKey, candidate: RemoteCandidate) -> Input {
    Input::Suggested { generation, peer, candidate }
}
