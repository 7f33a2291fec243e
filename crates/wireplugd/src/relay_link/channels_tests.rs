//! What is written when, on invented time.

use wireplug_proto::relay::{BindRefusal, Bound, CredentialId, CredentialKey};

use super::*;

fn credential(number: u8) -> Credential {
    Credential { id: CredentialId::from_bytes([number; 16]), key: CredentialKey::from_bytes([number; 32]) }
}

fn socket() -> Arc<UdpSocket> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    Arc::new(UdpSocket::from_std(socket).unwrap())
}

fn id(number: u8) -> TransactionId {
    TransactionId::from_bytes([number; 12])
}

/// One channel, number 1, on an open connection.
fn connected() -> Channels {
    let mut channels = Channels::default();
    channels.open(1, credential(1), socket(), 51820);
    channels.connected();
    channels
}

fn written(channels: &mut Channels, now: Instant) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| channels.next(now)).collect()
}

fn bind(channel: u16, number: u8) -> Vec<u8> {
    Frame::Bind { channel, credential: credential(number) }.encode()
}

fn bound(channel: u16, other_side: bool) -> Frame<'static> {
    Frame::Bound { channel, bound: Bound { other_side, lifetime: Duration::from_secs(300) } }
}

#[tokio::test]
async fn every_channel_is_bound_on_every_connection_and_then_once_for_all_checks_that_wait() {
    let now = Instant::now();
    let mut channels = connected();
    assert_eq!(written(&mut channels, now), [bind(1, 1)]);
    channels.bind(1, Some(id(1)));
    channels.bind(1, Some(id(2)));
    assert_eq!(written(&mut channels, now), [] as [Vec<u8>; 0], "one is under way");
    let told = channels.heard(&bound(1, true));
    assert_eq!(told, Some(RelayEvent::Bound { channel: 1, checks: vec![id(1), id(2)], other_side: true }));
    assert_eq!(channels.heard(&bound(1, true)), None, "nobody asked");
    channels.bind(1, Some(id(3)));
    assert_eq!(written(&mut channels, now), [bind(1, 1)]);
    channels.disconnected();
    channels.connected();
    assert_eq!(written(&mut channels, now), [bind(1, 1)]);
    let told = channels.heard(&bound(1, false));
    assert_eq!(told, Some(RelayEvent::Bound { channel: 1, checks: vec![id(3)], other_side: false }));
}

#[tokio::test]
async fn another_credential_binds_anew() {
    let now = Instant::now();
    let mut channels = connected();
    written(&mut channels, now);
    channels.heard(&Frame::Refused { channel: 1, refusal: BindRefusal::Unknown });
    channels.credential(1, credential(1));
    assert_eq!(written(&mut channels, now), [] as [Vec<u8>; 0], "it is the same");
    channels.credential(1, credential(2));
    assert_eq!(written(&mut channels, now), [bind(1, 2)]);
}

#[tokio::test]
async fn of_too_many_packets_the_oldest_are_dropped_and_binds_go_first() {
    let now = Instant::now();
    let mut channels = connected();
    written(&mut channels, now);
    channels.heard(&bound(1, true));
    for number in 0..200 {
        channels.packet(1, &[4, 0, 0, 0, number]);
    }
    channels.bind(1, Some(id(1)));
    let written = written(&mut channels, now);
    assert_eq!(written.len(), MAX_PACKETS + 1);
    assert_eq!(written[0], bind(1, 1));
    assert_eq!(written[1], [4, 0, 1, 4, 0, 0, 0, 72], "the 72 before it were dropped");
    assert_eq!(channels.disconnected(), 72);
}

#[tokio::test]
async fn without_a_connection_or_a_channel_packets_go_nowhere() {
    let mut channels = connected();
    channels.disconnected();
    channels.packet(1, &[4, 0, 0, 0]);
    channels.connected();
    channels.packet(9, &[4, 0, 0, 0]);
    assert_eq!(written(&mut channels, Instant::now()), [bind(1, 1)]);
}

#[tokio::test]
async fn a_bind_that_is_not_answered_ends_the_connection() {
    let now = Instant::now();
    let mut channels = connected();
    assert_eq!(channels.dead_at(), None);
    written(&mut channels, now);
    assert_eq!(channels.dead_at(), Some(now + ANSWER_WITHIN));
    channels.heard(&bound(1, false));
    assert_eq!(channels.dead_at(), None);
}

#[tokio::test]
async fn a_channel_that_is_closed_is_unbound() {
    let now = Instant::now();
    let mut channels = connected();
    written(&mut channels, now);
    channels.close(1);
    assert!(channels.is_empty());
    assert_eq!(written(&mut channels, now), [Frame::Unbind { channel: 1 }.encode()]);
    assert_eq!(channels.heard(&bound(1, true)), None);
}
