//! The shared port beside a socket that stands for WireGuard's, over a real link.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, either is an assertion

mod common;

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use common::{Namespace, pair, stun};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use wireplug_core::{Endpoint, Family};
use wireplug_net::{Outgoing, PortError, SendError, SharedPort};

const PORT: u16 = 51820;

fn outgoing(to: &str, id: u8) -> Outgoing {
    Outgoing {
        from_port: PORT,
        to: Endpoint::new(to.parse().unwrap()).unwrap(),
        payload: stun(id),
        fwmark: 0,
        source: None,
        ttl: None,
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

fn both_receive(wireguard: &'static str, here_is: &'static str, there_is: &'static str) {
    let (here, there) = pair();
    let wireguard = here.udp(wireguard);
    let peer = there.udp(there_is);
    let from = peer.local_addr().unwrap();
    here.block_on(async move || {
        let port = SharedPort::open(&[PORT, 40_000]).unwrap();
        let to = addr(here_is);
        let mut truncated = stun(9);
        truncated.truncate(7);
        let oversized = [stun(8), vec![0; 2100]].concat();
        for payload in [b"not STUN, as WireGuard's own".to_vec(), truncated, oversized] {
            peer.send_to(&payload, to).unwrap();
            assert_eq!(receive(&wireguard), (payload, from));
        }
        let mut other = to;
        other.set_port(PORT + 1);
        peer.send_to(&stun(2), other).unwrap();
        peer.send_to(&stun(3), to).unwrap();

        let datagram = port.recv().await.unwrap();
        assert_eq!(datagram.payload, stun(3), "only STUN to the port, and whole");
        assert_eq!((datagram.from, datagram.to, datagram.to_port), (from, Some(to.ip()), PORT));
        assert_eq!(datagram.ifindex, ifindex("up0"));
        assert_eq!(receive(&wireguard).0, stun(3), "WireGuard gets it as well");

        port.set_ports(&[PORT + 1]).unwrap();
        peer.send_to(&stun(4), to).unwrap();
        peer.send_to(&stun(5), other).unwrap();
        let datagram = port.recv().await.unwrap();
        assert_eq!((datagram.payload, datagram.to_port), (stun(5), PORT + 1));
    });
}

#[test]
fn both_receive_stun_over_ipv4() {
    both_receive("0.0.0.0:51820", "10.9.0.1:51820", "10.9.0.2:7777");
}

#[test]
fn both_receive_stun_over_ipv6() {
    both_receive("[::]:51820", "[fd09::1]:51820", "[fd09::2]:7777");
}

#[test]
fn what_came_before_it_was_opened_is_not_received() {
    let (here, there) = pair();
    let peer = there.udp("10.9.0.2:7777");
    here.block_on(async move || {
        peer.send_to(&stun(1), "10.9.0.1:51820").unwrap();
        let port = SharedPort::open(&[PORT]).unwrap();
        peer.send_to(&stun(2), "10.9.0.1:51820").unwrap();
        assert_eq!(port.recv().await.unwrap().payload, stun(2));
    });
}

/// Receives with the time to live; the kernel has verified the checksum by then.
fn receive_ttl(socket: &UdpSocket) -> (Vec<u8>, SocketAddr, i32) {
    let mut buffer = [0; 2048];
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
            .unwrap();
    let ttl = message.cmsgs().unwrap().find_map(|it| match it {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => Some(ttl),
        _ => None,
    });
    let from = message.address.unwrap();
    let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (_, Some(v6)) => SocketAddr::new(v6.ip().into(), v6.port()),
        _ => panic!("another family"),
    };
    let length = message.bytes;
    (buffer[..length].to_vec(), from, ttl.unwrap())
}

fn sends_from_the_port(wireguard: &'static str, here_is: &'static str, there_is: &'static str) {
    let (here, there) = pair();
    let _wireguard = here.udp(wireguard);
    let peer = there.udp(there_is);
    if addr(there_is).is_ipv4() {
        setsockopt(&peer, sockopt::Ipv4RecvTtl, &true).unwrap();
    } else {
        setsockopt(&peer, sockopt::Ipv6RecvHopLimit, &true).unwrap();
    }
    here.block_on(async move || {
        let port = SharedPort::open(&[PORT]).unwrap();
        assert!(port.has(Family::V4) && port.has(Family::V6));
        let mut sent = outgoing(there_is, 1);
        port.send(&sent).unwrap();
        assert_eq!(receive_ttl(&peer), (stun(1), addr(here_is), 64));
        (sent.ttl, sent.source) = (Some(3), Some(addr(here_is).ip()));
        port.send(&sent).unwrap();
        assert_eq!(receive_ttl(&peer), (stun(1), addr(here_is), 3));
        sent.ttl = None;
        sent.payload = vec![7; Outgoing::MAX_PAYLOAD];
        port.send(&sent).unwrap();
        assert_eq!(receive_ttl(&peer), (sent.payload.clone(), addr(here_is), 64));
        sent.payload.push(7);
        assert!(matches!(port.send(&sent), Err(SendError::TooLarge { size: 1233, .. })));
    });
}

#[test]
fn sends_from_the_port_over_ipv4() {
    sends_from_the_port("0.0.0.0:51820", "10.9.0.1:51820", "10.9.0.2:7777");
}

#[test]
fn sends_from_the_port_over_ipv6() {
    sends_from_the_port("[::]:51820", "[fd09::1]:51820", "[fd09::2]:7777");
}

#[test]
fn the_checksum_of_ipv4_covers_the_source_it_was_given() {
    let (here, there) = pair();
    let peer = there.udp("10.9.0.2:7777");
    here.block_on(async move || {
        let port = SharedPort::open(&[PORT]).unwrap();
        let mut wrong = outgoing("10.9.0.2:7777", 1);
        wrong.source = Some(IpAddr::from([10, 9, 0, 99]));
        port.send(&wrong).unwrap();
        port.send(&outgoing("10.9.0.2:7777", 2)).unwrap();
        assert_eq!(receive(&peer).0, stun(2), "the wrong sum is dropped, so there is a sum");
    });
}

#[test]
fn link_local_addresses_work_by_their_scope() {
    let (here, there) = pair();
    for end in [&here, &there] {
        end.sh("ip -6 addr flush dev up0 scope link");
    }
    here.sh("ip addr add fe80::1/64 dev up0 nodad");
    there.sh("ip addr add fe80::2/64 dev up0 nodad");
    let scope = there.run(|| ifindex("up0"));
    let peer = there.udp(&format!("[fe80::2%{scope}]:7777"));
    here.block_on(async move || {
        let port = SharedPort::open(&[PORT]).unwrap();
        let to = format!("[fe80::2%{}]:7777", ifindex("up0"));
        port.send(&outgoing(&to, 1)).unwrap();
        let (payload, from) = receive(&peer);
        assert_eq!(payload, stun(1));
        peer.send_to(&stun(2), from).unwrap();
        let datagram = port.recv().await.unwrap();
        assert_eq!(datagram.from, addr(&to), "with the scope of the interface it came by");
    });
}

#[test]
fn a_closed_firewall_lets_answers_in_and_nothing_else() {
    let (here, there) = pair();
    here.sh("nft add table inet closed
         nft 'add chain inet closed in { type filter hook input priority 0; policy drop; }'
         nft add rule inet closed in ct state established accept
         nft 'add rule inet closed in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept'
         nft 'add chain inet closed out { type filter hook output priority 0; }'
         nft add rule inet closed out udp dport 9999 drop");
    let peers = [there.udp("10.9.0.2:7777"), there.udp("[fd09::2]:7777")];
    let strangers = [there.udp("10.9.0.2:7778"), there.udp("[fd09::2]:7778")];
    here.block_on(async move || {
        let port = SharedPort::open(&[PORT]).unwrap();
        for ((peer, stranger), to) in peers.iter().zip(&strangers).zip(["10.9.0.2:7777", "[fd09::2]:7777"]) {
            port.send(&outgoing(to, 1)).unwrap();
            let (_, from) = receive(peer);
            stranger.send_to(&stun(2), from).unwrap();
            peer.send_to(&stun(3), from).unwrap();
            let datagram = port.recv().await.unwrap();
            assert_eq!((datagram.payload, datagram.from), (stun(3), addr(to)));
        }
        let blocked = port.send(&outgoing("10.9.0.2:9999", 1)).unwrap_err();
        assert!(matches!(blocked, SendError::Blocked(_)), "{blocked}");
    });
}

#[test]
fn what_cannot_be_sent_is_told_and_harms_nothing() {
    let (here, there) = pair();
    let peer = there.udp("10.9.0.2:7777");
    here.sh("ip route add blackhole 10.50.0.0/16; ip route add prohibit 10.51.0.0/16");
    here.block_on(async move || {
        let port = SharedPort::open(&[PORT]).unwrap();
        for nowhere in ["203.0.113.9:9", "10.50.0.1:9", "10.51.0.1:9", "[2001:db8::1]:9"] {
            let error = port.send(&outgoing(nowhere, 1)).unwrap_err();
            assert!(matches!(error, SendError::Unreachable { .. }), "{nowhere}: {error:?}");
        }
        port.send(&outgoing("10.9.0.2:7777", 2)).unwrap();
        assert_eq!(receive(&peer).0, stun(2));
    });
}

#[test]
fn a_host_without_ipv6_has_ipv4() {
    let host = Namespace::new();
    host.sh("ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    host.block_on(async || {
        let port = SharedPort::open(&[PORT]).unwrap();
        let error = port.send(&outgoing("[2001:db8::1]:9", 1)).unwrap_err();
        assert!(matches!(error, SendError::Unreachable { .. } | SendError::NoFamily(_)), "{error:?}");
    });
}

#[test]
fn without_the_right_it_says_what_to_grant() {
    let host = Namespace::new();
    let error = host.block_on(async || {
        // SAFETY: a plain system call with integers; unlike libc's setresuid it changes this thread alone, which
        // lives for this test only. Leaving user 0 drops its capabilities.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        SharedPort::open(&[PORT]).unwrap_err()
    });
    assert!(matches!(error, PortError::NotPermitted));
    assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
}
