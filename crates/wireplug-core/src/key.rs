//! WireGuard keys: 32 bytes of Curve25519, written as base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

/// A WireGuard public key. `Display` is the base64 form of `wg show`; `Debug` is its first eight characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// A WireGuard private key. It is wiped when dropped, and neither `Debug` nor anything else prints it.
#[derive(Clone)]
pub struct PrivateKey([u8; 32]);

/// Why a text is not a WireGuard key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a WireGuard key: expected 44 characters of base64, as `wg pubkey` prints them")]
pub struct ParseKeyError(String);

impl PublicKey {
    /// A key from its 32 bytes, in the order of the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's 32 bytes, in the order of the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight characters, for logs: enough to tell peers apart.
    pub fn short(&self) -> String {
        let mut text = STANDARD.encode(self.0);
        text.replace_range(8.., "…");
        text
    }
}

impl PrivateKey {
    /// A key from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's 32 bytes: for key agreement only.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text).map_err(|_| ParseKeyError(text.to_owned()))?;
        Ok(Self(bytes.try_into().map_err(|_| ParseKeyError(text.to_owned()))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let key = PublicKey::from_bytes([7; 32]);
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
    }

    #[test]
    fn a_short_key_is_refused_with_its_text() {
        let error = "AAAA".parse::<PublicKey>().unwrap_err();
        assert!(error.to_string().contains("\"AAAA\""), "{error}");
    }

    #[test]
    fn debug_prints_no_secret() {
        let key = PrivateKey::from_bytes([0x55; 32]);
        assert_eq!(format!("{key:?}"), "PrivateKey(redacted)");
    }
}
