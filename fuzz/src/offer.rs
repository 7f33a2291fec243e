//! Offers, sealed and not.

use std::sync::OnceLock;

use wireplug_core::{MAX_CANDIDATES, PrivateKey, PublicKey};
use wireplug_proto::fuzzing::{MAX_ENCODED, decode_offer, encode_offer};
use wireplug_proto::{MAX_SEALED, Pair};

/// The two sides of one pair; their keys are those of docs/PROTOCOL.md.
pub(crate) struct Sides {
    pub(crate) low: Pair,
    pub(crate) high: Pair,
}

impl Sides {
    #[expect(clippy::expect_used, reason = "both keys are known to be good")]
    pub(crate) fn get() -> &'static Self {
        /// The public keys of the private keys 1, 2, ... 32 and 33, 34, ... 64.
        const PUBLIC: [&str; 2] =
            ["B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=", "WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpns="];
        static SIDES: OnceLock<Sides> = OnceLock::new();
        let pair = |first: u8, other: &str| {
            let other: PublicKey = other.parse().expect("base64 of 32 bytes");
            let mut own = [0; 32];
            own.iter_mut().zip(first..).for_each(|(byte, value)| *byte = value);
            Pair::derive(&PrivateKey::from_bytes(own), &other).expect("not a point of low order")
        };
        SIDES.get_or_init(|| Self { low: pair(1, PUBLIC[1]), high: pair(33, PUBLIC[0]) })
    }
}

pub(crate) fn offer(data: &[u8]) {
    let Sides { low, high } = Sides::get();
    // As it comes from the server: whatever opens was sealed by the peer, byte for byte.
    if let Ok(opened) = low.open(data) {
        let nonce = *data[1..].first_chunk::<24>().unwrap_or(&[0; 24]);
        assert_eq!(high.seal(&opened, nonce), data);
    }
    // As the peer may have sealed it.
    let Some(offer) = decode_offer(data) else { return };
    assert!(offer.candidates.len() <= MAX_CANDIDATES);
    let encoded = encode_offer(&offer);
    assert!(encoded.len() <= MAX_ENCODED);
    assert_eq!(decode_offer(&encoded).as_ref(), Some(&offer));
    let mut sealed = high.seal(&offer, [7; 24]);
    assert!(sealed.len() <= MAX_SEALED);
    assert_eq!(low.open(&sealed).as_ref(), Ok(&offer));
    assert!(high.open(&sealed).is_err(), "one's own offer came back and was taken");
    let at = data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % sealed.len();
    sealed[at] ^= 1;
    assert!(low.open(&sealed).is_err(), "byte {at} was altered");
}
