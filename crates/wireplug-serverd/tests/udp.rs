//! STUN and verification with real sockets. WireGuard endpoints are never on loopback, so these run in network
//! namespaces of their own, with public-looking addresses on the loopback device; that takes root.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

#[path = "common/client.rs"]
mod client;
mod common;

use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;

use client::{Client, Running, refused, soon};
use nix::sched::{CloneFlags, unshare};
use tokio::net::UdpSocket;
use wireplug_core::{Endpoint, TransactionId};
use wireplug_proto::rendezvous::{About, ClientMessage, Reason, ServerMessage};
use wireplug_proto::stun::binding::{Change, parse_response, request};
use wireplug_proto::stun::probe::{PROBE_LEN, parse_probe};
use wireplug_serverd::limits::{Limits, Rate};

const ID: TransactionId = TransactionId::from_bytes([3; 12]);

/// Runs a test on a thread in a namespace that has these addresses, and ends with the thread.
fn in_namespace<F: Future<Output = ()>>(addresses: &[&str], test: impl FnOnce() -> F + Send + 'static) {
    let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace takes root: run the tests as root");
        ip(&["link", "set", "lo", "up"]);
        for address in &addresses {
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["addr", "add", address.as_str(), "dev", "lo"], nodad].concat());
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().expect("ip of iproute2 is installed");
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}

/// Shows the connection's token from a socket, as a daemon does from the WireGuard port.
async fn show(client: &Client, socket: &UdpSocket, server: SocketAddr) {
    socket.send_to(&request(ID, Some(&client.token), Change::None), server).await.unwrap();
    let mut buffer = [0; 1500];
    let (length, from) = soon("a STUN answer", socket.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(from, server);
    assert_eq!(parse_response(&buffer[..length]).unwrap().mapped, socket.local_addr().unwrap());
}

async fn verify(client: &mut Client, id: u64, endpoint: Endpoint) -> ServerMessage {
    client.say(&ClientMessage::Verify { id, endpoint, nonce: [9; 16] }).await;
    client.next().await
}

/// The source of the probe that arrives.
async fn probed(socket: &UdpSocket) -> SocketAddr {
    let mut buffer = [0; 1500];
    let (length, from) = soon("a probe", socket.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((length, parse_probe(&buffer[..length])), (PROBE_LEN, Some([9; 16])));
    from
}

const TWO: &str = "listen = \"203.0.113.1:443\"\nudp = [\"203.0.113.1:3478\", \"203.0.113.2:3478\"]\n";
const TWO_ADDRESSES: [&str; 4] = ["203.0.113.1/32", "203.0.113.2/32", "198.51.100.7/32", "198.51.100.8/32"];

#[test]
fn a_probe_comes_from_the_address_that_was_not_asked() {
    in_namespace(&TWO_ADDRESSES, || async {
        let server = Running::start(TWO, Limits::default());
        let mut a = server.client().await;
        assert_eq!(a.stun, server.udp);
        let wireguard = UdpSocket::bind("198.51.100.7:51820").await.unwrap();
        show(&a, &wireguard, a.stun[0]).await;

        assert_eq!(verify(&mut a, 1, endpoint("198.51.100.7:51820")).await, ServerMessage::Probed { id: 1 });
        let from = probed(&wireguard).await;
        assert_eq!(from.ip(), server.udp[1].ip());
        assert!(!server.udp.contains(&from), "{from} answers STUN");

        // Another port of the same address may be a mapping of ours too.
        let mapped = UdpSocket::bind("198.51.100.7:40001").await.unwrap();
        assert_eq!(verify(&mut a, 2, endpoint("198.51.100.7:40001")).await, ServerMessage::Probed { id: 2 });
        probed(&mapped).await;

        // Another address is not.
        let told = verify(&mut a, 3, endpoint("198.51.100.8:51820")).await;
        assert_eq!(refused(&told), Some((About::Verify(3), Reason::NotYours, None)), "{told:?}");

        // Another connection's token does not help.
        let mut b = server.client().await;
        let told = verify(&mut b, 4, endpoint("198.51.100.7:51820")).await;
        assert_eq!(refused(&told), Some((About::Verify(4), Reason::NotYours, None)), "{told:?}");

        // After asking both addresses, only a port is left that nobody asked.
        show(&a, &wireguard, a.stun[1]).await;
        assert_eq!(verify(&mut a, 5, endpoint("198.51.100.7:51820")).await, ServerMessage::Probed { id: 5 });
        let from = probed(&wireguard).await;
        assert!(!server.udp.contains(&from) && from.port() != 3478, "{from}");
        server.stop().await;
    });
}

#[test]
fn a_server_on_all_addresses_probes_from_another_port_in_both_families() {
    let addresses = ["203.0.113.1/32", "198.51.100.7/32", "2a00:1:2:3::1/128", "2a00:5:6:7::7/128"];
    in_namespace(&addresses, || async {
        let server = Running::start("", Limits::default());
        let v4: SocketAddr = "203.0.113.1:3478".parse().unwrap();
        let v6: SocketAddr = "[2a00:1:2:3::1]:3478".parse().unwrap();
        let mut a = Client::connect("203.0.113.1:443".parse().unwrap(), &[]).await;
        assert_eq!(a.stun, ["0.0.0.0:3478".parse().unwrap(), "[::]:3478".parse().unwrap()]);

        let on_v4 = UdpSocket::bind("198.51.100.7:51820").await.unwrap();
        let on_v6 = UdpSocket::bind("[2a00:5:6:7::7]:51820").await.unwrap();
        show(&a, &on_v4, v4).await;
        let told = verify(&mut a, 1, endpoint("[2a00:5:6:7::7]:51820")).await;
        assert_eq!(refused(&told), Some((About::Verify(1), Reason::NotYours, None)), "each family by itself");
        show(&a, &on_v6, v6).await;

        for (socket, at, server) in
            [(&on_v4, "198.51.100.7:51820", v4), (&on_v6, "[2a00:5:6:7::7]:51820", v6)]
        {
            assert_eq!(verify(&mut a, 2, endpoint(at)).await, ServerMessage::Probed { id: 2 });
            let from = probed(socket).await;
            assert_eq!(from.ip(), server.ip());
            assert_ne!(from.port(), server.port());
        }
        // IPv6: any address of the same /64, whether or not it answers; no other /64.
        let same = endpoint("[2a00:5:6:7:8::9]:51820");
        let said = verify(&mut a, 3, same).await;
        assert!(!matches!(refused(&said), Some((_, Reason::NotYours, _))), "{said:?}");
        let told = verify(&mut a, 4, endpoint("[2a00:5:6:8::7]:51820")).await;
        assert_eq!(refused(&told), Some((About::Verify(4), Reason::NotYours, None)), "{told:?}");
        server.stop().await;
    });
}

#[test]
fn probes_are_few_and_one_for_each_request() {
    in_namespace(&TWO_ADDRESSES, || async {
        let mut limits = Limits::default();
        limits.per_connection.verifies = Rate { burst: 3, every: std::time::Duration::from_secs(60) };
        let server = Running::start(TWO, limits);
        let mut a = server.client().await;
        let wireguard = UdpSocket::bind("198.51.100.7:51820").await.unwrap();
        show(&a, &wireguard, a.stun[0]).await;
        for id in 0..3 {
            assert_eq!(
                verify(&mut a, id, endpoint("198.51.100.7:51820")).await,
                ServerMessage::Probed { id }
            );
        }
        let told = verify(&mut a, 3, endpoint("198.51.100.7:51820")).await;
        assert!(matches!(refused(&told), Some((About::Verify(3), Reason::RateLimited, Some(_)))), "{told:?}");
        for _ in 0..3 {
            probed(&wireguard).await;
        }
        assert!(wireguard.try_recv(&mut [0; 1500]).is_err(), "a probe too many");
        server.stop().await;
    });
}

#[test]
fn stun_tells_the_mapping_and_answers_from_elsewhere() {
    in_namespace(&TWO_ADDRESSES, || async {
        let server = Running::start(TWO, Limits::default());
        let socket = UdpSocket::bind("198.51.100.7:51820").await.unwrap();
        let mut buffer = [0; 1500];
        for change in [Change::None, Change::Port, Change::Address, Change::AddressAndPort] {
            let asked = request(ID, None, change);
            socket.send_to(b"junk before", server.udp[0]).await.unwrap();
            socket.send_to(&asked, server.udp[0]).await.unwrap();
            let (length, from) = soon("an answer", socket.recv_from(&mut buffer)).await.unwrap();
            assert!(length <= asked.len());
            let answer = parse_response(&buffer[..length]).unwrap();
            assert_eq!(answer.mapped, socket.local_addr().unwrap());
            assert_eq!(answer.response_origin, Some(from));
            let other = answer.other_address.unwrap();
            assert_eq!(other.ip(), server.udp[1].ip());
            let same =
                |change| (from.ip() == server.udp[0].ip(), from.port() == server.udp[0].port()) == change;
            assert!(match change {
                Change::None => same((true, true)),
                Change::Port => same((true, false)),
                Change::Address => same((false, true)),
                Change::AddressAndPort => from == other,
            });
        }
        server.stop().await;
    });
}
