//! The name of an announced service: recognised by those who know our public key, noise to all others.
//!
//! A name is `NONCE MAC`, both in lower-case hex: 12 random bytes and the first 16 bytes of
//! `HMAC-SHA256(public key, "wireplug lan v1" ‖ NONCE)` (RFC 2104). A WireGuard public key is known to the peers only, so
//! somebody else can neither tell whose a name is nor that two names are of the same host. A name may be repeated by
//! anybody who heard it; that wins nothing but checks, which prove who is there.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wireplug_core::PublicKey;

/// What makes this MAC another one than any other under the same key.
const LABEL: &[u8] = b"wireplug lan v1";

const NONCE: usize = 12;
const MAC: usize = 16;

/// The name of one announcement: 56 characters, within the 63 of a DNS label (RFC 1035 section 2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    nonce: [u8; NONCE],
    mac: [u8; MAC],
}

/// A text that is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a wireplug service: expected 56 hex digits")]
pub struct NotAName;

impl Name {
    /// The name for a key and a random nonce, which is never used again.
    pub fn new(key: &PublicKey, nonce: [u8; NONCE]) -> Self {
        Self { nonce, mac: mac(key, &nonce) }
    }

    /// Whether the host with this key may have made the name.
    pub fn is_of(&self, key: &PublicKey) -> bool {
        // Nothing secret is compared: a name that is guessed wrong is just not recognised.
        self.mac == mac(key, &self.nonce)
    }
}

fn mac(key: &PublicKey, nonce: &[u8; NONCE]) -> [u8; MAC] {
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        unreachable!("HMAC takes keys of any length")
    };
    hmac.update(LABEL);
    hmac.update(nonce);
    let full = hmac.finalize().into_bytes();
    std::array::from_fn(|index| full[index])
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nonce.iter().chain(&self.mac).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Name {
    type Err = NotAName;

    /// Reads a name in either case: DNS compares without it (RFC 6762 section 16).
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let digits = text.as_bytes();
        if digits.len() != 2 * (NONCE + MAC) {
            return Err(NotAName);
        }
        let mut bytes = [0; NONCE + MAC];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self {
            nonce: std::array::from_fn(|index| bytes[index]),
            mac: std::array::from_fn(|index| bytes[NONCE + index]),
        })
    }
}

fn digit(character: u8) -> Result<u8, NotAName> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        b'A'..=b'F' => Ok(character - b'A' + 10),
        _ => Err(NotAName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PublicKey = PublicKey::from_bytes([1; 32]);
    const OTHER: PublicKey = PublicKey::from_bytes([2; 32]);

    #[test]
    fn golden() {
        let name = Name::new(&ONE, [0xab; NONCE]);
        assert_eq!(
            name.to_string(),
            "abababababababababababab\
             dadec4dc77e0c4bd825b0c1e88cf9873"
        );
    }

    #[test]
    fn a_name_is_of_its_key_only_and_round_trips() {
        let name = Name::new(&ONE, [7; NONCE]);
        let text = name.to_string();
        assert!(text.len() <= 63);
        assert_eq!(text.parse(), Ok(name));
        assert_eq!(text.to_uppercase().parse(), Ok(name));
        assert!(name.is_of(&ONE) && !name.is_of(&OTHER));
        assert_ne!(Name::new(&ONE, [8; NONCE]).mac, name.mac);
    }

    #[test]
    fn other_texts_are_no_names() {
        let good = Name::new(&ONE, [7; NONCE]).to_string();
        for bad in
            ["", "printer", &good[1..], &format!("{good} (2)"), &good.replace('0', "g"), &"ä".repeat(28)]
        {
            assert!(bad == good || bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_tells_nothing_of_the_key() {
        let name = Name::new(&ONE, [7; NONCE]).to_string();
        assert!(!name.contains("01010101") && !name.contains(&ONE.to_string()[..6]));
    }
}
