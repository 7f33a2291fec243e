//! `lan-mdns` and the strategies that ask a router for a mapping: what is found on the own link.
//!
//! Without their protocols, which have tests of their own: names are heard and requests are answered after the time that
//! the link takes. A mapping is asked for once on each network, and has no lease.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wireplug_core::{Candidate, Endpoint, Proof, PublicKey, Reach, RemoteCandidate, Tier};

use super::name;

/// What a host says on its own link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLink {
    /// To all neighbours: who we are. They answer with the same.
    Announce,
    /// To the router: map our port.
    MapPort,
}

/// What it hears there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromLink {
    /// A neighbour's name and addresses.
    Neighbour(PublicKey, Vec<SocketAddr>),
    /// The router mapped our port to this address of its own.
    Mapped(SocketAddr),
}

/// What was found on this link.
#[derive(Debug, Default)]
pub struct Near {
    neighbours: BTreeMap<PublicKey, Vec<SocketAddr>>,
    asked: bool,
}

impl Near {
    /// Whether the router is to be asked now.
    pub fn wants_mapping(&mut self, wanted: bool) -> bool {
        let now = wanted && !self.asked;
        self.asked |= wanted;
        now
    }

    /// Whether the router was asked on this network.
    pub fn asked_for_mapping(&self) -> bool {
        self.asked
    }

    /// A neighbour is there. Gives what is new of it, and what it is not at any more.
    pub fn neighbour(&mut self, key: PublicKey, at: &[SocketAddr]) -> (Vec<RemoteCandidate>, Vec<Endpoint>) {
        let before = self.neighbours.insert(key, at.to_owned()).unwrap_or_default();
        let endpoints = |addresses: &[SocketAddr], others: &[SocketAddr]| -> Vec<Endpoint> {
            let only = addresses.iter().filter(|address| !others.contains(address));
            only.filter_map(|address| Endpoint::new(*address).ok()).collect()
        };
        let candidate = |endpoint| RemoteCandidate {
            endpoint,
            strategy: name("lan-mdns"),
            tier: Tier::Lan,
            reach: Reach::Open,
        };
        (endpoints(at, &before).into_iter().map(candidate).collect(), endpoints(&before, at))
    }
}

/// Our port, mapped by the router.
pub fn mapped(external: SocketAddr) -> Option<Candidate> {
    Some(Candidate {
        endpoint: Endpoint::new(external).ok()?,
        strategy: name("pcp"),
        tier: Tier::Mapped,
        proof: Proof::Server,
        lifetime: None,
        evidence: "granted by the router".into(),
    })
}
