//! Sealed offers: for the peer, from the peer, and nobody else.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::*;
use wireplug_core::{
    Endpoint, MAX_CANDIDATES, Mapping, Offer, OfferVersion, Reach, RemoteCandidate, StrategyName, Tier,
};
use wireplug_proto::{MAX_SEALED, OpenError};

const NONCE: [u8; 24] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

const GOLDEN: &str = "
01000102030405060708090a0b0c0d0e0f10111213141516177f3fed09b7e711acfcfdb278883b60e8416e632b681ec709d5
de177f89ab1a8ac5bd8f678014a9b7eb09afdf5af84abf623f3077a12c0b8bd75160dccb42cb639bc7d32b71752878d36568
29f21cca0e50f47bd8eeb7c0ee4fb2d1520c4841d7aec233471e65063f16e65ee058c15e17ea002cc9c7953aa8a9c2a1b3cf
b4a44a800cd7437b281ef86080da7f86967405e776c9534d5ed98ccbddb92bb36ce39312a7b88cad815c50d97df92f8aae12
9da51f932c381812fd38652dc6b8c7d4ec8faa007109009dd3118dea11503e291d50c0fb5c8c985817bc7ca5a99e29b65b00
7f9903b7cd0eb3a1776e4128e45633fa0224dc23959e4332cd04f37e72172c330591c81d5ea078d5e8aae71d817077";

fn candidate(endpoint: &str, strategy: &str, tier: Tier, reach: Reach) -> RemoteCandidate {
    let endpoint = Endpoint::new(endpoint.parse().unwrap()).unwrap();
    RemoteCandidate { endpoint, strategy: strategy.parse().unwrap(), tier, reach }
}

fn offer() -> Offer {
    Offer {
        version: OfferVersion { instance: 0x0102_0304_0506_0708, generation: 3, revision: 4 },
        candidates: vec![
            candidate("203.0.113.7:51820", "hole-punch", Tier::Punched, Reach::Filtered),
            candidate("[2a00::7]:51820", "direct", Tier::Direct, Reach::Open),
        ],
        mapping: Mapping::Fixed,
        doubts: false,
    }
}

#[test]
fn golden_bytes() {
    assert_eq!(hex(&low().seal(&offer(), NONCE)), hex(&bytes(GOLDEN)));
    assert_eq!(high().open(&bytes(GOLDEN)), Ok(offer()));
}

#[test]
fn only_the_other_side_opens() {
    let sealed = low().seal(&offer(), NONCE);
    assert_eq!(high().open(&sealed), Ok(offer()));
    assert_eq!(low().open(&sealed), Err(OpenError::Forged), "reflected to its sender");
    assert_eq!(stranger().open(&sealed), Err(OpenError::Forged), "another pair's");
}

#[test]
fn every_byte_is_authenticated() {
    let (low, high) = (low(), high());
    let sealed = low.seal(&offer(), NONCE);
    for changed in mutations(&sealed) {
        assert!(high.open(&changed).is_err());
    }
}

#[test]
fn every_other_length_is_refused() {
    let (low, high) = (low(), high());
    let mut sealed = low.seal(&offer(), NONCE);
    for shorter in 0..sealed.len() {
        assert!(matches!(high.open(&sealed[..shorter]), Err(OpenError::Size(_))), "{shorter}");
    }
    sealed.push(0);
    assert_eq!(high.open(&sealed), Err(OpenError::Size(sealed.len())));
    sealed.resize(1 << 20, 0);
    assert_eq!(high.open(&sealed), Err(OpenError::Size(1 << 20)));
}

#[test]
fn a_later_version_is_told_as_such() {
    let mut sealed = low().seal(&offer(), NONCE);
    sealed[0] = 2;
    assert_eq!(high().open(&sealed), Err(OpenError::Version(2)));
}

#[test]
fn length_does_not_tell_how_many_candidates() {
    let mut offer = offer();
    offer.candidates.truncate(1);
    let one = low().seal(&offer, NONCE).len();
    offer.candidates.clear();
    assert_eq!(low().seal(&offer, NONCE).len(), one);
    assert_eq!(one, 1 + 24 + 256 + 16);
}

#[test]
fn the_longest_offer_fits_and_what_is_beyond_is_left_out() {
    let longest = candidate(
        "[2a00:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        &"s".repeat(32),
        Tier::RelayTls,
        Reach::Filtered,
    );
    let offer = Offer {
        version: OfferVersion { instance: u64::MAX, generation: u32::MAX, revision: u32::MAX },
        candidates: vec![longest; MAX_CANDIDATES + 1],
        mapping: Mapping::DestinationDependent,
        doubts: true,
    };
    let sealed = low().seal(&offer, NONCE);
    assert!(sealed.len() <= MAX_SEALED);
    let opened = high().open(&sealed).unwrap();
    assert_eq!(opened.candidates, offer.candidates[..MAX_CANDIDATES]);
    assert_eq!(opened.version, offer.version);
}

#[test]
fn scopes_are_not_sent() {
    let mut offer = offer();
    offer.candidates = vec![candidate("[fe80::1%7]:9", "direct", Tier::Lan, Reach::Filtered)];
    let opened = high().open(&low().seal(&offer, NONCE)).unwrap();
    assert_eq!(opened.candidates[0].endpoint.addr(), "[fe80::1]:9".parse().unwrap());
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into());
    let v6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into());
    prop_oneof![v4, v6].prop_filter_map("not an endpoint", |addr| Endpoint::new(addr).ok())
}

fn any_candidate() -> impl Strategy<Value = RemoteCandidate> {
    (any_endpoint(), "[a-z0-9-]{1,32}", 0..6u8, 0..2u8).prop_map(|(endpoint, strategy, tier, reach)| {
        RemoteCandidate {
            endpoint,
            strategy: strategy.parse::<StrategyName>().unwrap(),
            tier: Tier::from_number(tier).unwrap(),
            reach: Reach::from_number(reach).unwrap(),
        }
    })
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let version = (any::<u64>(), any::<u32>(), any::<u32>());
    (version, vec(any_candidate(), 0..=MAX_CANDIDATES), 0..4u8, any::<bool>()).prop_map(
        |((instance, generation, revision), candidates, mapping, doubts)| Offer {
            doubts,
            version: OfferVersion { instance, generation, revision },
            candidates,
            mapping: Mapping::from_number(mapping),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn offers_round_trip(offer in any_offer(), nonce: [u8; 24]) {
        let sealed = high().seal(&offer, nonce);
        prop_assert!(sealed.len() <= MAX_SEALED);
        prop_assert_eq!(low().open(&sealed), Ok(offer));
    }

    #[test]
    fn anything_else_is_refused(junk in vec(any::<u8>(), 0..MAX_SEALED + 8)) {
        prop_assert!(low().open(&junk).is_err());
    }

    #[test]
    fn junk_of_a_right_length_is_refused(size in 0..4usize, version in 0..3u8, fill in vec(any::<u8>(), 64)) {
        let length = [256, 512, 1024, 2048][size] + 41;
        let mut junk: Vec<u8> = fill.into_iter().cycle().take(length).collect();
        junk[0] = version;
        prop_assert!(low().open(&junk).is_err());
    }
}
