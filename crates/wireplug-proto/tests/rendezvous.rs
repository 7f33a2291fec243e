//! The messages between daemon and server.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use support::*;
use wireplug_core::Endpoint;
use wireplug_proto::relay::{Credential, CredentialId, CredentialKey};
use wireplug_proto::rendezvous::{
    About, AccessToken, Allocation, ClientMessage, FrameError, MAX_DETAIL, MAX_FRAME, MAX_RELAYS, MAX_STUN,
    Reason, ServerMessage,
};
use wireplug_proto::{Commitment, JoinToken, MAX_SEALED, Side, Topic};

fn topic() -> Topic {
    Topic::from_bytes([0x11; 32])
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}

fn allocation() -> Allocation {
    Allocation {
        credential: Credential {
            id: CredentialId::from_bytes([0x66; 16]),
            key: CredentialKey::from_bytes([0x77; 32]),
        },
        relays: vec!["0.0.0.0".parse().unwrap(), "2a00::7".parse().unwrap()],
        ports: 3479..=3510,
        lifetime: Duration::from_secs(300),
    }
}

fn client_messages() -> Vec<(ClientMessage, &'static str)> {
    vec![
        (
            ClientMessage::Join {
                topic: topic(),
                side: Side::High,
                token: JoinToken::from_bytes([0x22; 32]),
                other_commitment: Commitment::from_bytes([0x33; 32]),
            },
            "0a680a20111111111111111111111111111111111111111111111111111111111111111110011a20
             22222222222222222222222222222222222222222222222222222222222222222220
             3333333333333333333333333333333333333333333333333333333333333333",
        ),
        (
            ClientMessage::Leave { topic: topic() },
            "12220a201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            ClientMessage::Publish { topic: topic(), sealed: vec![1, 2, 3] },
            "1a270a2011111111111111111111111111111111111111111111111111111111111111111203010203",
        ),
        (
            ClientMessage::Verify { id: 300, endpoint: endpoint("203.0.113.7:51820"), nonce: [0x44; 16] },
            "222108ac02120a0a04cb00710710ec94031a1044444444444444444444444444444444",
        ),
        (ClientMessage::Ping { id: 7 }, "2a020807"),
        (
            ClientMessage::Allocate {
                topic: topic(),
                access: Some(AccessToken::new("secret".into()).unwrap()),
            },
            "322a0a2011111111111111111111111111111111111111111111111111111111111111111206736563726574",
        ),
        (
            ClientMessage::Allocate { topic: topic(), access: None },
            "32220a201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            ClientMessage::Release { topic: topic() },
            "3a220a201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (ClientMessage::Unknown, ""),
    ]
}

fn server_messages() -> Vec<(ServerMessage, &'static str)> {
    vec![
        (
            ServerMessage::Hello {
                token: [0x55; 16],
                stun: vec!["0.0.0.0:3478".parse().unwrap(), "[2a00::7]:3479".parse().unwrap()],
                offer_ttl: Duration::from_secs(120),
            },
            "0a360a105555555555555555555555555555555512090a040000000010961b12150a10
             2a00000000000000000000000000000710971b1878",
        ),
        (
            ServerMessage::Joined { topic: topic() },
            "12220a201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            ServerMessage::Offer { topic: topic(), sealed: vec![1, 2, 3] },
            "1a270a2011111111111111111111111111111111111111111111111111111111111111111203010203",
        ),
        (ServerMessage::Probed { id: 300 }, "220308ac02"),
        (
            ServerMessage::Refused {
                about: About::Verify(300),
                reason: Reason::NotYours,
                detail: "not yours".to_owned(),
                retry_after: Some(Duration::from_millis(1500)),
            },
            "2a1318ac0240034a096e6f7420796f75727350dc0b",
        ),
        (
            ServerMessage::Refused {
                about: About::Connection,
                reason: Reason::RateLimited,
                detail: String::new(),
                retry_after: None,
            },
            "2a0422004001",
        ),
        (ServerMessage::Pong { id: 7 }, "32020807"),
        (
            ServerMessage::Allocated { topic: topic(), allocation: allocation() },
            "3a770a201111111111111111111111111111111111111111111111111111111111111111
             1210666666666666666666666666666666661a2077777777777777777777777777777777
             7777777777777777777777777777777722040000000022102a000000000000000000000000000007
             28971b30b61b38ac02",
        ),
        (
            ServerMessage::RelayCalled { topic: topic() },
            "42220a201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            ServerMessage::Refused {
                about: About::Allocate(topic()),
                reason: Reason::Denied,
                detail: "no".to_owned(),
                retry_after: None,
            },
            "2a282a20111111111111111111111111111111111111111111111111111111111111111140084a026e6f",
        ),
        (ServerMessage::Unknown, ""),
    ]
}

#[test]
fn golden_bytes() {
    for (message, golden) in client_messages() {
        assert_eq!(hex(&message.encode()), hex(&bytes(golden)), "{message:?}");
        assert_eq!(ClientMessage::decode(&bytes(golden)), Ok(message));
    }
    for (message, golden) in server_messages() {
        assert_eq!(hex(&message.encode()), hex(&bytes(golden)), "{message:?}");
        assert_eq!(ServerMessage::decode(&bytes(golden)), Ok(message));
    }
}

#[test]
fn a_pairs_join_is_accepted() {
    let ClientMessage::Join { topic, side, token, other_commitment } = ClientMessage::join(&high()) else {
        panic!("a join");
    };
    assert!(wireplug_proto::verify_join(&topic, side, &token, &other_commitment));
}

#[test]
fn every_message_fits_a_frame() {
    let longest = [
        ClientMessage::Publish { topic: topic(), sealed: vec![0xff; MAX_SEALED] }.encode(),
        ServerMessage::Offer { topic: topic(), sealed: vec![0xff; MAX_SEALED] }.encode(),
        ServerMessage::Hello {
            token: [0xff; 16],
            stun: vec!["[2a00::7]:65535".parse().unwrap(); MAX_STUN + 1],
            offer_ttl: Duration::MAX,
        }
        .encode(),
        ServerMessage::Allocated {
            topic: topic(),
            allocation: Allocation {
                relays: vec!["2a00::7".parse().unwrap(); MAX_RELAYS + 1],
                lifetime: Duration::MAX,
                ..allocation()
            },
        }
        .encode(),
        ServerMessage::Refused {
            about: About::Publish(topic()),
            reason: Reason::Malformed,
            detail: "🦀".repeat(MAX_DETAIL + 1),
            retry_after: Some(Duration::MAX),
        }
        .encode(),
    ];
    for frame in longest {
        assert!(frame.len() <= MAX_FRAME, "{}", frame.len());
    }
}

#[test]
fn kinds_and_fields_of_later_versions_are_passed_over() {
    // Kind 14 of both, and field 15 in a ping.
    assert_eq!(ClientMessage::decode(&[0x72, 0x02, 0x08, 0x07]), Ok(ClientMessage::Unknown));
    assert_eq!(ServerMessage::decode(&[0x72, 0x02, 0x08, 0x07]), Ok(ServerMessage::Unknown));
    let ping = ClientMessage::decode(&[0x2a, 0x04, 0x08, 0x07, 0x78, 0x01]);
    assert_eq!(ping, Ok(ClientMessage::Ping { id: 7 }));
}

#[test]
fn refusals_of_later_versions_are_passed_over() {
    // About field 7, an unknown reason, and an unknown reason about the connection.
    assert_eq!(ServerMessage::decode(&[0x2a, 0x04, 0x38, 0x01, 0x40, 0x03]), Ok(ServerMessage::Unknown));
    let refused = ServerMessage::decode(&[0x2a, 0x04, 0x22, 0x00, 0x40, 0x63]);
    assert!(matches!(refused, Ok(ServerMessage::Refused { reason: Reason::Other, .. })), "{refused:?}");
}

#[test]
fn bad_fields_are_named() {
    for (frame, message, field) in [
        ("0a0410011a00", "Join", "topic"),
        ("0a240a2011111111111111111111111111111111111111111111111111111111111111111002", "Join", "side"),
        ("12210a1f11111111111111111111111111111111111111111111111111111111111111", "Leave", "topic"),
        ("22020801", "Verify", "endpoint"),
        ("220d0801120a0a047f00000110ec9403", "Verify", "endpoint"),
        ("220f0801120a0a04cb00710710ec94031a00", "Verify", "nonce"),
        ("320412026120", "Allocate", "topic"),
        (
            "32260a20111111111111111111111111111111111111111111111111111111111111111112026120",
            "Allocate",
            "access",
        ),
    ] {
        let mut frame = bytes(frame);
        frame[1] = u8::try_from(frame.len() - 2).unwrap();
        let decoded = ClientMessage::decode(&frame);
        assert!(
            matches!(decoded, Err(FrameError::Field { message: m, field: f, .. }) if (m, f) == (message, field)),
            "{message}.{field}: {decoded:?}"
        );
    }
}

#[test]
fn oversize_is_refused() {
    assert_eq!(ClientMessage::decode(&[0; MAX_FRAME + 1]), Err(FrameError::TooLarge(MAX_FRAME + 1)));
    assert_eq!(ServerMessage::decode(&[0; MAX_FRAME + 1]), Err(FrameError::TooLarge(MAX_FRAME + 1)));
    let publish = ClientMessage::Publish { topic: topic(), sealed: vec![0; MAX_SEALED + 1] }.encode();
    let offer = ServerMessage::Offer { topic: topic(), sealed: vec![0; MAX_SEALED + 1] }.encode();
    assert!(matches!(ClientMessage::decode(&publish), Err(FrameError::Field { field: "sealed", .. })));
    assert!(matches!(ServerMessage::decode(&offer), Err(FrameError::Field { field: "sealed", .. })));
}

#[test]
fn a_hostile_hello_is_bounded() {
    let stun: Vec<SocketAddr> = [
        "203.0.113.7:0",
        "0.0.0.0:0",
        "224.0.0.1:3478",
        "255.255.255.255:3478",
        "[ff02::1]:3478",
        "[::]:3478",
    ]
    .map(|addr| addr.parse().unwrap())
    .into();
    let hello = |stun| ServerMessage::Hello { token: [1; 16], stun, offer_ttl: Duration::MAX };
    let Ok(ServerMessage::Hello { stun, offer_ttl, .. }) = ServerMessage::decode(&hello(stun).encode())
    else {
        panic!("a hello");
    };
    assert_eq!(stun, ["[::]:3478".parse().unwrap()]);
    assert_eq!(offer_ttl, Duration::from_secs(u64::from(u32::MAX)));
}

#[test]
fn a_hostile_explanation_cannot_write_to_the_terminal() {
    // Refused about the connection, detail "a ESC [2J LF b", then 300 times "x".
    let mut detail = b"a\x1b[2J\nb".to_vec();
    detail.extend([b'x'; 300]);
    let mut refused = vec![0x22, 0x00, 0x4a, 0xb3, 0x02];
    assert_eq!(detail.len(), 0x33 + (2 << 7));
    refused.extend(detail);
    let mut frame = vec![0x2a, 0xb8, 0x02];
    assert_eq!(refused.len(), 0x38 + (2 << 7));
    frame.extend(refused);
    let Ok(ServerMessage::Refused { detail, .. }) = ServerMessage::decode(&frame) else {
        panic!("a refusal")
    };
    assert!(detail.starts_with("a[2Jbx"), "{detail}");
    assert_eq!(detail.chars().count(), MAX_DETAIL);
}

#[test]
fn debug_prints_no_join_token() {
    let printed = format!("{:?}", ClientMessage::join(&low()));
    assert!(printed.contains("JoinToken(redacted)"), "{printed}");
    assert!(!printed.contains("65, 216, 165"), "{printed}");
}

fn any_client() -> impl Strategy<Value = ClientMessage> {
    let topic = any::<[u8; 32]>().prop_map(Topic::from_bytes);
    let sealed = vec(any::<u8>(), 0..MAX_SEALED);
    let addr = prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ];
    prop_oneof![
        (topic.clone(), any::<bool>(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(
            |(topic, low, token, other)| ClientMessage::Join {
                topic,
                side: if low { Side::Low } else { Side::High },
                token: JoinToken::from_bytes(token),
                other_commitment: Commitment::from_bytes(other),
            }
        ),
        topic.clone().prop_map(|topic| ClientMessage::Leave { topic }),
        (topic, sealed).prop_map(|(topic, sealed)| ClientMessage::Publish { topic, sealed }),
        (any::<u64>(), addr, any::<[u8; 16]>()).prop_filter_map("not an endpoint", |(id, addr, nonce)| {
            Some(ClientMessage::Verify { id, endpoint: Endpoint::new(addr).ok()?, nonce })
        }),
        any::<u64>().prop_map(|id| ClientMessage::Ping { id }),
        (any::<[u8; 32]>(), proptest::option::of("[!-~]{1,128}")).prop_map(|(topic, access)| {
            let access = access.map(|text| AccessToken::new(text).unwrap());
            ClientMessage::Allocate { topic: Topic::from_bytes(topic), access }
        }),
        any::<[u8; 32]>().prop_map(|topic| ClientMessage::Release { topic: Topic::from_bytes(topic) }),
    ]
}

fn any_server() -> impl Strategy<Value = ServerMessage> {
    let topic = any::<[u8; 32]>().prop_map(Topic::from_bytes);
    let sealed = vec(any::<u8>(), 0..MAX_SEALED);
    let stun = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    let stun = stun.prop_filter("not an endpoint", |addr| Endpoint::new(*addr).is_ok());
    let about = prop_oneof![
        topic.clone().prop_map(About::Join),
        topic.clone().prop_map(About::Publish),
        any::<u64>().prop_map(About::Verify),
        Just(About::Connection),
    ];
    let reason = prop_oneof![
        Just(Reason::RateLimited),
        Just(Reason::NotMember),
        Just(Reason::NotYours),
        Just(Reason::TooLarge),
        Just(Reason::Full),
        Just(Reason::Unsupported),
        Just(Reason::Malformed),
    ];
    let after = proptest::option::of(any::<u32>().prop_map(|ms| Duration::from_millis(u64::from(ms))));
    prop_oneof![
        (any::<[u8; 16]>(), vec(stun, 0..=MAX_STUN), any::<u32>()).prop_map(|(token, stun, ttl)| {
            ServerMessage::Hello { token, stun, offer_ttl: Duration::from_secs(u64::from(ttl)) }
        }),
        topic.clone().prop_map(|topic| ServerMessage::Joined { topic }),
        (topic, sealed).prop_map(|(topic, sealed)| ServerMessage::Offer { topic, sealed }),
        any::<u64>().prop_map(|id| ServerMessage::Probed { id }),
        (about, reason, "[^\\p{Cc}]{0,200}", after).prop_map(|(about, reason, detail, retry_after)| {
            ServerMessage::Refused { about, reason, detail, retry_after }
        }),
        any::<u64>().prop_map(|id| ServerMessage::Pong { id }),
        any::<[u8; 32]>().prop_map(|topic| ServerMessage::RelayCalled { topic: Topic::from_bytes(topic) }),
        any_allocation(),
    ]
}

fn any_allocation() -> impl Strategy<Value = ServerMessage> {
    let bytes = any::<([u8; 32], [u8; 16], [u8; 32])>();
    (bytes, 1..=u16::MAX, 0..100_u16, any::<u32>()).prop_map(|((topic, id, key), first, more, seconds)| {
        let credential = Credential { id: CredentialId::from_bytes(id), key: CredentialKey::from_bytes(key) };
        ServerMessage::Allocated {
            topic: Topic::from_bytes(topic),
            allocation: Allocation {
                credential,
                ports: first..=first.saturating_add(more),
                lifetime: Duration::from_secs(seconds.into()),
                ..allocation()
            },
        }
    })
}

#[test]
fn a_hostile_allocation_is_bounded() {
    let hostile = |ports, relays: &[&str]| {
        let relays = relays.iter().map(|ip| ip.parse().unwrap()).collect();
        let allocation = Allocation { ports, relays, ..allocation() };
        ServerMessage::decode(&ServerMessage::Allocated { topic: topic(), allocation }.encode())
    };
    let Ok(ServerMessage::Allocated { allocation, .. }) =
        hostile(1..=2, &["127.0.0.1", "224.0.0.1", "ff02::1", "::", "203.0.113.7"])
    else {
        panic!("an allocation")
    };
    assert_eq!(allocation.relays, [std::net::IpAddr::from([0; 16]), [203, 0, 113, 7].into()]);
    for ports in [(0, 5), (9, 8)].map(|(first, last)| RangeInclusive::new(first, last)) {
        assert!(matches!(hostile(ports, &[]), Err(FrameError::Field { field: "first_port", .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn client_messages_round_trip(message in any_client()) {
        prop_assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn server_messages_round_trip(message in any_server()) {
        prop_assert_eq!(ServerMessage::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn no_bytes_panic(frame in vec(any::<u8>(), 0..300)) {
        let _ = ClientMessage::decode(&frame);
        let _ = ServerMessage::decode(&frame);
    }

    #[test]
    fn no_mutation_panics(client in any_client(), server in any_server(), at: usize, value: u8, cut: usize) {
        for mut frame in [client.encode(), server.encode()] {
            let len = frame.len();
            frame[at % len] = value;
            let _ = ClientMessage::decode(&frame);
            let _ = ServerMessage::decode(&frame);
            frame.truncate(cut % len);
            let _ = ClientMessage::decode(&frame);
            let _ = ServerMessage::decode(&frame);
        }
    }
}
