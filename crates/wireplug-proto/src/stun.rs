//! STUN from and to the WireGuard port (RFC 8489), so that one socket filter finds all that is ours.
//!
//! | message | between | codec |
//! |---|---|---|
//! | check: Binding with MESSAGE-INTEGRITY-SHA256 under the pair's key | the two daemons | [`check`] |
//! | Binding, to learn a mapping and to own an address | daemon and server | [`binding`] |
//! | probe: Binding indication with a nonce | server to daemon | [`probe`] |
//! | bind: Binding with MESSAGE-INTEGRITY-SHA256 under a credential of the server's | daemon and relay | [`relay`] |
//!
//! [`classify`] sorts what arrives by looks, without any key; only then is a MAC computed, for one pair at most.
//! Attributes are written and typed by the `stun-types` crate. Its reader is not used, because it warns in
//! the log for every malformed datagram, which strangers can send at will, nor are its message integrity
//! helpers, because they record the key in their trace spans and keep it unwiped.

pub mod binding;
pub mod check;
pub mod probe;
pub mod relay;

mod frame;
mod integrity;
mod writer;

use wireplug_core::TransactionId;

use crate::pair::CheckTag;
use frame::{Class, Frame};

/// The second word of every STUN message, in network order (RFC 8489 section 5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Where the magic cookie is, in bytes from the start of the UDP payload (RFC 8489 section 5).
pub const MAGIC_COOKIE_OFFSET: usize = 4;
/// The longest message that is looked at, in bytes: what fits the IPv6 minimum MTU of 1280 with its headers.
/// Ours are at most 128 long.
pub const MAX_MESSAGE: usize = 1232;

/// Attributes of our own, from the comprehension-optional half (RFC 8489 section 14) where IANA has assigned
/// none: others skip them.
mod private {
    /// The ownership token of a connection, 16 bytes, in a request to the server.
    pub(super) const TOKEN: u16 = 0xe0d1;
    /// The nonce of a verification, 16 bytes, in a probe.
    pub(super) const NONCE: u16 = 0xe0d2;
    /// Zeros that make a request as long as its longest answer. Not PADDING of RFC 5780 section 7.6, which
    /// makes the server answer with a full MTU.
    pub(super) const FILLER: u16 = 0xe0d3;
    /// A counter of 8 bytes in network order, in a request to a relay.
    pub(super) const ORDER: u16 = 0xe0d4;
    /// Flags and lifetime of a relay's binding, 4 bytes each in network order.
    pub(super) const BOUND: u16 = 0xe0d5;
}

/// What a datagram with the magic cookie looks like. Nothing of it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// A check of the pair with this tag, if it is genuine: [`crate::Pair::open_check_request`] tells.
    CheckRequest {
        /// Of the request.
        transaction: TransactionId,
        /// For the look-up of the pair.
        tag: CheckTag,
    },
    /// An answer to a check ([`crate::Pair::open_check_response`]) or from a server
    /// ([`binding::parse_response`]): whoever sent the request knows.
    Response {
        /// Of the request.
        transaction: TransactionId,
    },
    /// A server's verification probe.
    Probe {
        /// As it was asked for.
        nonce: [u8; 16],
    },
    /// Nothing of ours.
    Other,
}

/// Sorts a datagram's payload. Cheap: one pass over at most [`MAX_MESSAGE`] bytes, no key, no allocation.
pub fn classify(payload: &[u8]) -> Incoming {
    let Some(frame) = Frame::parse(payload) else { return Incoming::Other };
    let transaction = frame.transaction();
    match frame.class() {
        Class::Request => {
            check::tag(&frame).map_or(Incoming::Other, |tag| Incoming::CheckRequest { transaction, tag })
        }
        Class::Success | Class::Error => Incoming::Response { transaction },
        Class::Indication => probe::nonce(&frame).map_or(Incoming::Other, |nonce| Incoming::Probe { nonce }),
    }
}
