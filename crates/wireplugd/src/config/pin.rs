//! Pins: the public key that a server must show.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7, DER), written
/// `sha256/BASE64` as `wireplug-serverd pin` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// Why a text is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a pin: expected \"sha256/\" and 44 characters of base64, as `wireplug-serverd pin` prints it"
)]
pub struct BadPin(String);

impl Pin {
    /// The pin of a `SubjectPublicKeyInfo` in DER.
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        Self(Sha256::digest(spki_der).into())
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("sha256/")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| BadPin(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let pin = Pin::of_public_key(b"a key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }

    #[test]
    fn other_hashes_and_lengths_are_refused() {
        let good = Pin::of_public_key(b"a key").to_string();
        for bad in ["", "sha256/", "sha256/AAAA", &good.replace("sha256", "sha1"), &good[7..]] {
            let error = bad.parse::<Pin>().unwrap_err().to_string();
            assert!(error.contains("wireplug-serverd pin"), "{error}");
        }
    }
}
