//! The keys of the lab's interfaces: a test may play a peer, and must know what it looks for in logs.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use wireplug_core::{PrivateKey, PublicKey};
use wireplug_lab::{End, LabError, Result};
use wireplug_proto::Pair;

/// The private key of one side's interface, base64.
///
/// # Errors
/// When `wg` does not tell it.
pub fn private_key(end: &End) -> Result<String> {
    let text = end.host.run(&["wg", "show", end.wireguard.device(), "private-key"])?;
    Ok(text.trim().to_owned())
}

/// The pair of `here` and `there`, as `here` sees it: what `here`'s daemon has.
///
/// # Errors
/// When a key cannot be read.
pub fn pair_of(here: &End, there: &End) -> Result<Pair> {
    pair_of_keys(&private_key(here)?, there.wireguard.public_key())
}

/// The pair of a private and a public key, both base64.
///
/// # Errors
/// When one is not a key, or when they make no pair.
pub fn pair_of_keys(private: &str, public: &str) -> Result<Pair> {
    let unusable = |why: &str| LabError::unexpected(format!("the lab's keys make no pair: {why}"));
    let public: PublicKey = public.parse().map_err(|_| unusable("the public key is none"))?;
    let bytes = decode(private).ok_or_else(|| unusable("the private key is none"))?;
    Pair::derive(&PrivateKey::from_bytes(bytes), &public).map_err(|error| unusable(&error.to_string()))
}

/// Whether the first public key (base64) is the lower one: its side applies first.
pub fn is_lower(first: &str, second: &str) -> bool {
    decode(first) < decode(second)
}

/// The forms in which a 32-byte secret, given as base64, could slip out: base64 with and without padding,
/// hexadecimal, and the list of numbers of a derived `Debug`.
pub fn spellings(secret: &str) -> Vec<String> {
    let Some(bytes) = decode(secret) else { return vec![secret.to_owned()] };
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let numbers: Vec<_> = bytes[..8].iter().map(ToString::to_string).collect();
    vec![STANDARD_NO_PAD.encode(bytes), hex.to_uppercase(), hex, numbers.join(", ")]
}

fn decode(key: &str) -> Option<[u8; 32]> {
    STANDARD.decode(key).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_looked_for_in_every_form() {
        let secret = STANDARD.encode([0xab; 32]);
        let found = spellings(&secret);
        let debugged = format!("{:?}", [0xab_u8; 32]);
        for form in [&secret, &"ab".repeat(32), &"AB".repeat(32), &debugged] {
            assert!(found.iter().any(|spelling| form.contains(spelling)), "{form}");
        }
    }

    #[test]
    fn keys_are_ordered_as_bytes_not_as_text() {
        let key = |byte| STANDARD.encode([byte; 32]);
        assert!(is_lower(&key(0x01), &key(0xfe)));
        assert!(!is_lower(&key(0xff), &key(0x69)), "their base64 would say otherwise");
    }
}
