//! What a daemon keeps for its next run: files that something else may have written, or half of.

use wireplug_core::PrivateKey;
use wireplug_proto::fuzzing::{decode_kept, encode_kept};
use wireplug_proto::kept::{KeptKey, MAX_KEPT, MAX_KEPT_CANDIDATES, MAX_KEPT_NETWORKS, MAX_KEPT_PEERS};
use wireplugd::record::Keepalives;
use wireplugd::state::State;

pub(crate) fn kept(data: &[u8]) {
    let key = KeptKey::derive(&PrivateKey::from_bytes([7; 32]));
    // As it may have been sealed.
    let Some(kept) = decode_kept(data) else { return };
    assert!(kept.peers.len() <= MAX_KEPT_PEERS && kept.networks.len() <= MAX_KEPT_NETWORKS);
    assert!(kept.peers.iter().all(|peer| peer.candidates.len() <= MAX_KEPT_CANDIDATES));
    assert_eq!(decode_kept(&encode_kept(&kept)).as_ref(), Some(&kept));
    let mut sealed = key.seal(&kept, [7; 24]);
    assert!(sealed.len() <= MAX_KEPT);
    assert_eq!(key.open(&sealed).as_ref(), Ok(&kept));
    assert!(KeptKey::derive(&PrivateKey::from_bytes([8; 32])).open(&sealed).is_err(), "another key opens it");
    let at = data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % sealed.len();
    sealed[at] ^= 1;
    assert!(key.open(&sealed).is_err(), "byte {at} was altered");
}

pub(crate) fn keepalives(data: &[u8]) {
    const DEVICE: u32 = 7;
    let text = String::from_utf8_lossy(data);
    let Ok(mut record) = Keepalives::parse(&text, DEVICE) else { return };
    assert!(
        Keepalives::parse(&text, DEVICE + 1).is_ok_and(|other| other.is_empty() || record.is_empty()),
        "it is of two devices"
    );
    let written = record.text(DEVICE).unwrap_or_default();
    assert_eq!(Keepalives::parse(&written, DEVICE).ok().as_ref(), Some(&record));
    // Whatever it says, all of it can be given back, and what is off now is nobody's.
    for peer in record.clone().peers() {
        assert!(!record.is_ours(peer, None));
        assert_eq!(record.give_back(peer, None), None);
    }
    assert!(record.is_empty());
}

pub(crate) fn servers(data: &[u8]) {
    const URL: &str = "wss://new.example";
    let text = String::from_utf8_lossy(data);
    let Ok(after) = State::text_after(&text, URL, [203, 0, 113, 1].into()) else { return };
    assert!(after.contains(URL), "the newest was forgotten");
    let count = |text: &str| {
        let known: Option<serde_json::Value> = serde_json::from_str(text).ok();
        known.and_then(|known| Some(known["servers"].as_object()?.len())).unwrap_or_default()
    };
    // What was too long already and brings no news is left.
    assert!(count(&after) <= 16 || count(&after) == count(&text), "nothing was forgotten");
    assert_eq!(State::text_after(&after, URL, [203, 0, 113, 1].into()).ok(), Some(after), "it is not news");
}
