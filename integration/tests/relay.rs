//! The relay of the real server, with daemons that are played by hand: what it forwards, over UDP and TLS, within
//! which limits, and what a restart does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use wireplug_integration::played::{
    Answer, Leg, Member, Relayed, Said, Scene, Way, one_way, packet, pair, pass,
};
use wireplug_lab::{Nat, Result};
use wireplug_proto::relay::{BindRefusal, Bound, Credential, CredentialId, CredentialKey, Frame};
use wireplug_proto::rendezvous::{ClientMessage, Reason, ServerMessage};
use wireplug_proto::stun::relay::BindAnswer;

const PUBLIC: [Nat; 2] = [Nat::None, Nat::None];
const TOKEN: &str = "correct-horse-battery-staple";
/// The channel of legs over TLS.
const CHANNEL: u16 = 7;

fn refused(answer: Answer) -> (Reason, String, Option<Duration>) {
    match answer {
        Answer::Refused { reason, detail, retry_after } => (reason, detail, retry_after),
        Answer::Allocated(allocation) => panic!("it has a place: {allocation:?}"),
    }
}

fn is_bound(said: &Said, with_other: bool) -> bool {
    matches!(said, Said::Bound(CHANNEL, Bound { other_side, .. }) if *other_side == with_other)
}

#[test]
fn a_pair_behind_symmetric_nats_is_relayed_and_moved_and_released() {
    Scene::with("relay-pair", &[Nat::Symmetric, Nat::Symmetric], "", |scene| {
        let [low, high] = pair()?;
        let mut b = Member::join(scene.hosts[1].namespace(), scene.way(1), &high)?;
        b.said()?;
        let mut a = scene.relayed(0, low, 0)?;
        assert!(!a.bind()?.other_side, "nobody is there yet");
        assert_eq!(b.said()?, [ServerMessage::RelayCalled { topic: high.topic() }]);
        drop(b);
        // The other side uses another relay port: an allocation is not a port.
        let mut b = scene.relayed(1, high, 5)?;
        assert!(b.bind()?.other_side && a.bind()?.other_side);
        let mut sides = [a, b];
        pass(&mut sides)?;

        // The path outlives the connection to the rendezvous.
        let nobody = Member::connect(scene.hosts[0].namespace(), scene.way(0))?;
        drop(std::mem::replace(&mut sides[0].member, nobody));
        pass(&mut sides)?;

        // A daemon that comes back has another credential, and binds again from another port: packets follow it.
        let [mut a, mut b] = sides;
        (a.member, a.allocation) = scene.member(0, &a.pair)?;
        a.port = scene.port(0, 0)?;
        assert!(a.bind()?.other_side);
        let mut sides = [a, b];
        pass(&mut sides)?;

        [a, b] = sides;
        a.member.say(&ClientMessage::Release { topic: a.pair.topic() })?;
        a.member.said()?;
        b.send(&packet(1))?;
        assert_eq!(a.port.drain()?, [], "released");
        assert!(!b.bind()?.other_side);
        Ok(())
    })
    .unwrap();
}

#[test]
fn one_side_has_ipv4_only_and_the_other_ipv6_only() {
    Scene::with("relay-families", &[Nat::Symmetric, Nat::Ipv6Firewall], "", |scene| {
        let mut sides = scene.pair(0)?;
        assert!(sides[0].relay.is_ipv4() && sides[1].relay.is_ipv6());
        // What fits a tunnel of MTU 1440 over IPv4 is too large for one IPv6 packet: it goes in fragments.
        let mut large = packet(9);
        large.resize(1440 + 32, 0);
        sides[0].send(&large)?;
        assert_eq!(sides[1].port.receive()?.1, large);
        sides[1].send(&large)?;
        assert_eq!(sides[0].port.receive()?.1, large);
        pass(&mut sides)
    })
    .unwrap();
}

/// A UDP side and a TLS side; then the UDP side falls back to TLS too.
#[test]
fn where_udp_is_blocked_packets_go_over_tls() {
    Scene::with("relay-tls", &[Nat::None, Nat::UdpBlocked], "", |scene| {
        let [low, high] = pair()?;
        let mut a = scene.relayed(0, low, 0)?;
        let (_member, place) = scene.member(1, &high)?;
        let mut b = Leg::connect(scene.hosts[1].namespace(), scene.way(1))?;
        let answer = b.bind(CHANNEL, &place.credential)?;
        assert!(is_bound(&answer, true), "{answer:?}");
        assert!(a.bind()?.other_side);

        b.send(CHANNEL, &packet(1))?;
        assert_eq!(a.port.receive()?, (a.relay, packet(1)));
        a.send(&packet(2))?;
        assert_eq!(b.hear()?, Said::Packet(CHANNEL, packet(2)));

        let mut c = Leg::connect(scene.hosts[0].namespace(), scene.way(0))?;
        let answer = c.bind(CHANNEL, a.credential())?;
        assert!(is_bound(&answer, true), "{answer:?}");
        c.send(CHANNEL, &packet(3))?;
        assert_eq!(b.hear()?, Said::Packet(CHANNEL, packet(3)));
        b.send(CHANNEL, &packet(4))?;
        assert_eq!(c.hear()?, Said::Packet(CHANNEL, packet(4)), "to where the side sent from last");
        a.send(&packet(5))?;
        assert_eq!(b.hear()?, Said::Packet(CHANNEL, packet(5)));
        b.send(CHANNEL, &packet(6))?;
        assert_eq!(a.port.receive()?, (a.relay, packet(6)), "and back");

        b.say(&Frame::Unbind { channel: CHANNEL })?;
        let unknown =
            Credential { id: CredentialId::from_bytes([1; 16]), key: CredentialKey::from_bytes([1; 32]) };
        assert_eq!(b.bind(9, &unknown)?, Said::Refused(9, BindRefusal::Unknown), "what came before is done");
        a.send(&packet(7))?;
        assert_eq!(b.drain()?, []);
        Ok(())
    })
    .unwrap();
}

/// A client that does not read gets the latest packets of a flood, not the first, and the server keeps few of them.
#[test]
fn what_a_slow_client_does_not_take_is_dropped_and_the_oldest_first() {
    const FLOOD: u32 = 20_000;
    const LARGE: usize = 1400;
    Scene::with("relay-slow", &PUBLIC, "", |scene| {
        let [low, high] = pair()?;
        let mut a = scene.relayed(0, low, 0)?;
        let (_member, place) = scene.member(1, &high)?;
        let mut b = Leg::connect(scene.hosts[1].namespace(), scene.way(1))?;
        assert!(is_bound(&b.bind(CHANNEL, &place.credential)?, true));
        for number in 1..=FLOOD {
            let mut packet = packet(number);
            packet.resize(LARGE, 0);
            a.send(&packet)?;
            if number % 20 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let last = {
            let mut last = packet(FLOOD);
            last.resize(LARGE, 0);
            last
        };
        let mut came = Vec::new();
        while came.last() != Some(&Said::Packet(CHANNEL, last.clone())) {
            came.push(b.hear()?);
        }
        let dropped = scene.server.metric("relay_dropped_packets_total")?;
        assert!(came.len() < FLOOD as usize && dropped > 0, "{} came, {dropped} dropped", came.len());
        assert!(a.bind()?.other_side, "nothing broke");
        Ok(())
    })
    .unwrap();
}

/// A reverse proxy that does what every one does: reads the head of a request, adds a line, and then passes bytes on.
fn proxy(listener: &TcpListener, server: SocketAddr) {
    for client in listener.incoming() {
        let Ok(client) = client else { return };
        thread::spawn(move || pass_on(client, server).ok());
    }
}

fn pass_on(mut client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    server.write_all(&head)?;
    write!(server, "X-Forwarded-For: {}\r\n\r\n", client.peer_addr()?.ip())?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)
}

#[test]
fn everything_works_through_a_plain_reverse_proxy() {
    const PROXY: u16 = 8080;
    let config = "tls = false\ntrusted-proxies = [\"127.0.0.1\"]\n[relay]\nallocations-per-address = 1\n";
    Scene::with_config("relay-proxy", &PUBLIC, config, |scene| {
        let outer = SocketAddr::new(scene.server.v4(0).into(), PROXY);
        let listener = scene.server.namespace().enter(|| Ok(TcpListener::bind(outer).unwrap()))?;
        // The thread opens its connections to the server in the server's namespace.
        let namespace = scene.server.namespace().clone();
        thread::spawn(move || {
            namespace.enter(|| {
                proxy(&listener, "127.0.0.1:443".parse().unwrap());
                Ok(())
            })
        });
        let way = Way::Plain(outer);
        let mut legs = Vec::new();
        for (host, pair) in pair()?.into_iter().enumerate() {
            let namespace = scene.hosts[host].namespace();
            let mut member = Member::join(namespace, way, &pair)?;
            // Each client counts as its own address, so that both sides of the pair fit the limit of one.
            let place = member.allocate(&pair)?;
            let mut leg = Leg::connect(namespace, way)?;
            leg.bind(CHANNEL, &place.credential)?;
            legs.push((leg, member));
        }
        let [(a, _), (b, _)] = &mut legs[..] else { unreachable!() };
        for number in 0..500 {
            a.send(CHANNEL, &packet(number))?;
            assert_eq!(b.hear()?, Said::Packet(CHANNEL, packet(number)));
            b.send(CHANNEL, &packet(number))?;
            assert_eq!(a.hear()?, Said::Packet(CHANNEL, packet(number)));
        }
        Ok(())
    })
    .unwrap();
}

/// How many of `count` large packets, sent as fast as a test can, come through.
fn burst(from: &Relayed, to: &mut Relayed, count: u32) -> Result<usize> {
    for number in 0..count {
        let mut packet = packet(number);
        packet.resize(1400, 0);
        from.send(&packet)?;
        if number % 16 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(to.port.drain()?.len())
}

#[test]
fn bandwidth_is_limited_for_each_pair_and_each_for_itself() {
    Scene::with("relay-bandwidth", &PUBLIC, "bandwidth = \"1 Mbit/s\"", |scene| {
        let ([a, mut b], mut others) = (scene.pair(0)?, scene.pair(1)?);
        // 1000 packets are 11 Mbit.
        let came = burst(&a, &mut b, 1000)?;
        assert!((10..500).contains(&came), "{came} of 1000");
        pass(&mut others)?;
        assert!(scene.server.metric("relay_dropped_packets_total")? > 0);
        thread::sleep(Duration::from_millis(500));
        one_way(&a, &mut b)
    })
    .unwrap();
}

#[test]
fn the_bandwidth_of_all_pairs_together_is_limited() {
    Scene::with("relay-total", &PUBLIC, "total-bandwidth = \"1 Mbit/s\"", |scene| {
        let ([a, mut b], [c, mut d]) = (scene.pair(0)?, scene.pair(1)?);
        let came = burst(&a, &mut b, 500)? + burst(&c, &mut d, 500)?;
        assert!((10..600).contains(&came), "{came} of 1000");
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_full_says_so_and_when_to_ask_again() {
    Scene::with("relay-full", &PUBLIC, "allocations = 2\nallocations-per-address = 1", |scene| {
        let mut places = Vec::new();
        let [low, high] = pair()?;
        places.push(scene.member(0, &low)?);
        places.push(scene.member(1, &high)?);
        let [low, _] = pair()?;
        let mut more = Member::join(scene.hosts[0].namespace(), scene.way(0), &low)?;
        let (reason, detail, retry_after) = refused(more.ask(&low, None)?);
        assert_eq!(reason, Reason::Full, "{detail}");
        assert!(detail.contains("address") && retry_after.is_some(), "{detail}");
        Ok(())
    })
    .unwrap();
    Scene::with("relay-full2", &PUBLIC, "allocations = 1", |scene| {
        let [low, high] = pair()?;
        let mut place = scene.member(0, &low)?;
        scene.member(1, &high)?;
        let [other, _] = pair()?;
        let mut more = Member::join(scene.hosts[0].namespace(), scene.way(0), &other)?;
        let (reason, detail, retry_after) = refused(more.ask(&other, None)?);
        assert!(reason == Reason::Full && retry_after.is_some(), "{detail}");
        place.0.allocate(&low)?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_private_relay_serves_who_shows_a_token_and_tells_the_others() {
    Scene::with("relay-token", &PUBLIC, &format!("tokens = [\"{TOKEN}\"]"), |scene| {
        let [low, _] = pair()?;
        let mut a = Member::join(scene.hosts[0].namespace(), scene.way(0), &low)?;
        for token in [None, Some("another-token-altogether")] {
            let (reason, detail, _) = refused(a.ask(&low, token)?);
            assert_eq!(reason, Reason::Denied, "{detail}");
            assert!(detail.contains("token"), "{detail}");
        }
        assert_eq!(scene.server.metric("relay_denied_total")?, 2);
        assert!(matches!(a.ask(&low, Some(TOKEN))?, Answer::Allocated(_)));
        assert!(!scene.server.process().unwrap().log().contains(TOKEN));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_relay_that_is_off_says_so_and_opens_no_port() {
    Scene::with("relay-off", &PUBLIC, "enabled = false", |scene| {
        let [low, _] = pair()?;
        let mut a = Member::join(scene.hosts[0].namespace(), scene.way(0), &low)?;
        let (reason, detail, _) = refused(a.ask(&low, None)?);
        assert_eq!(reason, Reason::Unsupported, "{detail}");
        assert!(detail.contains("turned off"), "{detail}");
        assert!(Leg::connect(scene.hosts[0].namespace(), scene.way(0)).is_err());
        let sockets = scene.server.namespace().run(&["ss", "-lnu"])?;
        assert!(!sockets.contains(":3479"), "{sockets}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn after_a_restart_the_same_questions_give_a_place_again() {
    Scene::with("relay-restart", &PUBLIC, "", |scene| {
        let mut sides = scene.pair(0)?;
        let begun = Instant::now();
        scene.server.kill();
        scene.server.start()?;
        let started = begun.elapsed();
        for side in &mut sides {
            let answer = side.port.bind(side.relay, &side.allocation.credential)?;
            assert_eq!(answer, BindAnswer::Refused(BindRefusal::Unknown), "the old credential is not known");
            assert!(side.member.said().is_err(), "the connection broke");
        }
        for (host, side) in sides.iter_mut().enumerate() {
            (side.member, side.allocation) = scene.member(host, &side.pair)?;
            side.bind()?;
        }
        pass(&mut sides)?;
        println!("restarted after {started:?}, relayed again after {:?}", begun.elapsed());
        Ok(())
    })
    .unwrap();
}

#[test]
fn who_is_silent_for_long_is_forgotten() {
    Scene::with("relay-idle", &PUBLIC, "idle = \"5s\"", |scene| {
        let mut sides = scene.pair(0)?;
        for _ in 0..3 {
            thread::sleep(Duration::from_secs(2));
            pass(&mut sides)?;
        }
        let [a, mut b] = sides;
        assert_eq!(scene.server.metric("relay_bindings")?, 2);
        thread::sleep(Duration::from_secs(7));
        assert_eq!(scene.server.metric("relay_bindings")?, 0);
        a.send(&packet(1))?;
        assert_eq!(b.port.drain()?, []);
        Ok(())
    })
    .unwrap();
}
