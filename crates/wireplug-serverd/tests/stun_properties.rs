//! Whatever datagrams come, the STUN server multiplies nobody's traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use wireplug_core::TransactionId;
use wireplug_proto::stun::binding::{Change, request};
use wireplug_serverd::limits::Rate;
use wireplug_serverd::stun::{Datagram, Others, Place, Public, Responder};

/// The smallest answers, over IPv4 and IPv6: header and XOR-MAPPED-ADDRESS, which RFC 8489 demands.
const SMALLEST: [usize; 2] = [32, 44];
/// And of a server with two addresses: OTHER-ADDRESS too.
const SMALLEST_OF_TWO: [usize; 2] = [44, 68];

fn answer_len(payload: &[u8], from: SocketAddr, others: Option<Others>) -> Option<usize> {
    let places = [0, 1, 2, 3].map(|port| Place { local: (from.ip(), 3470 + port).into(), others });
    let rate = Rate { burst: 1, every: Duration::from_secs(1) };
    let mut responder = Responder::new(places.to_vec(), Public::default(), rate, 1);
    let datagram = Datagram { socket: 0, from, to: Some(from.ip()), payload };
    responder.handle(Instant::now(), datagram).1.map(|reply| reply.payload.len())
}

fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![Just(Change::None), Just(Change::Port), Just(Change::AddressAndPort)];
    let valid = (change, any::<Option<[u8; 16]>>(), any::<[u8; 12]>())
        .prop_map(|(change, token, id)| request(TransactionId::from_bytes(id), token.as_ref(), change));
    let bent = (valid.clone(), prop::collection::vec((0..100_usize, any::<u8>()), 0..4), 0..=100_usize)
        .prop_map(|(mut bytes, changes, len)| {
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(len);
            bytes
        });
    // A header that is right, and any attributes after it.
    let attributes = prop::collection::vec(any::<u8>(), 0..200).prop_map(|mut rest| {
        rest.truncate(rest.len() / 4 * 4);
        let mut bytes = vec![0, 1, 0, u8::try_from(rest.len()).unwrap_or(u8::MAX)];
        bytes.extend([0x21, 0x12, 0xa4, 0x42]);
        bytes.extend([7; 12]);
        bytes.extend(rest);
        bytes
    });
    prop_oneof![valid, bent, attributes, prop::collection::vec(any::<u8>(), 0..1500)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_never_larger_than_its_request_or_the_smallest(
        payload in datagrams(),
        v6 in any::<bool>(),
        square in any::<bool>(),
    ) {
        let from: SocketAddr = if v6 { "[2a00::7]:9" } else { "198.51.100.7:9" }.parse().unwrap();
        let others = square.then_some(Others { port: 2, address: 1, both: 3 });
        if let Some(len) = answer_len(&payload, from, others) {
            let smallest = if square { SMALLEST_OF_TWO } else { SMALLEST }[usize::from(v6)];
            prop_assert!(len <= payload.len().max(smallest), "{} for {}", len, payload.len());
        }
    }
}
