//! For the fuzz targets: the offer and the kept file without their seals, which no fuzzer can make. Not an interface to
//! build upon.

use wireplug_core::Offer;

use crate::kept::{self, Kept};
use crate::offer;

/// The longest encoding of an offer in bytes.
pub const MAX_ENCODED: usize = offer::MAX_ENCODED;

/// An offer's bytes before they are sealed.
pub fn encode_offer(offer: &Offer) -> Vec<u8> {
    offer::encode(offer)
}

/// An offer from its bytes.
pub fn decode_offer(bytes: &[u8]) -> Option<Offer> {
    offer::decode(bytes).ok()
}

/// The bytes of what is kept before they are sealed.
pub fn encode_kept(kept: &Kept) -> Vec<u8> {
    kept::encode(kept)
}

/// What is kept from its bytes.
pub fn decode_kept(bytes: &[u8]) -> Option<Kept> {
    kept::decode(bytes).ok()
}
