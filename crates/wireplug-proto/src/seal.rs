//! Sealing: an offer between the pair's two ends and nobody else.
//!
//! ```text
//! sealed    = version (1 byte, 1) ‖ nonce (24 bytes) ‖ XChaCha20-Poly1305(key of the direction, nonce, aad, plaintext)
//! aad       = version ‖ topic (32 bytes) ‖ side of the sender (1 byte: 0 low, 1 high)
//! plaintext = length of the offer (2 bytes, network order) ‖ offer ‖ zeros up to 256, 512, 1024 or 2048 bytes
//! ```
//!
//! The padding keeps the server from counting candidates. Whether an offer is newer than the last one is
//! judged by its version, not here.

use wireplug_core::Offer;
use zeroize::Zeroizing;

use crate::envelope::{self, Unopened, VERSION, sealed_size};
use crate::offer;
use crate::pair::{Pair, Side};

/// Bytes of the length before the offer.
const LENGTH: usize = 2;
/// What a plaintext is padded to, in bytes: a few candidates, a usual host, and [`offer::MAX_ENCODED`].
const SIZES: [usize; 4] = [256, 512, 1024, 2048];

/// The longest sealed offer in bytes.
pub const MAX_SEALED: usize = sealed_size(SIZES[SIZES.len() - 1]);

const _: () =
    assert!(offer::MAX_ENCODED + LENGTH <= SIZES[SIZES.len() - 1], "every offer fits the last size");

/// Why a sealed offer was refused. None of it says that the peer did anything: a server can send what it likes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not one of the lengths that a sealed offer has.
    #[error("a sealed offer cannot have {0} bytes: ignored")]
    Size(usize),
    /// Sealed by a later version of wireplug.
    #[error(
        "the offer is sealed in version {0}, this wireplug knows version {VERSION}: update the older side"
    )]
    Version(u8),
    /// Not sealed by the peer, not for this side, or altered on its way.
    #[error("the offer is not from this peer, or was altered on its way: ignored")]
    Forged,
    /// Sealed by the peer, but not an offer.
    #[error("the peer sealed an offer that cannot be read ({0}): update the older side")]
    Malformed(&'static str),
}

impl Pair {
    /// Seals an offer for the peer. `nonce` must be random and fresh for every call. Candidates beyond
    /// [`wireplug_core::MAX_CANDIDATES`] are left out, scopes of link-local addresses are not sent.
    /// At most [`MAX_SEALED`] bytes.
    pub fn seal(&self, offer: &Offer, nonce: [u8; 24]) -> Vec<u8> {
        let plain = pad(&Zeroizing::new(offer::encode(offer)));
        envelope::seal(self.seal_out(), &aad(self, self.side()), nonce, &plain)
    }

    /// Opens what the peer sealed.
    ///
    /// # Errors
    /// [`OpenError`] says whether it was not the peer's or not to be understood; both mean: ignore it.
    pub fn open(&self, sealed: &[u8]) -> Result<Offer, OpenError> {
        let size = OpenError::Size(sealed.len());
        let can_be = SIZES.iter().any(|plain| sealed_size(*plain) == sealed.len());
        if sealed.first() == Some(&VERSION) && !can_be {
            return Err(size);
        }
        let opened = envelope::open(self.seal_in(), &aad(self, self.side().other()), sealed);
        let plain = opened.map_err(|why| match why {
            Unopened::Size => size,
            Unopened::Version(version) => OpenError::Version(version),
            Unopened::Foreign => OpenError::Forged,
        })?;
        offer::decode(unpad(&plain)?).map_err(|_| OpenError::Malformed("its fields"))
    }
}

/// What is authenticated beside the offer.
fn aad(pair: &Pair, sender: Side) -> [u8; 34] {
    let mut aad = [0; 34];
    aad[0] = VERSION;
    aad[1..33].copy_from_slice(pair.topic().as_bytes());
    aad[33] = sender as u8;
    aad
}

fn pad(encoded: &[u8]) -> Zeroizing<Vec<u8>> {
    let used = LENGTH + encoded.len();
    let size = SIZES.into_iter().find(|size| used <= *size).unwrap_or(SIZES[SIZES.len() - 1]);
    let mut plain = Zeroizing::new(Vec::with_capacity(size));
    // Proof: `encode` gives at most MAX_ENCODED bytes, asserted above to fit the last size and so a u16.
    #[expect(clippy::cast_possible_truncation)]
    plain.extend_from_slice(&(encoded.len() as u16).to_be_bytes());
    plain.extend_from_slice(encoded);
    plain.resize(size, 0);
    plain
}

fn unpad(plain: &[u8]) -> Result<&[u8], OpenError> {
    let (length, rest) = plain.split_first_chunk::<LENGTH>().ok_or(OpenError::Malformed("its length"))?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (encoded, padding) = rest.split_at_checked(length).ok_or(OpenError::Malformed("its length"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(OpenError::Malformed("its padding"));
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_comes_off() {
        for length in [0, 1, 254, 255, 1000, 2046] {
            let plain = pad(&vec![7; length]);
            assert!(SIZES.contains(&plain.len()), "{length}");
            assert_eq!(unpad(&plain), Ok(&vec![7; length][..]));
        }
    }

    #[test]
    fn a_plaintext_that_lies_about_itself_is_refused() {
        let mut too_long = vec![0; 256];
        too_long[..2].copy_from_slice(&255_u16.to_be_bytes());
        assert_eq!(unpad(&too_long), Err(OpenError::Malformed("its length")));
        let mut hidden = vec![0; 256];
        hidden[200] = 1;
        assert_eq!(unpad(&hidden), Err(OpenError::Malformed("its padding")));
        assert_eq!(unpad(&[0]), Err(OpenError::Malformed("its length")));
    }
}
