//! The relay's credential, and its frames over TLS; the same over UDP is [`crate::stun::relay`].
//!
//! A frame is one binary message of the WebSocket subprotocol [`SUBPROTOCOL`] at [`PATH`]. Its first byte is
//! its kind; the next two, in network order, are the channel: a number that the client chooses for each pair.
//!
//! ```text
//! 01 bind     channel, id (16), key (32)               client to server
//! 02 bound    channel, flags (1), lifetime (4), s      server to client; flag 1: the other side is bound too
//! 03 refused  channel, code (2)                        server to client
//! 04 data     channel, a WireGuard message             both ways
//! 05 unbind   channel                                  client to server
//! ```

use std::fmt;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The WebSocket subprotocol (RFC 6455 section 1.9) of the relay's frames.
pub const SUBPROTOCOL: &str = "wireplug.relay.v1";
/// The path of the relay's WebSocket.
pub const PATH: &str = "/relay";
/// The longest frame in bytes: the longest UDP payload over IPv4, and three bytes before it.
pub const MAX_FRAME: usize = HEADER + 65507;
/// Bytes before a data frame's packet: kind and channel.
pub const HEADER: usize = 3;

const BIND: u8 = 1;
const BOUND: u8 = 2;
const REFUSED: u8 = 3;
const DATA: u8 = 4;
const UNBIND: u8 = 5;

/// The first of a bound frame's flags: the other side is bound too.
pub(crate) const OTHER_SIDE: u8 = 1;

/// Names one side of an allocation on the server; random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId([u8; 16]);

/// What shows that a binding is by the side that the [`CredentialId`] names; random. `Debug` prints nothing of
/// it; it is wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CredentialKey([u8; 32]);

/// What the server gives one side of a pair to bind with, for as long as the connection lives that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name.
    pub id: CredentialId,
    /// The secret.
    pub key: CredentialKey,
}

impl CredentialId {
    /// An id from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl CredentialKey {
    /// A key from its bytes, which must be random.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes: secret.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(…)")
    }
}

/// What a binding gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The other side is bound too: packets pass now.
    pub other_side: bool,
    /// How long this binding lasts without a packet; whole seconds.
    pub lifetime: Duration,
}

/// Why the server does not bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum BindRefusal {
    /// The credential is not known, or no longer: ask for an allocation again (401, RFC 8489 section 14.8).
    Unknown = 401,
    /// This source has another pair's binding at this relay port: use another port (437, RFC 8656 section 17).
    Taken = 437,
    /// The server has no room (486, RFC 8656 section 17).
    Full = 486,
}

impl BindRefusal {
    /// The refusal of a code, if there is one.
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            401 => Some(Self::Unknown),
            437 => Some(Self::Taken),
            486 => Some(Self::Full),
            _ => None,
        }
    }
}

/// One frame over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The client binds the channel, or asks whether it still is bound.
    Bind {
        /// The pair's channel.
        channel: u16,
        /// As `Allocated` said.
        credential: Credential,
    },
    /// The channel is bound.
    Bound {
        /// The pair's channel.
        channel: u16,
        /// What that gives.
        bound: Bound,
    },
    /// The channel is not bound.
    Refused {
        /// The pair's channel.
        channel: u16,
        /// Why.
        refusal: BindRefusal,
    },
    /// A packet from the other side, or to it.
    Data {
        /// The pair's channel.
        channel: u16,
        /// What may be a WireGuard message: [`crate::wireguard::kind`] tells.
        packet: &'a [u8],
    },
    /// The client needs the channel no more.
    Unbind {
        /// The pair's channel.
        channel: u16,
    },
}

impl<'a> Frame<'a> {
    /// Reads one binary message; `None` if it is none of these, which is to be ignored.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let ([kind, c0, c1], rest) = message.split_first_chunk::<HEADER>()?;
        let channel = u16::from_be_bytes([*c0, *c1]);
        match (*kind, rest.len()) {
            (BIND, 48) => {
                let (id, key) = rest.split_first_chunk::<16>()?;
                let key = CredentialKey::from_bytes(key.try_into().ok()?);
                Some(Self::Bind { channel, credential: Credential { id: CredentialId(*id), key } })
            }
            (BOUND, 5) => {
                let (flags, seconds) = rest.split_first()?;
                let seconds = u32::from_be_bytes(seconds.try_into().ok()?);
                let bound = Bound {
                    other_side: flags & OTHER_SIDE != 0,
                    lifetime: Duration::from_secs(u64::from(seconds)),
                };
                Some(Self::Bound { channel, bound })
            }
            (REFUSED, 2) => {
                let refusal = BindRefusal::from_code(u16::from_be_bytes(rest.try_into().ok()?))?;
                Some(Self::Refused { channel, refusal })
            }
            (DATA, _) => Some(Self::Data { channel, packet: rest }),
            (UNBIND, 0) => Some(Self::Unbind { channel }),
            _ => None,
        }
    }

    /// The frame as one binary message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Bind { channel, credential } => {
                message(BIND, *channel, &[credential.id.as_bytes(), credential.key.expose()])
            }
            Self::Bound { channel, bound } => {
                let seconds = lifetime_seconds(bound.lifetime).to_be_bytes();
                message(BOUND, *channel, &[&[u8::from(bound.other_side) * OTHER_SIDE], &seconds])
            }
            Self::Refused { channel, refusal } => {
                message(REFUSED, *channel, &[&(*refusal as u16).to_be_bytes()])
            }
            Self::Data { channel, packet } => message(DATA, *channel, &[packet]),
            Self::Unbind { channel } => message(UNBIND, *channel, &[]),
        }
    }
}

/// The three bytes that stand before a data frame's packet, for those who write it in place.
pub const fn data_header(channel: u16) -> [u8; HEADER] {
    let [c0, c1] = channel.to_be_bytes();
    [DATA, c0, c1]
}

pub(crate) fn lifetime_seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

fn message(kind: u8, channel: u16, parts: &[&[u8]]) -> Vec<u8> {
    let [c0, c1] = channel.to_be_bytes();
    let mut message = Vec::with_capacity(HEADER + parts.iter().map(|part| part.len()).sum::<usize>());
    message.extend([kind, c0, c1]);
    for part in parts {
        message.extend_from_slice(part);
    }
    message
}
