//! Attacks on the relay of the real server: nothing is forwarded to or from the wrong place, and nothing that
//! strangers send changes anything for those who are bound.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_integration::played::{Leg, Member, Said, Scene, packet, pair, pass};
use wireplug_lab::Nat;
use wireplug_proto::relay::{BindRefusal, Credential, CredentialId, CredentialKey, Frame};
use wireplug_proto::rendezvous::{ClientMessage, Reason, ServerMessage};
use wireplug_proto::stun::relay::{BindAnswer, request};

const THREE: [Nat; 3] = [Nat::None, Nat::None, Nat::None];
/// The stranger's place among the hosts.
const STRANGER: usize = 2;

fn credential(seed: u8) -> Credential {
    Credential { id: CredentialId::from_bytes([seed; 16]), key: CredentialKey::from_bytes([seed; 32]) }
}

/// Resident memory of the server in KiB.
fn memory(scene: &Scene) -> u64 {
    let pid = scene.server.process().unwrap().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn only_bound_sources_are_heard_and_only_at_their_own_port() {
    Scene::with("relay-strangers", &THREE, "", |scene| {
        let (mut sides, mut others) = (scene.pair(0)?, scene.pair(1)?);
        let stranger = scene.port(STRANGER, 51820)?;
        for side in sides.iter().chain(&others) {
            // Somebody else's packet, at the right relay port.
            stranger.send(side.relay, &packet(1))?;
            // One's own packet, at ports where another pair is bound, or nobody.
            for number in [0, 1, 2, 31] {
                let elsewhere = SocketAddr::new(side.relay.ip(), side.allocation.ports.start() + number);
                if elsewhere != side.relay {
                    side.port.send(elsewhere, &packet(2))?;
                }
            }
            // What is no WireGuard message, from the right source.
            for junk in [&b""[..], b"x", &[4; 48], &[0; 148], &[1, 0, 0, 0], &[4, 0, 0, 0, 1]] {
                side.send(junk)?;
            }
        }
        // Another port of a bound host is a stranger too.
        let neighbour = scene.port(0, 4000)?;
        neighbour.send(sides[0].relay, &packet(3))?;
        for side in sides.iter_mut().chain(&mut others) {
            assert_eq!(side.port.drain()?, []);
        }
        pass(&mut sides)?;
        pass(&mut others)?;
        let dropped = scene.server.metric("relay_dropped_packets_total")?;
        assert!(dropped > 4 * (1 + 3 + 5), "{dropped} were counted");
        Ok(())
    })
    .unwrap();
}

#[test]
fn forged_binds_bind_nothing() {
    Scene::with("relay-forged", &THREE, "", |scene| {
        let mut sides = scene.pair(0)?;
        let (relay, genuine) = (sides[0].relay, sides[0].credential().clone());
        let mut stranger = scene.port(STRANGER, 51820)?;
        let Some(BindAnswer::Challenge { nonce }) = ({
            let first = stranger.request(&genuine, None);
            stranger.ask(relay, &first, &genuine)?
        }) else {
            panic!("a stranger is asked for a nonce like everybody")
        };
        // The right name with another key; and the genuine request with each byte altered.
        let guessed = Credential { key: CredentialKey::from_bytes([9; 32]), ..genuine.clone() };
        let forged = stranger.request(&guessed, Some(&nonce));
        let answer = stranger.ask(relay, &forged, &genuine)?;
        assert!(
            !matches!(answer, Some(BindAnswer::Bound { .. } | BindAnswer::Challenge { .. })),
            "{answer:?}"
        );
        let order = sides[0].port.order() + 10;
        let sound = request(&genuine, TransactionId::from_bytes([1; 12]), order, Some(&nonce));
        for at in 0..sound.len() {
            let mut altered = sound.clone();
            altered[at] ^= 0x10;
            stranger.send(relay, &altered)?;
        }
        // A name that nobody has.
        let unknown = credential(5);
        let asked = stranger.request(&unknown, Some(&nonce));
        let answer = stranger.ask(relay, &asked, &unknown)?;
        assert_eq!(answer, Some(BindAnswer::Refused(BindRefusal::Unknown)));
        stranger.drain()?;

        stranger.send(relay, &packet(1))?;
        for side in &mut sides {
            assert_eq!(side.port.drain()?, []);
        }
        pass(&mut sides)?;
        assert_eq!(stranger.drain()?, [], "nothing is forwarded to the stranger");
        Ok(())
    })
    .unwrap();
}

#[test]
fn replayed_binds_move_nothing() {
    Scene::with("relay-replayed", &THREE, "", |scene| {
        let mut sides = scene.pair(0)?;
        let (relay, genuine) = (sides[0].relay, sides[0].credential().clone());
        // What somebody on the way sees: each request, with its nonce, as it was accepted.
        let Some(BindAnswer::Challenge { nonce }) = ({
            let first = sides[0].port.request(&genuine, None);
            sides[0].port.ask(relay, &first, &genuine)?
        }) else {
            panic!("no nonce")
        };
        let recorded: Vec<_> = (0..3).map(|_| sides[0].port.request(&genuine, Some(&nonce))).collect();
        for request in &recorded {
            let answer = sides[0].port.ask(relay, request, &genuine)?;
            assert!(matches!(answer, Some(BindAnswer::Bound { .. })), "{answer:?}");
        }
        // Elsewhere the same bytes bind nothing, at this port or another: the nonce is of another source.
        let mut stranger = scene.port(STRANGER, 51820)?;
        for to in [relay, SocketAddr::new(relay.ip(), relay.port() + 9)] {
            for request in &recorded {
                let answer = stranger.ask(to, request, &genuine)?;
                assert!(!matches!(answer, Some(BindAnswer::Bound { .. })), "{answer:?}");
            }
        }
        // An old one from the side's own address, after it has roamed, does not bring it back.
        let order = sides[0].port.order();
        let mut old = std::mem::replace(&mut sides[0].port, scene.port(0, 4000)?);
        sides[0].port.go_on_from(order);
        sides[0].bind()?;
        for request in &recorded {
            old.send(relay, request)?;
        }
        pass(&mut sides)?;
        for side in &mut sides {
            assert_eq!(side.port.drain()?, []);
        }
        let came: Vec<_> =
            old.drain()?.into_iter().filter(|(_, datagram)| datagram.first() == Some(&4)).collect();
        assert_eq!(came, [], "no packet goes to where it was");
        assert_eq!(stranger.drain()?, []);
        Ok(())
    })
    .unwrap();
}

/// Who writes somebody else's address into a datagram makes the relay send that address one answer, which is no longer
/// than what was sent, and binds nothing.
#[test]
fn spoofed_sources_are_bound_to_nothing_and_bothered_little() {
    const REQUESTS: usize = 20;
    Scene::with("relay-spoofed", &THREE, "", |scene| {
        let (victim, attacker) = (&scene.hosts[0], &scene.hosts[STRANGER]);
        let [low, high] = pair()?;
        let mut peer = scene.relayed(1, high, 0)?;
        let (_member, place) = scene.member(STRANGER, &low)?;
        let relay = scene.relay(STRANGER, &place, 0);

        // The attacker has a genuine credential, and the victim's address as one of its own.
        let address = victim.addresses()[0];
        attacker.namespace().ip(&[format!("addr add {address}/32 dev lo")])?;
        let spoofed = attacker.namespace().enter(|| Ok(UdpSocket::bind((address, 4242)).unwrap()))?;
        let listener = victim.udp(SocketAddr::new(address, 4242))?;
        listener.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut longest = 0;
        for order in 1..=REQUESTS as u64 {
            let first = request(&place.credential, TransactionId::from_bytes([7; 12]), order, None);
            longest = longest.max(first.len());
            spoofed.send_to(&first, relay).unwrap();
        }
        spoofed.send_to(&packet(1), relay).unwrap();
        let (mut answers, mut buffer) = (0, [0; 2048]);
        while let Ok((length, _)) = listener.recv_from(&mut buffer) {
            assert!(length <= longest, "an answer of {length} bytes to {longest}");
            answers += 1;
        }
        assert!(answers <= REQUESTS, "{answers}");
        assert!(!peer.bind()?.other_side, "nobody is bound");
        assert_eq!(peer.port.drain()?, []);
        peer.send(&packet(2))?;
        assert!(listener.recv_from(&mut buffer).is_err(), "nothing is forwarded to the victim");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_pair_that_asks_for_more_ports_than_there_are_gets_no_other_pairs() {
    Scene::with("relay-ports", &THREE, "ports = \"3479-3480\"", |scene| {
        let mut bound = Vec::new();
        // One WireGuard port for all pairs, as an interface has.
        let mut port = scene.port(0, 51820)?;
        for number in 0..2 {
            let [low, high] = pair()?;
            let (member, place) = scene.member(0, &low)?;
            let relay = scene.relay(0, &place, number);
            assert!(matches!(port.bind(relay, &place.credential)?, BindAnswer::Bound { .. }));
            bound.push((member, relay, scene.relayed(1, high, number)?));
        }
        let [low, _] = pair()?;
        let (_member, place) = scene.member(0, &low)?;
        for number in 0..2 {
            let relay = scene.relay(0, &place, number);
            let answer = port.bind(relay, &place.credential)?;
            assert_eq!(answer, BindAnswer::Refused(BindRefusal::Taken), "{relay}");
        }
        for (number, (_, relay, peer)) in bound.iter_mut().enumerate() {
            let number = u32::try_from(number).unwrap();
            port.send(*relay, &packet(number))?;
            assert_eq!(peer.port.receive()?.1, packet(number), "as before");
            peer.send(&packet(10 + number))?;
            assert_eq!(port.receive()?, (*relay, packet(10 + number)));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_credential_is_of_one_side_and_one_pair() {
    Scene::with("relay-sides", &THREE, "", |scene| {
        // A connection that is no member gets nothing, also if it knows the topic's name.
        let [low, high] = pair()?;
        let mut a = scene.relayed(0, low, 0)?;
        let mut stranger = Member::connect(scene.hosts[STRANGER].namespace(), scene.way(STRANGER))?;
        stranger.say(&ClientMessage::Allocate { topic: a.pair.topic(), access: None })?;
        stranger.say(&ClientMessage::Release { topic: a.pair.topic() })?;
        let said = stranger.said()?;
        let [ServerMessage::Refused { reason: Reason::NotMember, .. }] = &said[..] else {
            panic!("{said:?}")
        };

        // A side's own credential never makes it the other side: it cannot be relayed to itself.
        let mut second = scene.port(0, 4000)?;
        second.go_on_from(a.port.order());
        second.bind(scene.relay(0, &a.allocation, 3), a.credential())?;
        second.send(scene.relay(0, &a.allocation, 3), &packet(1))?;
        a.send(&packet(2))?;
        assert_eq!((second.drain()?, a.port.drain()?), (vec![], vec![]));
        a.port.go_on_from(second.order());
        assert!(!a.bind()?.other_side);

        let b = scene.relayed(1, high, 0)?;
        pass(&mut [a, b])
    })
    .unwrap();
}

#[test]
fn junk_over_tls_ends_its_own_connection_at_most() {
    Scene::with("relay-tls-junk", &THREE, "", |scene| {
        let mut sides = scene.pair(0)?;
        let namespace = scene.hosts[STRANGER].namespace();
        let mut leg = Leg::connect(namespace, scene.way(STRANGER))?;
        let unknown = credential(1);
        assert_eq!(leg.bind(3, &unknown)?, Said::Refused(3, BindRefusal::Unknown));
        let guessed = Credential { key: CredentialKey::from_bytes([9; 32]), ..sides[0].credential().clone() };
        assert_eq!(leg.bind(3, &guessed)?, Said::Refused(3, BindRefusal::Unknown));
        for junk in
            [vec![], vec![1], vec![1, 0, 0], vec![9; 100], vec![4, 0, 3], vec![2, 0, 3, 1, 0, 0, 0, 9]]
        {
            leg.say_raw(junk)?;
        }
        leg.send(3, &packet(1))?;
        leg.say(&Frame::Unbind { channel: 3 })?;
        assert_eq!(leg.drain()?, []);
        // Without end it is too much.
        let ended = (0..100_000).any(|_| leg.say_raw(vec![9; 40]).is_err());
        assert!(ended || leg.hear().is_err());
        for side in &mut sides {
            assert_eq!(side.port.drain()?, []);
        }
        pass(&mut sides)
    })
    .unwrap();
}

/// While a stranger floods the very relay ports in use, from many sources, packets of the bound still pass, and the
/// server does not grow.
#[test]
fn a_flood_from_strangers_changes_nothing_for_the_bound() {
    /// As many as the receiver's socket holds, which is read afterwards.
    const PACKETS: u32 = 150;
    const GROWTH: u64 = 16 * 1024;
    Scene::with("relay-flood", &THREE, "", |scene| {
        let mut sides = scene.pair(0)?;
        let (to, namespace) = ([sides[0].relay, sides[1].relay], scene.hosts[STRANGER].namespace());
        let before = memory(scene);
        let over = AtomicBool::new(false);
        let (flooded, came) = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                namespace.enter(|| {
                    let sockets: Vec<_> = (0..50).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
                    let mut sent = 0_u32;
                    while !over.load(Ordering::Relaxed) {
                        let number = sent as usize;
                        let bind = request(&credential(3), TransactionId::from_bytes([1; 12]), 1, None);
                        let junk = if sent.is_multiple_of(2) { packet(sent) } else { bind };
                        sockets[number % 50].send_to(&junk, to[number % 2]).ok();
                        sent += 1;
                        if sent.is_multiple_of(32) {
                            thread::sleep(Duration::from_millis(1)); // some 25,000 a second, for a debug build
                        }
                    }
                    Ok(sent)
                })
            });
            thread::sleep(Duration::from_millis(200));
            let [a, b] = &mut sides;
            let begun = Instant::now();
            for number in 0..PACKETS {
                a.send(&packet(number)).unwrap();
                thread::sleep(Duration::from_millis(4));
            }
            let took = begun.elapsed();
            let came = b.port.drain().unwrap();
            over.store(true, Ordering::Relaxed);
            (flood.join().unwrap().unwrap(), (came, took))
        });
        let (came, took) = came;
        println!("{} of {PACKETS} came in {took:?} beside {flooded} of strangers", came.len());
        assert!(came.iter().all(|(from, _)| *from == sides[1].relay));
        assert!(came.len() * 100 >= PACKETS as usize * 95, "{} of {PACKETS}", came.len());
        assert!(flooded > 5_000, "{flooded}");
        let after = memory(scene);
        assert!(after <= before + GROWTH, "grew from {before} to {after} KiB");
        pass(&mut sides)
    })
    .unwrap();
}
