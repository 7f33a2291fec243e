//! What datagrams carry.

use std::net::SocketAddr;

use wireplug_core::{PublicKey, Tier, TransactionId};

use crate::net::HostId;
use crate::wireguard;

/// A relay's answer to a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Not without the nonce that came with this.
    Again,
    /// There is no such place.
    Unknown,
    /// This side is bound.
    Here {
        /// So is the other.
        both: bool,
    },
}

/// The payload of one UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// WireGuard's own.
    WireGuard(wireguard::Message),
    /// A check between two daemons, under their pair's key: the names in it cannot be forged.
    Check {
        /// Who asks.
        from: PublicKey,
        /// Who is asked.
        to: PublicKey,
        /// Its id.
        transaction: TransactionId,
        /// The tier of the candidate that it is sent to.
        tier: Tier,
        /// Whether its sender has chosen this path.
        nominated: bool,
    },
    /// The answer to a check, under their pair's key.
    Answer {
        /// Who answers.
        from: PublicKey,
        /// Who asked.
        to: PublicKey,
        /// The check's id.
        transaction: TransactionId,
    },
    /// A question to a STUN server (RFC 8489 section 3: Binding).
    Binding {
        /// Its id.
        id: u64,
        /// Whose rendezvous connection it proves the address for, if any.
        token: Option<HostId>,
    },
    /// The STUN server's answer.
    Bound {
        /// The question's id.
        id: u64,
        /// Where the question came from.
        mapped: SocketAddr,
    },
    /// A bind to a relay, under the key of the place that it names.
    Bind {
        /// Which place.
        credential: u64,
        /// Its id.
        transaction: TransactionId,
        /// Whether it carries the server's nonce, which proves that answers arrive.
        nonce: bool,
    },
    /// The relay's answer to a bind.
    BindAnswer {
        /// The bind's id.
        transaction: TransactionId,
        /// What it says.
        bound: Bound,
    },
    /// The server's probe of a candidate.
    Probe {
        /// What the daemon chose for it.
        nonce: u64,
    },
}
