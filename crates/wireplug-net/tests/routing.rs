//! Routes, addresses, marked TCP and DNS in namespaces with a full tunnel.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, either is an assertion

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use common::{Namespace, pair, stun};
use wireplug_core::Endpoint;
use wireplug_net::{
    Addresses, Change, Changes, InterfaceLock, Outgoing, ResolveError, Resolver, RouteError, Routes,
    SharedPort, connect,
};

const MARK: u32 = 51820;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What wg-quick sets up for AllowedIPs that hold everything: everything without the mark goes into the tunnel.
fn full_tunnel(host: &Namespace) {
    host.sh(&format!(
        "ip tuntap add tun9 mode tun
         ip link set tun9 up
         ip addr add 10.99.0.1/24 dev tun9
         ip addr add fd99::1/64 dev tun9 nodad
         ip route add default via 10.9.0.2
         ip -6 route add default via fd09::2
         for family in -4 -6; do
           ip $family route add default dev tun9 table {MARK}
           ip $family rule add not fwmark {MARK} table {MARK}
           ip $family rule add table main suppress_prefixlength 0
         done"
    ));
}

#[test]
fn a_neighbour_is_known_by_its_link_and_address() {
    let (here, _there) = pair();
    here.sh("ip neigh add 10.9.0.9 lladdr 02:00:00:00:00:09 dev up0
             ip neigh add fd09::9 lladdr 02:00:00:00:00:0a dev up0");
    here.block_on(async || {
        let routes = Routes::new().unwrap();
        let link = routes.lookup(ip("10.9.0.2"), 0).await.unwrap().ifindex;
        for (address, last) in [("10.9.0.9", 9), ("fd09::9", 10)] {
            let known = routes.link_address(ip(address), link).await.unwrap();
            assert_eq!(known, Some(vec![2, 0, 0, 0, 0, last]));
            assert_eq!(routes.link_address(ip(address), link + 1).await.unwrap(), None);
        }
        assert_eq!(routes.link_address(ip("10.9.0.10"), link).await.unwrap(), None);
        // What was left of an answer is no part of the next one.
        assert_eq!(routes.lookup(ip("10.9.0.2"), 0).await.unwrap().ifindex, link);
    });
}

#[test]
fn a_mark_leads_around_the_tunnel() {
    let (here, _there) = pair();
    full_tunnel(&here);
    here.block_on(async || {
        let routes = Routes::new().unwrap();
        for (to, source, gateway) in
            [("203.0.113.9", "10.9.0.1", "10.9.0.2"), ("2001:db8::9", "fd09::1", "fd09::2")]
        {
            let inside = routes.lookup(ip(to), 0).await.unwrap();
            assert!(inside.tunnel && !inside.local && inside.interface == "tun9", "{inside:?}");
            assert_eq!(inside.gateway, None);
            let outside = routes.lookup(ip(to), MARK).await.unwrap();
            assert!(!outside.tunnel && outside.interface == "up0", "{outside:?}");
            assert_eq!((outside.source, outside.gateway), (Some(ip(source)), Some(ip(gateway))));
            assert!(routes.is_tunnel(inside.ifindex).await.unwrap());
            assert!(!routes.is_tunnel(outside.ifindex).await.unwrap());
        }
        // A peer's LAN inside AllowedIPs, and a neighbour on the link.
        assert!(routes.lookup(ip("10.99.0.7"), MARK).await.unwrap().tunnel);
        let neighbour = routes.lookup(ip("10.9.0.2"), 0).await.unwrap();
        assert!(!neighbour.tunnel && neighbour.gateway.is_none());
        assert!(routes.lookup(ip("10.9.0.1"), 0).await.unwrap().local);
    });
}

#[test]
fn what_an_interface_is_is_not_asked_again_until_interfaces_change() {
    let (here, _there) = pair();
    here.sh("ip link add short index 77 type veth peer name lived");
    here.block_on(async || {
        let routes = Routes::new().unwrap();
        assert!(!routes.is_tunnel(77).await.unwrap());
        // This thread is in the namespace, and so is what it starts.
        assert!(Command::new("ip").args(["link", "del", "short"]).status().unwrap().success());
        assert!(!routes.is_tunnel(77).await.unwrap(), "known for a moment");
        routes.forget_links();
        assert!(matches!(routes.is_tunnel(77).await, Err(RouteError::NoSuchInterface(77))));
    });
}

/// Row A3 of the routers' quirks: to the kernel 0.0.0.0 is this host, and no router is named. A real address tells of
/// one, also one of documentation that nobody has.
#[test]
fn a3_the_router_is_found_by_a_real_address_and_not_by_zero() {
    let (here, _there) = pair();
    here.sh("ip route add default via 10.9.0.2; ip -6 route add default via fd09::2");
    here.block_on(async || {
        let routes = Routes::new().unwrap();
        let zero = routes.lookup(ip("0.0.0.0"), 0).await;
        assert!(zero.as_ref().map_or(true, |route| route.local && route.gateway.is_none()), "{zero:?}");
        for (real, router) in [("192.0.2.1", "10.9.0.2"), ("2001:db8::1", "fd09::2")] {
            let route = routes.lookup(ip(real), 0).await.unwrap();
            assert_eq!(route.gateway, Some(ip(router)));
            assert!(route.source.is_some_and(|own| !own.is_unspecified() && !own.is_loopback()));
        }
    });
}

#[test]
fn a_link_local_endpoint_is_on_the_link_of_its_scope() {
    let (here, _there) = pair();
    here.sh("ip tuntap add tun9 mode tun; ip link set tun9 up
         ip addr add fe80::99/64 dev tun9 nodad; ip addr add fe80::98/64 dev up0 nodad
         ip addr add 10.99.0.1/24 dev tun9");
    here.block_on(async || {
        let routes = Routes::new().unwrap();
        for (neighbour, interface) in [("10.9.0.2", "up0"), ("10.99.0.2", "tun9")] {
            let scope = routes.lookup(ip(neighbour), 0).await.unwrap().ifindex;
            let to = Endpoint::new(format!("[fe80::7%{scope}]:9").parse().unwrap()).unwrap();
            let route = routes.lookup_endpoint(to, 0).await.unwrap();
            assert_eq!((route.interface.as_str(), route.tunnel), (interface, interface == "tun9"));
        }
        let plain = Endpoint::new("10.9.0.2:9".parse().unwrap()).unwrap();
        assert_eq!(routes.lookup_endpoint(plain, 0).await.unwrap().interface, "up0");
    });
}

#[test]
fn no_route_is_an_error_with_the_address() {
    let (here, _there) = pair();
    here.sh("ip route add unreachable 10.50.0.0/16; ip -6 route add unreachable fd50::/64");
    here.block_on(async || {
        let routes = Routes::new().unwrap();
        for to in ["203.0.113.9", "2001:db8::9", "10.50.0.1", "fd50::1"] {
            let error = routes.lookup(ip(to), 0).await.unwrap_err();
            assert!(matches!(error, RouteError::Unreachable { .. }), "{error}");
            assert!(error.to_string().contains(to), "{error}");
        }
        assert!(matches!(routes.is_tunnel(9_999).await, Err(RouteError::NoSuchInterface(9_999))));
    });
}

#[test]
fn marked_checks_and_tcp_leave_outside_the_tunnel() {
    let (here, there) = pair();
    there.sh("ip addr add 203.0.113.9/32 dev up0; ip -6 addr add 2001:db8::9/128 dev up0 nodad");
    full_tunnel(&here);
    for server in ["203.0.113.9:7777", "[2001:db8::9]:7777"] {
        let udp = there.udp(server);
        let tcp = there.run(move || TcpListener::bind(server).unwrap());
        here.block_on(async move || {
            let to: SocketAddr = server.parse().unwrap();
            let port = SharedPort::open(&[51820]).unwrap();
            let send = |id, fwmark| {
                let to = Endpoint::new(to).unwrap();
                port.send(&Outgoing {
                    from_port: 51820,
                    to,
                    payload: stun(id),
                    fwmark,
                    source: None,
                    ttl: None,
                })
            };
            let _ = send(1, 0); // swallowed by the tunnel
            send(2, MARK).unwrap();
            let _ = send(3, 0); // the mark does not stick
            send(4, MARK).unwrap();
            let mut buffer = [0; 64];
            for id in [2, 4] {
                let (length, _) = udp.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], stun(id));
            }
            let stream = connect(to, MARK, Duration::from_secs(5)).await.unwrap();
            assert_eq!(tcp.accept().unwrap().1, stream.local_addr().unwrap());
        });
    }
}

/// Answers every question for `server.test` (A and AAAA, 60 s), and says that other names do not exist.
fn dns_server(host: &Namespace, addr: &str) {
    let socket = host.udp(addr);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let name_end = question.iter().position(|byte| *byte == 0).unwrap() + 1;
            let (name, kind) = (&question[..name_end], question[name_end + 1]);
            let known = name.eq_ignore_ascii_case(b"\x06server\x04test\x00");
            let answer: &[u8] = match (known, kind) {
                (true, 1) => &[203, 0, 113, 9],
                (true, 28) => &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
                _ => &[],
            };
            // RFC 1035 section 4.1: header, the question again, and an answer whose name points to it.
            let mut reply = buffer[..2].to_vec();
            reply.extend([
                0x81,
                if known { 0x80 } else { 0x83 },
                0,
                1,
                0,
                u8::from(!answer.is_empty()),
                0,
                0,
                0,
                0,
            ]);
            reply.extend(&question[..name_end + 4]);
            if !answer.is_empty() {
                reply.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, u8::try_from(answer.len()).unwrap()]);
                reply.extend(answer);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
}

#[test]
fn names_are_asked_outside_the_tunnel() {
    let (here, there) = pair();
    there.sh("ip addr add 203.0.113.53/32 dev up0");
    dns_server(&there, "203.0.113.53:53");
    full_tunnel(&here);
    here.block_on(async || {
        let dir = tempfile::tempdir().unwrap();
        let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        std::fs::write(&conf, "nameserver 203.0.113.53\n").unwrap();
        std::fs::write(&hosts, "192.0.2.44 Known.test other\n").unwrap();
        let resolver = Resolver::with_files(MARK, &conf, &hosts);

        let mut found = resolver.lookup("server.test").await.unwrap();
        found.addresses.sort();
        assert_eq!(found.addresses, [ip("203.0.113.9"), ip("2001:db8::9")]);
        assert!(found.ttl <= Duration::from_secs(60) && found.ttl > Duration::from_secs(50), "{found:?}");
        assert_eq!(resolver.lookup("known.test").await.unwrap().addresses, [ip("192.0.2.44")]);
        assert_eq!(resolver.lookup("[2001:db8::7]").await.unwrap().addresses, [ip("2001:db8::7")]);
        for absent in ["nobody.test", "nobody.test."] {
            let error = resolver.lookup(absent).await.unwrap_err();
            assert!(matches!(error, ResolveError::NoSuchName(_)), "{error:?}");
        }
        assert!(matches!(resolver.lookup("a b..c").await, Err(ResolveError::BadName(_))));
    });
}

#[test]
fn changed_files_are_read_again() {
    let host = Namespace::new();
    dns_server(&host, "127.0.0.1:53");
    host.block_on(async || {
        let dir = tempfile::tempdir().unwrap();
        let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        let resolver = Resolver::with_files(0, &conf, &hosts);
        let error = resolver.lookup("server.test").await.unwrap_err();
        assert!(matches!(error, ResolveError::NoServers { .. }), "{error:?}");
        assert!(error.to_string().contains(conf.to_str().unwrap()), "{error}");
        std::fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
        assert_eq!(resolver.lookup("server.test").await.unwrap().addresses.len(), 2);
        std::fs::write(&hosts, "192.0.2.1 server.test\n").unwrap();
        assert_eq!(resolver.lookup("server.test").await.unwrap().addresses, [ip("192.0.2.1")]);
    });
}

#[test]
fn a_server_inside_the_tunnel_is_asked_without_the_mark() {
    let host = Namespace::new();
    host.sh(&format!("ip rule add fwmark {MARK} prohibit"));
    host.sh("ip rule add preference 0 iif lo to 127.0.0.0/8 fwmark 0 lookup local");
    dns_server(&host, "127.0.0.1:53");
    host.block_on(async || {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("resolv.conf");
        std::fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
        let resolver = Resolver::with_files(MARK, &conf, dir.path().join("hosts"));
        assert_eq!(resolver.lookup("server.test").await.unwrap().addresses.len(), 2);
    });
}

#[test]
fn addresses_are_those_that_others_may_reach() {
    let (here, _there) = pair();
    full_tunnel(&here);
    here.sh("ip link add docker0 type bridge
         ip addr add 172.17.0.1/16 dev docker0
         ip link add veth12 type veth peer name guest
         ip addr add 172.18.0.1/16 dev veth12
         ip link set veth12 master docker0
         ip link add down0 type veth peer name down1
         ip addr add 10.66.0.1/24 dev down0
         ip link add br0 type bridge
         ip link set docker0 up; ip link set veth12 up; ip link set guest up; ip link set br0 up
         ip addr add 10.9.0.3/24 dev up0
         ip addr add fd09::3/64 dev up0 nodad preferred_lft 0");
    here.block_on(async || {
        let addresses = Addresses::new().unwrap();
        let found: Vec<_> = addresses
            .list()
            .await
            .unwrap()
            .into_iter()
            .filter(|it| !it.ip.to_string().starts_with("fe80"))
            .collect();
        let ips: Vec<IpAddr> = found.iter().map(|it| it.ip).collect();
        assert_eq!(ips, [ip("10.9.0.1"), ip("10.9.0.3"), ip("fd09::1"), ip("fd09::3")], "{found:?}");
        assert!(found.iter().all(|it| it.interface == "up0" && !it.temporary));
        assert_eq!(found.iter().map(|it| it.deprecated).collect::<Vec<_>>(), [false, false, false, true]);
        assert_eq!((found[0].prefix, found[2].prefix), (24, 64));
    });
    // An uplink may be a veth or bridge with such a name: then a gateway is behind it.
    here.sh("ip route add 198.51.100.0/24 via 172.17.0.2 dev docker0");
    here.block_on(async || {
        let found = Addresses::new().unwrap().list().await.unwrap();
        assert!(found.iter().any(|it| it.ip == ip("172.17.0.1")), "{found:?}");
    });
}

#[test]
fn changes_are_told_by_kind() {
    let (here, _there) = pair();
    here.block_on(async || {
        type Told = fn(&Change) -> bool;
        let mut changes = Changes::new().unwrap();
        let kinds: [(&str, Told); 4] = [
            ("ip addr add 10.9.0.7/24 dev up0", |change| change.addresses),
            ("ip rule add fwmark 9 table 9", |change| change.rules),
            ("ip -6 route add fd77::/64 dev up0", |change| change.routes),
            ("ip link set up0 down", |change| change.links),
        ];
        for (command, told) in kinds {
            assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
            // The link's own news, such as a finished duplicate detection, may come between.
            while !told(&changes.next().await.unwrap()) {}
        }
    });
}

#[test]
fn an_interface_of_another_namespace_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let take = move |host: &Namespace| {
        let path = path.clone();
        host.run(move || InterfaceLock::acquire(&path, "wg0"))
    };
    let (one, two) = (Namespace::new(), Namespace::new());
    let _first = take(&one).unwrap();
    let _second = take(&two).unwrap();
    let error = take(&one).unwrap_err();
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}
