//! The lab proves itself: NATs map and filter as their names say, WireGuard runs, delay is exact.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use wireplug_lab::{FIXED_PORT, Host, Lab, Nat, Peer, Ping, Result, Server, WIREGUARD_PORT, wait_for};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A UDP socket of the lab with a short patience: what does not come within it was dropped.
struct Udp(UdpSocket);

impl Udp {
    fn host(host: &Host, port: u16) -> Result<Self> {
        Ok(Self::new(host.udp((ANY, port).into())?))
    }

    fn server(server: &Server, index: u8, port: u16) -> Result<Self> {
        Ok(Self::new(server.udp((server.v4(index), port).into())?))
    }

    fn new(socket: UdpSocket) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        Self(socket)
    }

    fn send(&self, to: SocketAddr) {
        // A refusal by ICMP of an earlier packet may come back here.
        let _ = self.0.send_to(b"lab", to);
    }

    /// The source of the next packet that arrives.
    fn recv(&self) -> Option<SocketAddr> {
        self.0.recv_from(&mut [0; 64]).ok().map(|(_, from)| from)
    }
}

/// Mapping and filtering of one kind: the outer ports towards two server addresses, and who may send back.
struct Behaviour {
    first: SocketAddr,
    second: SocketAddr,
    /// Another port of an address that was sent to.
    other_port: bool,
    /// An address that was never sent to.
    other_address: bool,
}

fn behaviour(nat: Nat) -> Result<(Behaviour, IpAddr)> {
    Lab::with(nat.name(), |lab| {
        let server = lab.server()?;
        let host = lab.site("a", nat)?.host()?;
        let stranger = lab.site("s", Nat::None)?.host()?;
        let (one, two) = (Udp::server(&server, 0, 3478)?, Udp::server(&server, 1, 3478)?);
        let (one_more, stranger) = (Udp::server(&server, 0, 9)?, Udp::host(&stranger, 9)?);
        let inside = Udp::host(&host, WIREGUARD_PORT)?;
        // An early packet from outside, before the host has sent anything, must not move the mapping.
        stranger.send((host.public_addresses()[0], WIREGUARD_PORT).into());
        one.send((host.public_addresses()[0], WIREGUARD_PORT).into());
        while inside.recv().is_some() {}

        inside.send((server.v4(0), 3478).into());
        let first = one.recv().expect("the first server address hears the host");
        inside.send((server.v4(1), 3478).into());
        let second = two.recv().expect("the second server address hears the host");
        one.send(first);
        assert!(inside.recv().is_some(), "an answer comes in");
        one_more.send(first);
        let other_port = inside.recv().is_some();
        stranger.send(first);
        let other_address = inside.recv().is_some();
        Ok((Behaviour { first, second, other_port, other_address }, host.public_addresses()[0]))
    })
}

#[test]
fn public_host_has_no_mapping() {
    let (seen, public) = behaviour(Nat::None).unwrap();
    assert_eq!((seen.first, seen.second), ((public, WIREGUARD_PORT).into(), (public, WIREGUARD_PORT).into()));
    assert!(seen.other_port && seen.other_address);
}

#[test]
fn full_cone_maps_fixed_and_filters_nothing() {
    let (seen, public) = behaviour(Nat::FullCone).unwrap();
    assert_eq!((seen.first, seen.second), ((public, FIXED_PORT).into(), (public, FIXED_PORT).into()));
    assert!(seen.other_port && seen.other_address);
}

#[test]
fn port_preserving_keeps_the_port_and_filters_by_address_and_port() {
    let (seen, public) = behaviour(Nat::PortPreserving).unwrap();
    assert_eq!((seen.first, seen.second), ((public, WIREGUARD_PORT).into(), (public, WIREGUARD_PORT).into()));
    assert!(!seen.other_port && !seen.other_address);
}

#[test]
fn fixed_maps_to_one_other_port_and_filters() {
    let (seen, public) = behaviour(Nat::Fixed).unwrap();
    assert_eq!((seen.first, seen.second), ((public, FIXED_PORT).into(), (public, FIXED_PORT).into()));
    assert!(!seen.other_port && !seen.other_address);
}

#[test]
fn symmetric_maps_each_destination_to_another_port_and_filters() {
    let (seen, public) = behaviour(Nat::Symmetric).unwrap();
    assert_eq!((seen.first.ip(), seen.second.ip()), (public, public));
    assert_ne!(seen.first.port(), seen.second.port());
    assert!(!seen.other_port && !seen.other_address);
}

#[test]
fn cgnat_keeps_the_port_through_two_routers_and_filters() {
    let (seen, public) = behaviour(Nat::Cgnat).unwrap();
    assert_eq!((seen.first, seen.second), ((public, WIREGUARD_PORT).into(), (public, WIREGUARD_PORT).into()));
    assert!(!seen.other_port && !seen.other_address);
}

#[test]
fn ipv6_firewall_lets_only_answers_in() {
    Lab::with("ipv6", |lab| {
        let server = lab.server()?;
        let host = lab.site("a", Nat::Ipv6Firewall)?.host()?;
        let address = host.public_addresses()[0];
        let inside = Udp::new(host.udp("[::]:51820".parse().unwrap())?);
        let one = Udp::new(server.udp((server.v6(0), 3478).into())?);
        let two = Udp::new(server.udp((server.v6(1), 3478).into())?);
        two.send((address, WIREGUARD_PORT).into());
        assert_eq!(inside.recv(), None, "nothing new comes in");
        inside.send((server.v6(0), 3478).into());
        assert_eq!(one.recv(), Some((address, WIREGUARD_PORT).into()), "the address goes out unchanged");
        one.send((address, WIREGUARD_PORT).into());
        assert!(inside.recv().is_some(), "an answer comes in");
        two.send((address, WIREGUARD_PORT).into());
        assert_eq!(inside.recv(), None, "still only answers");
        Ok(())
    })
    .unwrap();
}

#[test]
fn blocked_udp_and_a_closed_host_let_nothing_through() {
    Lab::with("closed", |lab| {
        let server = lab.server()?;
        let blocked = lab.site("a", Nat::UdpBlocked)?.host()?;
        let closed = lab.site("b", Nat::None)?.host()?;
        closed.close_firewall()?;
        let one = Udp::server(&server, 0, 3478)?;
        Udp::host(&blocked, WIREGUARD_PORT)?.send((server.v4(0), 3478).into());
        assert_eq!(one.recv(), None, "no UDP leaves the blocked network");
        assert_eq!(blocked.ping(Ping::fast(server.v4(0), 3))?.answers.len(), 3, "but it has a network");
        let inside = Udp::host(&closed, WIREGUARD_PORT)?;
        one.send((closed.public_addresses()[0], WIREGUARD_PORT).into());
        assert_eq!(inside.recv(), None, "nothing new comes in");
        inside.send((server.v4(0), 3478).into());
        one.send(one.recv().expect("a closed host may speak first"));
        assert!(inside.recv().is_some(), "an answer comes in");
        Ok(())
    })
    .unwrap();
}

#[test]
fn short_mapping_timeouts_forget_a_mapping() {
    Lab::with("timeout", |lab| {
        let server = lab.server()?;
        let mut site = lab.site("a", Nat::Symmetric)?;
        let host = site.host()?;
        site.mapping_timeouts(1, 1)?;
        let (inside, one) = (Udp::host(&host, WIREGUARD_PORT)?, Udp::server(&server, 0, 3478)?);
        inside.send((server.v4(0), 3478).into());
        let first = one.recv().expect("the server hears the host");
        let router = site.router().expect("a NATed site has a router").clone();
        wait_for("the mapping to expire", Duration::from_secs(5), || {
            let list = router.run(&["conntrack", "-L", "-p", "udp"])?;
            Ok((!list.contains("dport=3478")).then_some(()))
        })?;
        inside.send((server.v4(0), 3478).into());
        assert_ne!(one.recv().expect("the server hears the host again"), first, "a new mapping");
        Ok(())
    })
    .unwrap();
}

#[test]
fn wireguard_with_hand_set_endpoints_connects_around_the_server() {
    Lab::with("wg", |lab| {
        let server = lab.server()?;
        let (a, b) = (lab.site("a", Nat::None)?.host()?, lab.site("b", Nat::PortPreserving)?.host()?);
        let (wg_a, wg_b) = (a.wireguard([10, 77, 0, 1].into())?, b.wireguard([10, 77, 0, 2].into())?);
        wg_a.peer(&Peer::new(wg_b.public_key(), "10.77.0.2/32"))?;
        assert_eq!(wg_a.endpoint(wg_b.public_key())?, None);
        assert!(!wg_a.has_endpoint());
        let to_a = (a.public_addresses()[0], WIREGUARD_PORT).into();
        wg_b.peer(&Peer { endpoint: Some(to_a), ..Peer::new(wg_a.public_key(), "10.77.0.1/32") })?;
        assert!(wg_b.has_endpoint());

        let pings = b.ping(Ping::fast(wg_a.address(), 20))?;
        assert_eq!(pings.answers.len(), 20, "{pings:?}");
        let state = wg_a.state(wg_b.public_key())?;
        assert_eq!(
            state.endpoint,
            Some((b.public_addresses()[0], WIREGUARD_PORT).into()),
            "learned by roaming"
        );
        assert!(state.latest_handshake.is_some() && state.rx > 0 && state.tx > 0);
        assert_eq!(server.wireguard_packets()?, 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_server_counts_wireguard_packets_that_reach_it() {
    Lab::with("counter", |lab| {
        let server = lab.server()?;
        let host = lab.site("a", Nat::PortPreserving)?.host()?;
        let socket = host.udp((ANY, WIREGUARD_PORT).into())?;
        let mut data = [0; 32];
        data[0] = 4;
        for packet in [&data[..], b"no wireguard packet"] {
            socket.send_to(packet, (server.v4(0), 3478)).unwrap();
        }
        wait_for("the counter", Duration::from_secs(2), || {
            Ok((server.wireguard_packets()? > 0).then_some(()))
        })?;
        assert_eq!(server.wireguard_packets()?, 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn delay_is_exact_between_all() {
    Lab::with("delay", |lab| {
        let server = lab.server()?;
        let (a, b) = (lab.site("a", Nat::Ipv6Firewall)?.host()?, lab.site("b", Nat::Cgnat)?.host()?);
        let c = lab.site("c", Nat::None)?.host()?;
        lab.delay(Duration::from_millis(25))?;
        for (host, to) in
            [(&a, server.v6(0).into()), (&b, server.v4(1).into()), (&b, c.public_addresses()[0])]
        {
            let pings = host.ping(Ping::fast(to, 20))?;
            assert_eq!(pings.answers.len(), 20, "{pings:?}");
            let mut times: Vec<Duration> = pings.answers.iter().map(|answer| answer.round_trip).collect();
            times.sort();
            let least = Duration::from_millis(50);
            // A busy machine delays packets more, but hardly all of them: the line itself is exact.
            assert!(times[0] >= least && times[0] < least + Duration::from_millis(2), "{to}: {times:?}");
        }
        Ok(())
    })
    .unwrap();
}

/// As on the way out of a test that fails: what it pings for minutes must not go on beside the next one.
#[test]
fn pings_in_the_background_end_when_nobody_waits_for_them() {
    Lab::with("dropped-pings", |lab| {
        let [here, there] = [lab.site("a", Nat::None)?.host()?, lab.site("b", Nat::None)?.host()?];
        let sockets = |count: usize| {
            let what = format!("{count} sockets that ping");
            wait_for(&what, Duration::from_secs(5), || {
                // Below the table's head; a socket is there from its first ping on.
                let lines = here.run(&["cat", "/proc/net/icmp"])?.lines().count();
                Ok((lines == 1 + count).then_some(()))
            })
        };
        let pinging = here.keep_pinging(Ping::fast(there.v4()?, u16::MAX))?;
        sockets(1)?;
        drop(pinging);
        sockets(0)
    })
    .unwrap();
}

#[test]
fn what_failed_is_told_also_where_wireguard_was_paused() {
    Lab::with("paused", |lab| {
        let wireguard = lab.site("a", Nat::None)?.host()?.wireguard([10, 77, 0, 1].into())?;
        // The kernel's cannot be paused.
        if let Some(process) = wireguard.process() {
            process.pause();
        }
        let digest = lab.digest("paused");
        assert!(digest.contains(&format!("interface: {}", wireguard.device())), "{digest}");
        Ok(())
    })
    .unwrap();
}
