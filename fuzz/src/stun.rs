//! What arrives at the WireGuard port and at the server's UDP ports.

use std::net::SocketAddr;

use wireplug_core::{Tier, TransactionId};
use wireplug_proto::stun::binding::{self, BindingError, Change, Received};
use wireplug_proto::stun::probe::{PROBE_LEN, parse_probe, probe};
use wireplug_proto::stun::{Incoming, MAX_MESSAGE, classify};
use wireplug_proto::wireguard::{self, Kind};

use crate::offer::Sides;

/// The longest success to a request too short for any: header, and IPv6 addresses in XOR-MAPPED-ADDRESS and OTHER-ADDRESS.
const BARE_ANSWER: usize = 68;

pub(crate) fn check(data: &[u8]) {
    let Sides { low, high } = Sides::get();
    let incoming = classify(data);
    assert!(incoming == Incoming::Other || data.len() <= MAX_MESSAGE);
    assert_eq!(
        parse_probe(data).map(|nonce| Incoming::Probe { nonce }),
        match incoming {
            Incoming::Probe { .. } => Some(incoming),
            _ => None,
        }
    );
    // Nobody but the peer makes a check, and there is one way to make it.
    if let Ok(opened) = low.open_check_request(data) {
        let transaction = opened.transaction;
        assert_eq!(incoming, Incoming::CheckRequest { transaction, tag: low.tag_in() });
        assert_eq!(high.check_request(transaction, opened.tier, opened.nominate), data);
    }
    if let Ok(opened) = low.open_check_response(data) {
        let transaction = opened.transaction;
        assert_eq!(incoming, Incoming::Response { transaction });
        assert_eq!(high.check_response(transaction, opened.mapped), data);
    }
    made(data);
}

/// Checks and probes made from the bytes, and altered.
fn made(data: &[u8]) {
    let Sides { low, high } = Sides::get();
    let Some((&[tier, at, mask, ref id @ ..], rest)) = data.split_first_chunk::<15>() else { return };
    let transaction = TransactionId::from_bytes(*id);
    let tier = Tier::ALL[usize::from(tier) % Tier::ALL.len()];
    let mapped = socket_addr(rest);
    let mut request = high.check_request(transaction, tier, at % 2 == 0);
    let mut response = high.check_response(transaction, mapped);
    assert!(response.len() <= request.len());
    let opened = low.open_check_request(&request).map(|it| (it.transaction, it.tier, it.nominate));
    assert_eq!(opened, Ok((transaction, tier, at % 2 == 0)));
    let opened = low.open_check_response(&response).map(|it| (it.transaction, it.mapped));
    assert_eq!(opened, Ok((transaction, mapped)));
    for message in [&mut request, &mut response] {
        let at = usize::from(at) % message.len();
        message[at] ^= mask.max(1);
    }
    assert!(low.open_check_request(&request).is_err() && low.open_check_response(&response).is_err());
    if let Some((nonce, _)) = rest.split_first_chunk() {
        let probe = probe(transaction, nonce);
        assert_eq!((probe.len(), parse_probe(&probe)), (PROBE_LEN, Some(*nonce)));
    }
}

pub(crate) fn binding(data: &[u8]) {
    match binding::receive(data) {
        Received::Ignore => {}
        Received::Refuse(refusal) => {
            assert!(refusal.len() <= data.len());
            assert!(matches!(
                binding::parse_response(&refusal),
                Err(BindingError::Refused { code: 420, .. })
            ));
        }
        Received::Request(request) => {
            let mapped = socket_addr(data);
            let other = socket_addr(&data[8..]);
            let answer = request.response(mapped, Some(other), Some(mapped));
            assert!(answer.len() <= data.len().max(BARE_ANSWER));
            let read = binding::parse_response(&answer).map(|read| (read.transaction, read.mapped));
            assert_eq!(read, Ok((request.transaction, mapped)));
            if let Some(refusal) = request.refuse_change() {
                assert!(refusal.len() <= data.len());
                let transaction = request.transaction;
                let refused = Err(BindingError::Refused { transaction, code: 420 });
                assert_eq!(binding::parse_response(&refusal), refused);
            }
        }
    }
    let incoming = classify(data);
    match binding::parse_response(data) {
        Ok(read) => assert_eq!(incoming, Incoming::Response { transaction: read.transaction }),
        Err(BindingError::Refused { transaction, .. }) => {
            assert_eq!(incoming, Incoming::Response { transaction });
        }
        Err(BindingError::NotAResponse) => {}
    }
    if let Some((&[flags, ref id @ ..], rest)) = data.split_first_chunk::<13>() {
        let transaction = TransactionId::from_bytes(*id);
        let change =
            [Change::None, Change::Port, Change::Address, Change::AddressAndPort][usize::from(flags) % 4];
        let token = rest.first_chunk::<16>();
        let request = binding::request(transaction, token, change);
        assert_eq!(request.len(), binding::REQUEST_LEN);
        let Received::Request(read) = binding::receive(&request) else {
            panic!("our own request is refused")
        };
        assert_eq!((read.transaction, read.token.as_ref(), read.change), (transaction, token, change));
    }
}

pub(crate) fn wireguard(data: &[u8]) {
    // The same again, from the sizes of the whitepaper's tables (sections 5.4.2 to 5.4.7).
    let expected = match (data.get(..4), data.len()) {
        (Some([1, 0, 0, 0]), length) if length == 4 + 4 + 32 + 48 + 28 + 16 + 16 => Some(Kind::Initiation),
        (Some([2, 0, 0, 0]), length) if length == 4 + 4 + 4 + 32 + 16 + 16 + 16 => Some(Kind::Response),
        (Some([3, 0, 0, 0]), length) if length == 4 + 4 + 24 + 32 => Some(Kind::CookieReply),
        (Some([4, 0, 0, 0]), length) if length >= 4 + 4 + 8 + 16 => Some(Kind::Data),
        _ => None,
    };
    let kind = wireguard::kind(data);
    assert_eq!(kind, expected);
    // The relay forwards the one and answers the other: nothing is both but data that has the cookie by chance.
    assert!(kind.is_none() || matches!(classify(data), Incoming::Other));
}

/// Any address that a datagram may come from.
pub(crate) fn socket_addr(bytes: &[u8]) -> SocketAddr {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let port = u16::from_be_bytes([byte(1), byte(2)]);
    if byte(0) % 2 == 0 {
        return ([byte(3), byte(4), byte(5), byte(6)], port).into();
    }
    let ip: [u8; 16] = std::array::from_fn(|at| byte(3 + at));
    SocketAddr::new(std::net::IpAddr::from(ip).to_canonical(), port)
}
