//! How honest a server is. A hostile one can keep back, repeat, mix up and lie; it cannot open or forge a seal.

use std::net::SocketAddr;

use rand::RngExt as _;
use wireplug_core::{Endpoint, PublicKey, TransactionId};

use super::{Addresses, Frame, FromServer, Output, Sealed};
use crate::Chance;
use crate::net::HostId;
use crate::payload::{Bound, Payload};

/// What the server does to its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// What it should.
    Honest,
    /// Loses half of the offers.
    Drops,
    /// Sends an old offer after each new one.
    Replays,
    /// Holds each offer back until the next one, and sends that first.
    Reorders,
    /// Sends offers back to their writers, and to others than they were for.
    Swaps,
    /// Sends every offer three times.
    Doubles,
    /// Answers STUN with somebody else's address.
    LiesInStun(SocketAddr),
    /// Probes from an address that was already sent to, so that a filter lets the probe pass.
    ProbesFromPrimary,
    /// Says that it probed, and does not.
    NeverProbes,
    /// Calls every address another's.
    Refuses,
    /// Answers everything with something, and nothing with what it should.
    Garbage,
}

impl Temper {
    /// All kinds; a lie in STUN names the given address.
    pub fn all(victim: SocketAddr) -> [Self; 10] {
        [
            Self::Honest,
            Self::Drops,
            Self::Replays,
            Self::Reorders,
            Self::Swaps,
            Self::Doubles,
            Self::LiesInStun(victim),
            Self::ProbesFromPrimary,
            Self::NeverProbes,
            Self::Refuses,
        ]
    }

    /// What it says instead of an answer, if it answers garbage.
    pub(super) fn nonsense(self, chance: &mut Chance, host: HostId) -> Option<Vec<Output>> {
        if self != Self::Garbage {
            return None;
        }
        let nobody = PublicKey::from_bytes(chance.random());
        let transaction = TransactionId::from_bytes(chance.random());
        let said = [
            FromServer::Probed(chance.random()),
            FromServer::Refused(chance.random()),
            FromServer::Allocated { peer: nobody, credential: chance.random() },
            FromServer::RelayCalled { from: nobody },
            FromServer::Frame(Frame::Bound { transaction, bound: Bound::Here { both: true } }),
        ];
        Some(said.map(|message| Output::Tell(host, message)).to_vec())
    }

    pub(super) fn mapped(self, seen: SocketAddr) -> SocketAddr {
        match self {
            Self::LiesInStun(victim) if victim.is_ipv4() == seen.is_ipv4() => victim,
            _ => seen,
        }
    }

    pub(super) fn push(
        self,
        chance: &mut Chance,
        history: &[Sealed],
        held: &mut Option<Sealed>,
        sealed: Sealed,
    ) -> Vec<(PublicKey, Sealed)> {
        let pushed = match self {
            Self::Drops if chance.random_bool(0.5) => vec![],
            Self::Replays => {
                let old = history[chance.random_range(0..history.len())].clone();
                vec![sealed, old]
            }
            Self::Reorders => {
                if let Some(before) = held.take() {
                    vec![sealed, before]
                } else {
                    *held = Some(sealed);
                    vec![]
                }
            }
            Self::Swaps => {
                let (from, to) = (sealed.from, sealed.to);
                return vec![(from, sealed.clone()), (to, sealed)];
            }
            Self::Doubles => vec![sealed.clone(), sealed.clone(), sealed],
            _ => vec![sealed],
        };
        pushed.into_iter().map(|sealed| (sealed.to, sealed)).collect()
    }

    pub(super) fn verify(
        self,
        host: HostId,
        owned: bool,
        addresses: Addresses,
        endpoint: Endpoint,
        nonce: u64,
    ) -> Vec<Output> {
        if self == Self::Refuses || !owned {
            return vec![Output::Tell(host, FromServer::Refused(nonce))];
        }
        let from = if self == Self::ProbesFromPrimary { addresses.primary } else { addresses.secondary };
        let probe = Output::Send { from, to: endpoint.addr(), payload: Payload::Probe { nonce } };
        let probed = Output::Tell(host, FromServer::Probed(nonce));
        if self == Self::NeverProbes { vec![probed] } else { vec![probe, probed] }
    }
}
