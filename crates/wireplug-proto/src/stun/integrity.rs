//! MESSAGE-INTEGRITY-SHA256 (RFC 8489 section 14.6) under the pair's check key.

use hkdf::hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// HMAC-SHA256 over the parts in order.
///
/// The HMAC key is the check key as 64 lower-case hex digits, not its 32 bytes: to STUN it is the password of a
/// short-term credential (RFC 8489 section 9.1.1), and STUN libraries and Wireshark take passwords as text.
pub(super) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    keyed(key, parts).finalize().into_bytes().into()
}

/// Whether `expected` is the [`mac`] of the parts; takes the same time wherever they differ.
pub(super) fn verify(key: &[u8; 32], parts: &[&[u8]], expected: &[u8; 32]) -> bool {
    keyed(key, parts).verify_slice(expected).is_ok()
}

fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> Hmac<Sha256> {
    let password = password(key);
    // Proof: RFC 2104 section 3 takes keys of any length, and so does this implementation.
    #[expect(clippy::expect_used)]
    let mut hmac = Hmac::<Sha256>::new_from_slice(password.as_slice()).expect("any length will do");
    for part in parts {
        hmac.update(part);
    }
    hmac
}

fn password(key: &[u8; 32]) -> Zeroizing<[u8; 64]> {
    let mut text = Zeroizing::new([0; 64]);
    for (digits, byte) in text.chunks_exact_mut(2).zip(key) {
        digits.copy_from_slice(&hex_digits(*byte));
    }
    text
}

/// The bytes of lower-case hex digits, if these are exactly as many.
pub(super) fn from_hex_digits<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(digits[0])? << 4 | nibble(digits[1])?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A byte as two lower-case hex digits.
pub(super) const fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}
