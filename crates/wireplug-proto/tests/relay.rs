//! Binding to the relay, over UDP and over TLS.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use support::*;
use wireplug_proto::relay::{
    BindRefusal, Bound, Credential, CredentialId, CredentialKey, Frame, HEADER, data_header,
};
use wireplug_proto::stun::relay::{
    BindAnswer, BindError, challenge, parse_answer, receive, refusal, request, success,
};
use wireplug_proto::stun::{Incoming, classify};

const FIRST: &str = "
0001005c2112a442a0a1a2a3a4a5a6a7a8a9aaab00060020363636363636363636363636363636363636363636363636363636363636
3636e0d400080000000000000005001c0020cd157bb2a75e8fa094ac8dbe4cf97717a1af439cbdb19a52ad5e4d1f2c80ebe480280004
86edbe1f";
const SECOND: &str = "
000100802112a442a0a1a2a3a4a5a6a7a8a9aaab00060020363636363636363636363636363636363636363636363636363636363636
3636e0d4000800000000000000060015002038383838383838383838383838383838383838383838383838383838383838 38001c0020
1d86a748aa1590ada9c8a111171b8784e0289bf59c90561578cddda9247d57ee80280004c2f1c505";
const SUCCESS: &str = "
010100442112a442a0a1a2a3a4a5a6a7a8a9aaab002000080001eb7eea12d545e0d50008000000010000012c001c002053e18f53aad7
4c44de1402d5bfe31046b02a8ba6dc4776dfe1f8ed92a8e58f33802800048b780350";
const CHALLENGE: &str = "
011100342112a442a0a1a2a3a4a5a6a7a8a9aaab00090004000004260015002038383838383838383838383838383838383838383838
383838383838383838388028000498d5166e";
const TAKEN: &str = "011100102112a442a0a1a2a3a4a5a6a7a8a9aaab000900040000042580280004581c0fe3";

const NONCE: [u8; 16] = [0x88; 16];

fn credential() -> Credential {
    Credential { id: CredentialId::from_bytes([0x66; 16]), key: CredentialKey::from_bytes([0x77; 32]) }
}

fn seen() -> SocketAddr {
    "203.0.113.7:51820".parse().unwrap()
}

fn bound() -> Bound {
    Bound { other_side: true, lifetime: Duration::from_secs(300) }
}

#[test]
fn golden_bytes() {
    let Credential { key, .. } = &credential();
    assert_eq!(hex(&request(&credential(), transaction(), 5, None)), hex(&bytes(FIRST)));
    assert_eq!(hex(&request(&credential(), transaction(), 6, Some(&NONCE))), hex(&bytes(SECOND)));
    assert_eq!(hex(&success(key, transaction(), seen(), bound())), hex(&bytes(SUCCESS)));
    assert_eq!(hex(&challenge(transaction(), &NONCE)), hex(&bytes(CHALLENGE)));
    assert_eq!(hex(&refusal(transaction(), BindRefusal::Taken)), hex(&bytes(TAKEN)));
    for (bytes, answer) in [
        (bytes(SUCCESS), BindAnswer::Bound { mapped: seen(), bound: bound() }),
        (bytes(CHALLENGE), BindAnswer::Challenge { nonce: NONCE }),
        (bytes(TAKEN), BindAnswer::Refused(BindRefusal::Taken)),
    ] {
        assert_eq!(parse_answer(&bytes, key), Ok((transaction(), answer)));
        assert_eq!(classify(&bytes), Incoming::Response { transaction: transaction() });
    }
}

#[test]
fn a_request_says_who_and_is_proven_by_its_key() {
    for (bytes, order, nonce) in [(bytes(FIRST), 5, None), (bytes(SECOND), 6, Some(NONCE))] {
        let request = receive(&bytes).unwrap();
        assert_eq!((request.transaction, request.id), (transaction(), credential().id));
        assert_eq!((request.order, request.nonce), (order, nonce));
        assert!(request.is_by(&credential().key));
        assert!(!request.is_by(&CredentialKey::from_bytes([0x78; 32])));
    }
}

#[test]
fn no_altered_request_is_genuine() {
    for at in 0..bytes(SECOND).len() {
        let mut altered = bytes(SECOND);
        altered[at] ^= 1;
        assert!(!receive(&altered).is_some_and(|request| request.is_by(&credential().key)), "byte {at}");
        let mut altered = bytes(SUCCESS);
        altered[at % bytes(SUCCESS).len()] ^= 1;
        parse_answer(&altered, &credential().key).unwrap_err();
    }
}

#[test]
fn another_servers_success_is_forged() {
    let forged = success(&CredentialKey::from_bytes([0; 32]), transaction(), seen(), bound());
    assert_eq!(parse_answer(&forged, &credential().key), Err(BindError::Forged));
}

#[test]
fn no_answer_is_longer_than_the_shortest_request() {
    let shortest = request(&credential(), transaction(), 0, None).len();
    let v6 = "[2a00::7]:51820".parse().unwrap();
    for answer in [
        success(&credential().key, transaction(), v6, bound()),
        challenge(transaction(), &NONCE),
        refusal(transaction(), BindRefusal::Unknown),
    ] {
        assert!(answer.len() <= shortest, "{} > {shortest}", answer.len());
    }
}

/// Neither is taken for the other, and a check between peers is no bind.
#[test]
fn binds_and_checks_are_told_apart() {
    assert!(matches!(classify(&bytes(FIRST)), Incoming::Other));
    assert!(receive(&low().check_request(transaction(), wireplug_core::Tier::Relay, false)).is_none());
    assert!(receive(&bytes(SUCCESS)).is_none());
    assert_eq!(parse_answer(&bytes(FIRST), &credential().key), Err(BindError::NotAnAnswer));
}

fn frames() -> Vec<(Frame<'static>, String)> {
    vec![
        (
            Frame::Bind { channel: 7, credential: credential() },
            format!("010007{}{}", "66".repeat(16), "77".repeat(32)),
        ),
        (Frame::Bound { channel: 7, bound: bound() }, "020007010000012c".to_owned()),
        (Frame::Refused { channel: 7, refusal: BindRefusal::Full }, "03000701e6".to_owned()),
        (Frame::Data { channel: 0x1234, packet: &[4, 0, 0, 0] }, "04123404000000".to_owned()),
        (Frame::Unbind { channel: 7 }, "050007".to_owned()),
    ]
}

#[test]
fn golden_frames() {
    for (frame, golden) in frames() {
        assert_eq!(hex(&frame.encode()), golden);
        assert_eq!(Frame::parse(&bytes(&golden)), Some(frame));
    }
    assert_eq!(data_header(0x1234)[..], Frame::Data { channel: 0x1234, packet: &[] }.encode()[..HEADER]);
}

#[test]
fn frames_of_the_wrong_length_or_kind_are_none() {
    let wrong =
        ["", "04", "0400", "01000766", "02000701000000", "03000700c8", "0300070191ff", "05000700", "000007"];
    for wrong in wrong.iter().chain(&["060007"]) {
        assert_eq!(Frame::parse(&bytes(wrong)), None, "{wrong}");
    }
}

#[test]
fn debug_prints_no_key() {
    for printed in [format!("{:?}", credential()), format!("{:?}", frames()[0].0)] {
        assert!(!printed.contains("119"), "{printed}");
        assert!(!printed.contains("77"), "{printed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic(payload in vec(any::<u8>(), 0..300)) {
        let _ = receive(&payload);
        let _ = parse_answer(&payload, &credential().key);
        if let Some(frame) = Frame::parse(&payload) {
            let again = frame.encode();
            prop_assert_eq!(Frame::parse(&again), Some(frame));
        }
    }

    #[test]
    fn requests_round_trip(order: u64, nonce: Option<[u8; 16]>) {
        let bytes = request(&credential(), transaction(), order, nonce.as_ref());
        let request = receive(&bytes).unwrap();
        prop_assert_eq!((request.order, request.nonce), (order, nonce));
    }

    #[test]
    fn answers_round_trip(addr: [u8; 16], port: u16, seconds: u32, other_side: bool) {
        let mapped = SocketAddr::from((addr, port));
        let mapped = SocketAddr::new(mapped.ip().to_canonical(), port);
        let bound = Bound { other_side, lifetime: Duration::from_secs(u64::from(seconds)) };
        let bytes = success(&credential().key, transaction(), mapped, bound);
        let answer = BindAnswer::Bound { mapped, bound };
        prop_assert_eq!(parse_answer(&bytes, &credential().key), Ok((transaction(), answer)));
    }
}
