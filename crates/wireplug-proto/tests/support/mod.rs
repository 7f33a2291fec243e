//! Keys and helpers that the tests share. Golden values were computed by another implementation (Python's
//! `cryptography` and `hmac`) from the documented formulas.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use wireplug_core::{PrivateKey, PublicKey, TransactionId};
use wireplug_proto::Pair;

pub(crate) const TOPIC: &str = "70d1b56efaa8237471fbec3463e55ab2b832d2056d21ede441d3468346815976";

/// Everything derived from [`low`]'s and [`high`]'s keys that must stay inside: name and hex.
pub(crate) const SECRETS: [(&str, &str); 7] = [
    ("own private key", "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"),
    ("shared secret", "a84dc7c3c8f058b1b2dc4cd1e9b5dc0a7987f88b6a9564cde3391fc421159e77"),
    ("pseudorandom key", "16c84fa135a2d16cd88509a96e195618d648f2b6554d397ed34e5b97ee00dd7c"),
    ("join token", "41d8a59d11b6eb68e50fbb7c687c38d8e62a85f3b4cfa2434848ad323adece02"),
    ("seal key out", "9f65f3a311eaee04351422ae2e8db5900ab766597e4c4df75784500199b2c1a4"),
    ("seal key in", "581fc75e4c9d9c54462039d9edc5850d1fc4336cd4608c2ca9b08d4dc87a2738"),
    ("check key", "3c45b9bcb1915f0f47e8fb2fb6706c4d821d8cd57eed27323176b97776221ab1"),
];

pub(crate) fn private(first: u8) -> PrivateKey {
    PrivateKey::from_bytes(std::array::from_fn(|i| first + u8::try_from(i).unwrap()))
}

pub(crate) fn low_public() -> PublicKey {
    PublicKey::from_bytes(array("07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"))
}

pub(crate) fn high_public() -> PublicKey {
    PublicKey::from_bytes(array("5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b"))
}

/// The pair as the side with the lower key sees it.
pub(crate) fn low() -> Pair {
    Pair::derive(&private(1), &high_public()).unwrap()
}

/// The same pair, seen from the other side.
pub(crate) fn high() -> Pair {
    Pair::derive(&private(33), &low_public()).unwrap()
}

/// A third machine and the high side.
pub(crate) fn stranger() -> Pair {
    Pair::derive(&private(99), &high_public()).unwrap()
}

pub(crate) fn transaction() -> TransactionId {
    TransactionId::from_bytes(std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap()))
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(crate) fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// Every message that differs from `message` in one byte, by one bit and by all bits.
pub(crate) fn mutations(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..message.len()).flat_map(|at| {
        [0x01, 0x80, 0xff].map(|mask| {
            let mut changed = message.to_vec();
            changed[at] ^= mask;
            changed
        })
    })
}
