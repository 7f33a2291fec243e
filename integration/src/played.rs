//! Daemons that a test plays by hand, word by word, over real sockets: a [`Member`] at the rendezvous, a [`Port`] in
//! the WireGuard port's place that binds and sends, and a [`Leg`] of the relay over TLS. A [`Scene`] is a
//! server with its relay, and hosts for them.

mod leg;
mod member;
mod port;
mod scene;
mod wire;

pub use leg::{Leg, Said};
pub use member::{Answer, Member};
pub use port::Port;
pub use scene::{Relayed, Scene, one_way, pass};
pub use wire::{Socket, Stream, Way, open};

use wireplug_core::{PrivateKey, PublicKey};
use wireplug_lab::{LabError, Result};
use wireplug_proto::{Pair, Side};

/// A new pair's two sides, the low one first.
///
/// # Errors
/// Never, for random keys.
pub fn pair() -> Result<[Pair; 2]> {
    let keys = [(); 2].map(|()| {
        let private = PrivateKey::from_bytes(crate::random());
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*private.expose()));
        (private, PublicKey::from_bytes(public.to_bytes()))
    });
    let derive = |ours: usize, theirs: usize| {
        Pair::derive(&keys[ours].0, &keys[theirs].1)
            .map_err(|error| LabError::unexpected(format!("random keys make no pair: {error}")))
    };
    let (one, other) = (derive(0, 1)?, derive(1, 0)?);
    Ok(if one.side() == Side::Low { [one, other] } else { [other, one] })
}

/// What looks like a data message of WireGuard's, with a number to know it again; 48 bytes.
pub fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0; 48];
    packet[0] = 4;
    packet[44..].copy_from_slice(&number.to_be_bytes());
    packet
}
