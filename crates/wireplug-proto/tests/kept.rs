//! What is kept on disk: golden bytes, round trips, tampering, junk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::hex;
use wireplug_core::scheduler::Learnt;
use wireplug_core::{Endpoint, PrivateKey, PublicKey, Reach, RemoteCandidate, Tier};
use wireplug_proto::kept::{
    Kept, KeptError, KeptKey, KeptNetwork, KeptPeer, MAX_KEPT, MAX_KEPT_CANDIDATES, MAX_KEPT_NETWORKS,
    MAX_KEPT_PEERS,
};

const NONCE: [u8; 24] = [9; 24];

const GOLDEN: &str = "\
010909090909090909090909090909090909090909090909099df235c406f5a32ed209c6bc6a201751873b14ee675f6e5b0c\
352c39fc3112bf260c8b28b3cc2250b101cf7430ad1da3fd6925e7d75f6d2da33f15e22823e176839884605814a3a2b65c56\
456ff951c989739040a8aeab6584e2dfae6295c0a54722b0316368edfa10d9cbbfe27b0159decdf5f53a3f1c01705eb319a1\
f29f213415ca1dc46a2722445a1ca98e77a00b";

fn key(byte: u8) -> KeptKey {
    KeptKey::derive(&PrivateKey::from_bytes([byte; 32]))
}

fn candidate(at: &str, strategy: &str, tier: Tier) -> RemoteCandidate {
    let endpoint = Endpoint::new(at.parse().unwrap()).unwrap();
    RemoteCandidate { endpoint, strategy: strategy.parse().unwrap(), tier, reach: Reach::Filtered }
}

fn learnt() -> Learnt {
    Learnt { keepalive: 12, suspected: true, on_trial: true, failed_trials: 7 }
}

fn kept() -> Kept {
    Kept {
        peers: vec![KeptPeer {
            key: PublicKey::from_bytes([5; 32]),
            candidates: vec![
                candidate("203.0.113.7:51820", "direct", Tier::Direct),
                candidate("[2a00::7]:40001", "hole-punch", Tier::Punched),
            ],
        }],
        networks: vec![KeptNetwork { id: key(1).network(b"home"), learnt: learnt() }],
    }
}

#[test]
fn golden_bytes() {
    let sealed = key(1).seal(&kept(), NONCE);
    assert_eq!(hex(&sealed), GOLDEN);
    assert_eq!(key(1).open(&sealed), Ok(kept()));
}

#[test]
fn only_the_same_private_key_opens_it_and_names_networks_so() {
    let sealed = key(1).seal(&kept(), NONCE);
    assert_eq!(key(2).open(&sealed), Err(KeptError::Foreign));
    assert_eq!(key(1).network(b"home"), key(1).network(b"home"));
    assert_ne!(key(1).network(b"home"), key(2).network(b"home"));
    assert_ne!(key(1).network(b"home"), key(1).network(b"homer"));
}

#[test]
fn every_byte_is_authenticated() {
    let sealed = key(1).seal(&kept(), NONCE);
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert!(key(1).open(&changed).is_err(), "byte {index}");
        assert!(key(1).open(&sealed[..index]).is_err(), "cut at {index}");
    }
    assert_eq!(key(1).open(&[&sealed[..], &[0]].concat()), Err(KeptError::Foreign));
    assert_eq!(key(1).open(&[&[2], &sealed[1..]].concat()), Err(KeptError::Version(2)));
}

#[test]
fn the_longest_fits_and_what_is_beyond_is_left_out() {
    let longest =
        candidate("[2a00:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", &"s".repeat(32), Tier::RelayTls);
    let peer = KeptPeer {
        key: PublicKey::from_bytes([255; 32]),
        candidates: vec![longest; MAX_KEPT_CANDIDATES + 1],
    };
    let learnt = Learnt { keepalive: u16::MAX, suspected: true, on_trial: true, failed_trials: 255 };
    let network = KeptNetwork { id: key(1).network(b""), learnt };
    let kept = Kept { peers: vec![peer; MAX_KEPT_PEERS + 1], networks: vec![network; MAX_KEPT_NETWORKS + 1] };
    let sealed = key(1).seal(&kept, NONCE);
    assert!(sealed.len() <= MAX_KEPT, "{} of {MAX_KEPT}", sealed.len());
    let opened = key(1).open(&sealed).unwrap();
    assert_eq!((opened.peers.len(), opened.networks.len()), (MAX_KEPT_PEERS, MAX_KEPT_NETWORKS));
    assert!(opened.peers.iter().all(|peer| peer.candidates.len() == MAX_KEPT_CANDIDATES));
    assert_eq!(key(1).open(&vec![1; MAX_KEPT + 1]), Err(KeptError::Size(MAX_KEPT + 1)));
}

#[test]
fn debug_prints_no_secret() {
    assert_eq!(format!("{:?}", key(1)), "KeptKey(redacted)");
    assert_eq!(format!("{:?}", key(1).network(b"home")), "NetworkId(redacted)");
}

fn any_kept() -> impl Strategy<Value = Kept> {
    let candidate =
        (any::<[u8; 4]>(), 1..u16::MAX, 0..6u8).prop_filter_map("no endpoint", |(ip, port, tier)| {
            let endpoint = Endpoint::new((ip, port).into()).ok()?;
            let tier = Tier::from_number(tier)?;
            Some(RemoteCandidate { endpoint, strategy: "x-1".parse().ok()?, tier, reach: Reach::Open })
        });
    let peer = (any::<[u8; 32]>(), vec(candidate, 0..=MAX_KEPT_CANDIDATES));
    let peer = peer.prop_map(|(key, candidates)| KeptPeer { key: PublicKey::from_bytes(key), candidates });
    let network = (vec(any::<u8>(), 0..40), any::<(u16, bool, bool, u8)>());
    let network =
        network.prop_map(|(features, (keepalive, suspected, on_trial, failed_trials))| KeptNetwork {
            id: key(1).network(&features),
            learnt: Learnt { keepalive, suspected, on_trial, failed_trials },
        });
    (vec(peer, 0..5), vec(network, 0..5)).prop_map(|(peers, networks)| Kept { peers, networks })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_round_trips(kept in any_kept(), nonce: [u8; 24]) {
        prop_assert_eq!(key(1).open(&key(1).seal(&kept, nonce)), Ok(kept));
    }

    #[test]
    fn anything_else_is_refused(mut junk in vec(any::<u8>(), 0..200), version in 0..3u8) {
        if let Some(first) = junk.first_mut() {
            *first = version;
        }
        prop_assert!(key(1).open(&junk).is_err());
    }
}
