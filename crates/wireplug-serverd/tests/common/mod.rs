//! What several tests need.

#![allow(dead_code, unreachable_pub, missing_docs)] // each test uses a part of it
#![allow(clippy::unwrap_used)] // it is tests that fail here

use wireplug_core::{PrivateKey, PublicKey};
use wireplug_proto::{Pair, Side};

/// The two sides of a pair of keys, the low one first; another pair for another seed.
pub fn pairs(seed: u8) -> [Pair; 2] {
    let key = |side: u8| {
        let private = PrivateKey::from_bytes([seed.wrapping_mul(2).wrapping_add(side).wrapping_add(10); 32]);
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*private.expose()));
        (private, PublicKey::from_bytes(public.to_bytes()))
    };
    let ((a, a_public), (b, b_public)) = (key(0), key(1));
    let (one, other) = (Pair::derive(&a, &b_public).unwrap(), Pair::derive(&b, &a_public).unwrap());
    if one.side() == Side::Low { [one, other] } else { [other, one] }
}
