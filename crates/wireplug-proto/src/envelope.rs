//! What all that is sealed has in common.
//!
//! ```text
//! sealed = version (1 byte, 1) ‖ nonce (24 bytes) ‖ XChaCha20-Poly1305(key, nonce, aad, plaintext)
//! ```

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// The version of this layout.
pub(crate) const VERSION: u8 = 1;
/// Bytes of a nonce of `XChaCha20`.
const NONCE: usize = 24;
/// Bytes of a Poly1305 tag (RFC 8439 section 2.5).
const TAG: usize = 16;

/// Why something sealed was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It is too short.
    Size,
    /// It is of another version.
    Version(u8),
    /// It was sealed with another key or something else beside it, or altered.
    Foreign,
}

/// How long it is with so many bytes in it.
pub(crate) const fn sealed_size(plain: usize) -> usize {
    1 + NONCE + plain + TAG
}

/// Seals; `nonce` must be random and fresh for every call.
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], nonce: [u8; NONCE], plain: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(key.into());
    // Proof: XChaCha20-Poly1305 fails on 256 GiB or more only (RFC 8439 section 2.8); all that we seal is below 1 MiB.
    #[expect(clippy::expect_used)]
    let body = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad })
        .expect("less than 1 MiB is not too long");
    [&[VERSION][..], &nonce, &body].concat()
}

/// The reverse.
pub(crate) fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (version, rest) = sealed.split_first().ok_or(Unopened::Size)?;
    if *version != VERSION {
        return Err(Unopened::Version(*version));
    }
    let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(Unopened::Size)?;
    let cipher = XChaCha20Poly1305::new(key.into());
    let plain = cipher.decrypt(&XNonce::from(*nonce), Payload { msg: body, aad });
    plain.map(Zeroizing::new).map_err(|_| Unopened::Foreign)
}
