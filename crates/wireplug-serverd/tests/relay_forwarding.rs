//! The relay's forwarding over real sockets on loopback addresses: what passes, from where to where, and what not.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_proto::relay::{Bound, Credential, CredentialId, CredentialKey, data_header};
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};
use wireplug_proto::{Side, Topic};
use wireplug_serverd::relay::{
    Ask, Asker, Dropped, Forwarder, Relay, Settings, TlsLeg, TlsOutgoing, TlsQueue,
};

const WAIT: Duration = Duration::from_secs(5);

/// A running relay on ports of its own.
struct Server {
    forwarder: Forwarder,
    ports: std::ops::RangeInclusive<u16>,
}

/// A client's socket and credential.
struct Client {
    socket: UdpSocket,
    credential: Credential,
    relay: SocketAddr,
    order: u64,
}

impl Server {
    fn start(addresses: &[&str], threads: usize, settings: &Settings) -> Self {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        // Ports below the ones that the system gives to others.
        for first in (20_000..30_000).step_by(4).skip(std::process::id() as usize % 2000) {
            let relay = Arc::new(Relay::new(settings.clone(), [9; 32], Instant::now()));
            let ports = first..=first + 3;
            if let Ok(forwarder) = Forwarder::start(relay, &addresses, ports.clone(), threads) {
                return Self { forwarder, ports };
            }
        }
        panic!("no free ports");
    }

    fn relay(&self) -> &Relay {
        self.forwarder.relay()
    }

    fn credential(&self, pair: u8, side: Side) -> Credential {
        let (topic, number) = (Topic::from_bytes([pair; 32]), pair * 2 + side as u8);
        let ask = Ask { topic, side, asker: Asker(u64::from(number)), address: [198, 51, 100, 1].into() };
        let fresh = Credential {
            id: CredentialId::from_bytes([number; 16]),
            key: CredentialKey::from_bytes([number; 32]),
        };
        self.relay().allocate(Instant::now(), ask, fresh).unwrap().credential
    }

    /// A client at its own loopback address, bound to one of the relay's ports.
    fn client(&self, pair: u8, side: Side, own: &str, relay: &str, port: u16) -> Client {
        let socket = UdpSocket::bind(own).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let relay = SocketAddr::new(relay.parse().unwrap(), self.ports.start() + port);
        let mut client = Client { socket, credential: self.credential(pair, side), relay, order: 0 };
        client.bind();
        client
    }

    fn dropped(&self, why: Dropped) -> u64 {
        self.relay().counters().dropped(why).packets
    }

    /// Waits until the threads have counted it.
    fn wait_for(&self, what: &str, done: impl Fn(&Relay) -> bool) {
        let end = Instant::now() + WAIT;
        while !done(self.relay()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.relay().counters());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Client {
    fn bind(&mut self) -> Bound {
        let mut nonce = None;
        loop {
            self.order += 1;
            let transaction = TransactionId::from_bytes([self.order.to_be_bytes()[7]; 12]);
            let request = request(&self.credential, transaction, self.order, nonce.as_ref());
            self.socket.send_to(&request, self.relay).unwrap();
            let mut buffer = [0; 256];
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, self.relay);
            assert!(length <= request.len(), "no answer is longer than its request");
            match parse_answer(&buffer[..length], &self.credential.key).unwrap() {
                (answered, BindAnswer::Challenge { nonce: given }) if nonce.is_none() => {
                    assert_eq!(answered, transaction);
                    nonce = Some(given);
                }
                (answered, BindAnswer::Bound { mapped, bound }) => {
                    assert_eq!((answered, mapped), (transaction, self.socket.local_addr().unwrap()));
                    return bound;
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    }

    fn send(&self, payload: &[u8]) {
        self.socket.send_to(payload, self.relay).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.relay, "it comes from where it was bound to");
        buffer.truncate(length);
        buffer
    }

    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let error = self.socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// A data message with a number in it.
fn data(number: u32, length: usize) -> Vec<u8> {
    let mut packet = vec![0xaa; length];
    packet[..4].copy_from_slice(&[4, 0, 0, 0]);
    packet[16..20].copy_from_slice(&number.to_be_bytes());
    packet
}

#[test]
fn packets_pass_between_the_two_sides_both_ways_in_order() {
    for (addresses, a, b) in [
        (&["::"][..], ("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")),
        (&["0.0.0.0"], ("127.0.0.1:0", "127.0.0.2"), ("127.0.0.1:0", "127.0.0.3")),
        (&["127.0.0.5", "127.0.0.6"], ("127.0.0.1:0", "127.0.0.5"), ("127.0.0.1:0", "127.0.0.6")),
    ] {
        let server = Server::start(addresses, 2, &Settings::default());
        let mut low = server.client(1, Side::Low, a.0, a.1, 0);
        let high = server.client(1, Side::High, b.0, b.1, 3);
        assert!(low.bind().other_side);
        for number in 0..200 {
            low.send(&data(number, 32 + number as usize % 7 * 200));
            if number % 10 == 9 {
                high.send(&data(number, 148));
                assert_eq!(low.receive(), data(number, 148));
                for number in number - 9..=number {
                    assert_eq!(high.receive(), data(number, 32 + number as usize % 7 * 200));
                }
            }
        }
        server.wait_for("all counted", |relay| relay.counters().forwarded_udp.packets == 220);
    }
}

#[test]
fn a_full_packet_of_an_ipv6_tunnel_mtu_passes_from_ipv4_to_ipv6() {
    let server = Server::start(&["::"], 1, &Settings::default());
    let low = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    let high = server.client(1, Side::High, "[::1]:0", "::1", 0);
    // MTU 1440 makes 1472 bytes; and what a jumbo tunnel makes.
    for length in [1472, 1472, 9000] {
        low.send(&data(7, length));
        assert_eq!(high.receive(), data(7, length));
        high.send(&data(8, length));
        assert_eq!(low.receive(), data(8, length));
    }
}

#[test]
fn runs_arrive_as_they_were_sent() {
    let server = Server::start(&["127.0.0.1"], 1, &Settings::default());
    let low = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    let high = server.client(1, Side::High, "127.0.0.1:0", "127.0.0.1", 1);
    let packets: Vec<Vec<u8>> = (0..64).map(|n| data(n, if n == 40 { 300 } else { 1400 })).collect();
    for _ in 0..20 {
        for packet in &packets {
            low.send(packet);
        }
        for packet in &packets {
            assert_eq!(&high.receive(), packet);
        }
    }
}

#[test]
fn what_is_unbound_or_not_wireguard_goes_nowhere() {
    let server = Server::start(&["127.0.0.1"], 1, &Settings::default());
    let low = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    low.send(&data(1, 100));
    server.wait_for("alone", |_| server.dropped(Dropped::Alone) == 1);
    let high = server.client(1, Side::High, "127.0.0.1:0", "127.0.0.1", 0);
    let third = UdpSocket::bind("127.0.0.1:0").unwrap();
    third.send_to(&data(2, 100), low.relay).unwrap(); // a third address
    server.wait_for("a third address", |_| server.dropped(Dropped::Unbound) == 1);
    let other_port = SocketAddr::new(low.relay.ip(), low.relay.port() + 1);
    low.socket.send_to(&data(3, 100), other_port).unwrap(); // a bound source at a port that it did not bind
    server.wait_for("another port", |_| server.dropped(Dropped::Unbound) == 2);
    for junk in
        [&b"hello"[..], b"", &[0; 100], &[4, 0, 0, 1, 0, 0, 0, 0], &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]]
    {
        low.send(junk);
    }
    server.wait_for("junk", |_| server.dropped(Dropped::Shape) == 5);
    low.hears_nothing();
    high.hears_nothing();
    low.send(&data(4, 100));
    assert_eq!(high.receive(), data(4, 100));
}

#[test]
fn one_wireguard_port_serves_several_pairs_by_as_many_relay_ports() {
    let server = Server::start(&["127.0.0.1"], 2, &Settings::default());
    let mut hub = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    let one = server.client(1, Side::High, "127.0.0.1:0", "127.0.0.1", 0);
    let (first_relay, first) = (hub.relay, hub.credential.clone());
    hub.credential = server.credential(2, Side::Low);
    hub.order = 0;
    hub.relay.set_port(first_relay.port() + 1);
    hub.bind();
    let two = server.client(2, Side::High, "127.0.0.1:0", "127.0.0.1", 0);
    one.send(&data(1, 100));
    let mut buffer = [0; 200];
    assert_eq!(hub.socket.recv_from(&mut buffer).unwrap(), (100, first_relay));
    two.send(&data(2, 100));
    assert_eq!(hub.receive(), data(2, 100));
    hub.send(&data(3, 100));
    assert_eq!(two.receive(), data(3, 100));
    hub.socket.send_to(&data(4, 100), first_relay).unwrap();
    assert_eq!(one.receive(), data(4, 100));
    assert_ne!(first, hub.credential);
}

#[test]
fn a_flood_of_strangers_changes_nothing_for_the_bound() {
    let server = Server::start(&["127.0.0.1"], 1, &Settings::default());
    let low = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    let high = server.client(1, Side::High, "127.0.0.1:0", "127.0.0.1", 1);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let wrong =
        Credential { id: CredentialId::from_bytes([77; 16]), key: CredentialKey::from_bytes([77; 32]) };
    for number in 0..2000 {
        for _ in 0..5 {
            stranger.send_to(&data(number, 1400), low.relay).unwrap();
            let forged = request(&wrong, TransactionId::from_bytes([1; 12]), u64::from(number), None);
            stranger.send_to(&forged, low.relay).unwrap();
        }
        low.send(&data(number, 100));
        if number % 50 == 49 {
            for number in number - 49..=number {
                assert_eq!(high.receive(), data(number, 100));
            }
        }
    }
    assert_eq!(server.relay().gauges().udp_bindings, 2);
    server.wait_for("all counted", |relay| relay.counters().forwarded_udp.packets == 2000);
}

#[tokio::test]
async fn a_side_on_tls_meets_a_side_on_udp() {
    let server = Server::start(&["127.0.0.1"], 1, &Settings::default());
    let low = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    let queue = Arc::new(TlsQueue::new(2, 2));
    let leg = TlsLeg { queue: queue.clone(), channel: 77 };
    let high = server.credential(1, Side::High);
    let (binding, bound) = server.relay().bind_tls(Instant::now(), &high, leg).unwrap();
    assert!(bound.other_side);
    server.forwarder.from_tls(Instant::now(), binding, &data(1, 100));
    assert_eq!(low.receive(), data(1, 100));
    server.forwarder.from_tls(Instant::now(), binding, b"not of WireGuard");
    for number in 2..5 {
        low.send(&data(number, 100));
    }
    server.wait_for("queued", |relay| relay.counters().forwarded_tls.packets == 3);
    for number in 3..5 {
        let frame = [&data_header(77)[..], &data(number, 100)].concat();
        assert_eq!(queue.next().await, TlsOutgoing::Frame(frame), "the oldest was dropped");
    }
    assert_eq!((server.dropped(Dropped::TlsQueue), server.dropped(Dropped::Shape)), (1, 1));
    server.relay().unbind_tls(Instant::now(), binding);
    server.forwarder.from_tls(Instant::now(), binding, &data(9, 100));
    low.send(&data(9, 100));
    server.wait_for("unbound", |_| server.dropped(Dropped::Alone) == 1);
    assert_eq!(server.dropped(Dropped::Unbound), 1);
    low.hears_nothing();
}

#[test]
fn bandwidth_is_kept() {
    let settings = Settings { bandwidth: Some(8_000_000), ..Settings::default() };
    let server = Server::start(&["127.0.0.1"], 1, &settings);
    let low = server.client(1, Side::Low, "127.0.0.1:0", "127.0.0.1", 0);
    let _high = server.client(1, Side::High, "127.0.0.1:0", "127.0.0.1", 0);
    for number in 0..1000 {
        low.send(&data(number, 1000)); // 8 Mbit at once
    }
    let dropped = || server.dropped(Dropped::Bandwidth);
    server.wait_for("all seen", |relay| relay.counters().forwarded_udp.packets + dropped() == 1000);
    assert!(dropped() > 500, "{} of 1000 dropped", dropped());
}

#[test]
fn threads_end_and_ports_are_free_again() {
    let server = Server::start(&["127.0.0.1"], 2, &Settings::default());
    let ports = server.ports.clone();
    drop(server);
    for port in ports {
        UdpSocket::bind(("127.0.0.1", port)).unwrap();
    }
}
