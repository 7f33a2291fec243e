//! Bytes on the wire, without IO, clock or randomness: what two daemons and their server say to each other.
//!
//! Four conversations, each a codec of its own:
//!
//! | who | over | what | where |
//! |---|---|---|---|
//! | peer to peer, through the server | inside `Publish` and `Offer` | the sealed [`Offer`](wireplug_core::Offer) | [`Pair::seal`], [`Pair::open`] |
//! | daemon and server | WebSocket, subprotocol `wireplug.v1` | topics, offers, verification | [`rendezvous`] |
//! | peer and peer, daemon and server | UDP, from the WireGuard port | checks, mappings, probes, bindings | [`stun`] |
//! | daemon and relay | WebSocket, subprotocol `wireplug.relay.v1` | WireGuard's packets, where UDP is blocked | [`relay`] |
//!
//! And one that it has with itself: what it keeps on disk, [`kept`].
//!
//! All secrets between two come from one place, [`Pair`]: the X25519 secret of an interface's key and a peer's.
//! Whatever is random (nonces, transaction ids, instance ids) is a parameter, so the same input gives the
//! same bytes. Decoders accept any input, never panic, and allocate no more than the input is long.

mod envelope;
#[doc(hidden)]
pub mod fuzzing;
pub mod kept;
mod offer;
mod pair;
pub mod relay;
pub mod rendezvous;
mod seal;
pub mod stun;
pub mod wireguard;

pub use pair::{CheckTag, Commitment, JoinToken, Pair, PairError, Side, Topic, verify_join};
pub use seal::{MAX_SEALED, OpenError};
