//! What follows from two keys.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use support::*;
use wireplug_core::{PrivateKey, PublicKey};
use wireplug_proto::{Commitment, JoinToken, Pair, PairError, Side, Topic, verify_join};

#[test]
fn golden_values() {
    let (low, high) = (low(), high());
    assert_eq!((low.side(), high.side()), (Side::Low, Side::High));
    assert_eq!(hex(low.topic().as_bytes()), TOPIC);
    assert_eq!(hex(low.token().expose()), "41d8a59d11b6eb68e50fbb7c687c38d8e62a85f3b4cfa2434848ad323adece02");
    assert_eq!(
        hex(high.token().expose()),
        "e629e7067ffd576fe24a13a4a9b1bd440f8145fef4bbeddf2e3ec53d5f3fa91c"
    );
    assert_eq!(hex(low.tag_out().as_bytes()), "898636087f9ef63c");
    assert_eq!(hex(high.tag_out().as_bytes()), "219cd2a956a8c432");
}

#[test]
fn both_sides_see_the_same_pair_from_opposite_ends() {
    let (low, high) = (low(), high());
    assert_eq!(low.topic(), high.topic());
    assert_eq!(low.tag_out(), high.tag_in());
    assert_eq!(low.tag_in(), high.tag_out());
    assert_ne!(low.tag_in(), low.tag_out());
    assert_eq!(low.other_commitment(), high.token().commitment());
    assert_eq!(high.other_commitment(), low.token().commitment());
}

#[test]
fn another_peer_makes_another_pair() {
    let (low, other) = (low(), stranger());
    assert_ne!(low.topic(), other.topic());
    assert_ne!(low.token(), other.token());
}

#[test]
fn each_side_may_join_its_topic() {
    for pair in [low(), high()] {
        assert!(verify_join(&pair.topic(), pair.side(), pair.token(), &pair.other_commitment()));
    }
}

#[test]
fn others_may_not_join() {
    let (low, high, stranger) = (low(), high(), stranger());
    let topic = low.topic();
    let made_up = JoinToken::from_bytes([7; 32]);
    let swapped = verify_join(&topic, Side::High, low.token(), &high.token().commitment());
    assert!(!swapped, "a token joins on its own side only");
    assert!(!verify_join(&topic, Side::Low, &made_up, &low.other_commitment()));
    assert!(!verify_join(&topic, Side::Low, stranger.token(), &stranger.other_commitment()));
    assert!(!verify_join(&topic, Side::Low, low.token(), &Commitment::from_bytes([0; 32])));
    assert!(!verify_join(&Topic::from_bytes([9; 32]), Side::Low, low.token(), &low.other_commitment()));
    let commitment = *high.other_commitment().as_bytes();
    let replayed = JoinToken::from_bytes(commitment);
    assert!(!verify_join(&topic, Side::Low, &replayed, &low.other_commitment()), "a commitment is no token");
}

#[test]
fn ones_own_key_is_no_peer() {
    let error = Pair::derive(&private(1), &low_public()).unwrap_err();
    assert_eq!(error, PairError::OwnKey(low_public()));
    assert!(error.to_string().contains(&low_public().to_string()), "{error}");
}

#[test]
fn points_of_small_order_are_refused() {
    // RFC 7748 section 6.1 and the list of https://cr.yp.to/ecdh.html#validate: 0, 1, two of order 8, p - 1, p, p + 1.
    for weak in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let peer = PublicKey::from_bytes(array(weak));
        assert_eq!(Pair::derive(&private(1), &peer).unwrap_err(), PairError::WeakKey(peer), "{weak}");
    }
}

#[test]
fn an_unclamped_private_key_is_the_clamped_one() {
    let mut clamped = *private(1).expose();
    clamped[0] &= 0xf8;
    clamped[31] = clamped[31] & 0x7f | 0x40;
    let pair = Pair::derive(&PrivateKey::from_bytes(clamped), &high_public()).unwrap();
    assert_eq!(pair.topic(), low().topic());
}

#[test]
fn debug_prints_no_secret() {
    let pair = low();
    let printed = format!("{pair:?} {:#?} {:?}", pair, pair.token());
    assert!(printed.contains("70d1b56e…"), "{printed}");
    for (name, secret) in SECRETS {
        let plain = bytes(secret);
        for form in [secret.to_owned(), secret[..16].to_owned(), format!("{:?}", &plain[..8])] {
            assert!(!printed.contains(form.trim_matches(['[', ']'])), "{name} in {printed}");
        }
    }
    assert!(!printed.contains(TOPIC), "not even the whole topic: {printed}");
}
