//! Two peers on one LAN behind one router that does not hairpin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use wireplug_lab::{
    Daemon, Host, Lab, LabError, Nat, Pair, PairOptions, Peer, PeerStatus, Ping, Result, Server, Site,
    WIREGUARD_PORT, Wireguard, wait_for,
};
use wireplug_lan_mdns::Name;
use wireplug_proto::stun::{Incoming, classify};

/// How long the tunnel may take to carry its first ping.
const CONNECT: Duration = Duration::from_secs(15);

/// How long a tunnel may take to follow a host that roams, of which nobody tells the other side.
const ROAM: Duration = Duration::from_secs(40);

/// One side.
struct End {
    host: Host,
    wireguard: Wireguard,
    config: PathBuf,
}

/// Two hosts on one LAN.
struct Lan {
    a: End,
    b: End,
    site: Site,
    server: Server,
}

impl Lan {
    fn with(label: &str, nat: Nat, work: impl FnOnce(&Lab, &mut Self) -> Result<()>) {
        Lab::with(label, |lab| work(lab, &mut Self::new(lab, nat)?)).unwrap();
    }

    /// With a server that does not run yet.
    fn new(lab: &Lab, nat: Nat) -> Result<Self> {
        let server = lab.server()?;
        let mut site = lab.site("lan", nat)?;
        let hosts = [site.host()?, site.host()?];
        let wireguards =
            [hosts[0].wireguard([10, 77, 0, 1].into())?, hosts[1].wireguard([10, 77, 0, 2].into())?];
        let mut ends = Vec::new();
        for (here, there, host) in [(0, 1, &hosts[0]), (1, 0, &hosts[1])] {
            let (here, there) = (&wireguards[here], &wireguards[there]);
            here.peer(&Peer::new(there.public_key(), &format!("{}/32", there.address())))?;
            let config = host.wireplug_config(here, &server, "")?;
            ends.push(End { host: host.clone(), wireguard: here.clone(), config });
        }
        let b = ends.remove(1);
        Ok(Self { a: ends.remove(0), b, site, server })
    }

    fn connect(&self) -> Result<[Daemon; 2]> {
        let daemons = [self.a.wireplug()?, self.b.wireplug()?];
        self.ping(CONNECT)?;
        Ok(daemons)
    }

    /// Waits for the first answer. Nothing is sent while WireGuard has no endpoint: that would cost an initiation.
    fn ping(&self, limit: Duration) -> Result<()> {
        wait_for("a ping through the tunnel", limit, || {
            if !self.a.wireguard.has_endpoint() {
                return Ok(None);
            }
            let pings = self.a.host.ping(Ping::fast(self.b.wireguard.address(), 5))?;
            Ok((!pings.answers.is_empty()).then_some(()))
        })
    }

    /// Both sides send straight to each other, and say that lan-mdns found the way.
    fn check_neighbours(&self, daemons: &[Daemon; 2]) -> Result<()> {
        for (daemon, here, there) in [(&daemons[0], &self.a, &self.b), (&daemons[1], &self.b, &self.a)] {
            let on_lan = |endpoint: SocketAddr| {
                endpoint.port() == WIREGUARD_PORT && there.host.addresses().contains(&endpoint.ip())
            };
            wait_for("an endpoint on the LAN and the status that says so", CONNECT, || {
                let endpoint = here.wireguard.endpoint(there.wireguard.public_key())?;
                let Some(status) = daemon.peer(there.wireguard.public_key())? else { return Ok(None) };
                let strategy = status.strategy.as_deref();
                let fits = status.state == "connected" && strategy == Some("lan-mdns") && status.proven;
                Ok((endpoint.is_some_and(on_lan) && fits).then_some(()))
            })?;
        }
        Ok(())
    }
}

impl End {
    fn wireplug(&self) -> Result<Daemon> {
        self.host.wireplug(&self.wireguard, &self.config)
    }
}

#[test]
fn neighbours_find_each_other() {
    Lan::with("lan", Nat::PortPreserving, |_, lan| {
        lan.server.start()?;
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)
    });
}

#[test]
fn neighbours_find_each_other_without_a_server() {
    Lan::with("lan-alone", Nat::PortPreserving, |_, lan| {
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)
    });
}

#[test]
fn neighbours_find_each_other_over_ipv6() {
    Lan::with("lan-ipv6", Nat::Ipv6Firewall, |_, lan| {
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)
    });
}

/// The first one has given up and rests; it hears the second come.
#[test]
fn a_neighbour_that_comes_late_is_found_at_once() {
    Lan::with("lan-late", Nat::PortPreserving, |_, lan| {
        let first = lan.a.wireplug()?;
        first.wait_state(lan.b.wireguard.public_key(), "unreachable", CONNECT)?;
        let second = lan.b.wireplug()?;
        lan.ping(Duration::from_secs(5))?;
        lan.check_neighbours(&[first, second])
    });
}

/// A guest network, behind one router that does not hairpin: nothing is left but the relay.
#[test]
fn isolated_neighbours_are_relayed() {
    let pair = Pair::neighbours("lan-isolated", Nat::PortPreserving, &PairOptions::default()).unwrap();
    let outcome = pair.finish(|pair| {
        pair.sites[0].isolate()?;
        pair.check_relayed(&pair.connect()?)
    });
    outcome.unwrap();
}

/// A public host and one behind a NAT, as soon as one has left the LAN.
#[test]
fn the_path_is_left_when_one_roams_away_and_taken_again_by_others() {
    Lan::with("lan-roam", Nat::PortPreserving, |_, lan| {
        lan.server.start()?;
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)?;
        let moved = lan.b.host.roam_to_internet()?;
        let public = SocketAddr::new(moved.v4()?.into(), WIREGUARD_PORT);
        lan.ping(ROAM)?;
        wait_for("the public endpoint", CONNECT, || {
            let endpoint = lan.a.wireguard.endpoint(lan.b.wireguard.public_key())?;
            Ok((endpoint == Some(public)).then_some(()))
        })?;
        wait_for("status to say another way than the LAN", CONNECT, || {
            let status = daemons[0].peer(lan.b.wireguard.public_key())?;
            let left = |status: &PeerStatus| {
                status.state == "connected" && status.strategy.as_deref() != Some("lan-mdns")
            };
            Ok(status.filter(left))
        })
        .map(drop)
    });
}

/// Somebody else's program resolves what is announced, and sees our port and addresses, and that we are gone.
#[test]
fn avahi_resolves_the_service_until_it_is_gone() {
    Lan::with("lan-avahi", Nat::PortPreserving, |_, lan| {
        let observer = lan.site.host()?.avahi()?;
        let daemon = lan.a.wireplug()?;
        let resolved = wait_for("avahi-browse to resolve the service", CONNECT, || {
            let text = observer.browse("_wireplug._udp")?;
            let line = text.lines().find(|line| line.starts_with('=') && line.contains(";IPv4;"));
            Ok(line.map(str::to_owned))
        })?;
        let fields: Vec<&str> = resolved.split(';').collect();
        let [_, _, _, name, service_type, domain, host, address, port, text] = fields[..] else {
            return Err(LabError::unexpected(format!("avahi-browse printed {resolved:?}")));
        };
        assert!(name.len() == 56 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name:?}");
        assert_eq!((service_type, domain, port), ("_wireplug._udp", "local", "51820"));
        assert_eq!(address, lan.a.host.v4()?.to_string());
        let host = host.strip_suffix(".local").expect("a name of the link");
        assert!(host.len() == 16 && host.bytes().all(|byte| byte.is_ascii_hexdigit()), "{host:?}");
        assert!(text.is_empty() || text == "\"\"", "{text:?}");

        daemon.process().terminate();
        assert!(daemon.process().wait(Duration::from_secs(5))?.success());
        wait_for("the goodbye to be heard", Duration::from_secs(10), || {
            Ok((!observer.browse("_wireplug._udp")?.contains("51820")).then_some(()))
        })
    });
}

/// Somebody else's program announces a place for a peer of ours, under a name that who knows the peer's key can make; it
/// gets a check there, which is all that an announcement is worth.
#[test]
fn a_place_that_avahi_announces_is_checked() {
    Lan::with("lan-avahi-publishes", Nat::PortPreserving, |_, lan| {
        const PORT: u16 = 40_404;
        let announcer = lan.site.host()?;
        let place = announcer.udp(([0, 0, 0, 0], PORT).into())?;
        place.set_read_timeout(Some(CONNECT)).unwrap();
        let peer = lan.b.wireguard.public_key();
        let name = Name::new(&peer.parse().expect("a key"), [7; 12]).to_string();
        let daemon = lan.a.wireplug()?;
        announcer.avahi()?.publish(&name, "_wireplug._udp", PORT)?;
        let mut buffer = [0; 1500];
        let (length, from) = place.recv_from(&mut buffer).expect("a check arrives");
        assert_eq!(from, (lan.a.host.v4()?, WIREGUARD_PORT).into());
        assert!(matches!(classify(&buffer[..length]), Incoming::CheckRequest { .. }));
        daemon.wait_state(peer, "unreachable", CONNECT)?;
        assert_eq!(lan.a.wireguard.endpoint(peer)?, None, "nothing is proven there");
        Ok(())
    });
}

/// All multicast DNS that a neighbour hears holds the name, a random host, the port and addresses, and nothing else
/// that tells who we are.
#[test]
fn packets_tell_neither_key_nor_host() {
    Lan::with("lan-privacy", Nat::PortPreserving, |_, lan| {
        let observer = lan.site.host()?;
        let socket = listen_to_mdns(&observer)?;
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)?;
        for daemon in daemons {
            daemon.process().terminate();
            daemon.process().wait(Duration::from_secs(5))?;
        }
        let mut packets = Vec::new();
        let mut buffer = [0; 9000];
        while let Ok(length) = socket.recv(&mut buffer) {
            packets.push(buffer[..length].to_vec());
        }
        let heard =
            |text: &[u8]| packets.iter().any(|packet| packet.windows(text.len()).any(|part| part == text));
        assert!(heard(b"_wireplug"), "{} packets", packets.len());
        let mut secrets = vec![
            std::fs::read("/proc/sys/kernel/hostname").unwrap().trim_ascii().to_vec(),
            lan.a.wireguard.device().into(),
            b"eth0".to_vec(),
        ];
        for end in [&lan.a, &lan.b] {
            let key = end.wireguard.public_key();
            secrets.push(key[..8].into());
            secrets.push(bytes_of(key)[..6].into());
            secrets.push(
                bytes_of(key)[..4].iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
            );
        }
        for secret in secrets {
            assert!(!heard(&secret), "{:?} is told", String::from_utf8_lossy(&secret));
        }
        Ok(())
    });
}

/// A socket that hears all multicast DNS on a host's LAN, for a second after the last packet.
fn listen_to_mdns(host: &Host) -> Result<std::net::UdpSocket> {
    let address = host.v4()?;
    host.namespace().enter(|| {
        let open = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from(([0, 0, 0, 0], 5353)).into())?;
            socket.join_multicast_v4(&[224, 0, 0, 251].into(), &address)?;
            socket.set_recv_buffer_size(1 << 20)?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok::<_, std::io::Error>(socket.into())
        };
        open().map_err(|error| LabError::unexpected(format!("cannot hear multicast DNS: {error}")))
    })
}

/// The bytes of a key in base64.
fn bytes_of(key: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = key.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let mut bits =
        digits.flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1 == 1)).collect::<Vec<_>>();
    bits.truncate(256);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
}

/// A network without addresses of its own: no DHCP, no router that announces anything.
#[test]
fn neighbours_with_link_local_addresses_only_find_each_other() {
    Lan::with("lan-link-local", Nat::PortPreserving, |_, lan| {
        for end in [&lan.a, &lan.b] {
            end.host.namespace().ip(&["addr flush dev eth0 scope global"])?;
        }
        let daemons = lan.connect()?;
        lan.a.host.ping(Ping::fast(lan.b.wireguard.address(), 200))?;
        for (daemon, here, there) in [(&daemons[0], &lan.a, &lan.b), (&daemons[1], &lan.b, &lan.a)] {
            wait_for("the status that says how", CONNECT, || {
                let status = daemon.peer(there.wireguard.public_key())?;
                Ok(status.filter(|status| status.strategy.as_deref() == Some("lan-mdns")))
            })?;
            let endpoints = here.host.run(&["wg", "show", here.wireguard.device(), "endpoints"])?;
            assert!(endpoints.contains("[fe80::"), "{endpoints}");
            let times = daemon.process().log().matches("endpoint set to").count();
            assert!(times <= 2, "it was set {times} times");
        }
        Ok(())
    });
}
