//! Links that are no LAN, and neighbours that mean no good.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tun_rs::DeviceBuilder;
use wireplug_lab::{Daemon, Host, LabError, Nat, Pair, PairOptions, Result, wait_for};

/// The port of multicast DNS (RFC 6762 section 3).
const MDNS_PORT: u16 = 5353;

/// How long a daemon may take to announce itself.
const SOON: Duration = Duration::from_secs(10);

/// A point-to-point link and one without multicast beside the LAN: nothing is announced there, nothing joined.
#[test]
fn links_without_neighbours_are_left_alone() {
    let pair = Pair::neighbours("no-lan", Nat::PortPreserving, &PairOptions::default()).unwrap();
    let outcome = pair.finish(|pair| {
        let namespace = pair.a.host.namespace();
        let device = namespace.enter(|| {
            let device = DeviceBuilder::new().name("tun9").build_sync();
            device.map_err(|error| LabError::unexpected(format!("cannot open a TUN device: {error}")))
        })?;
        namespace.ip(&[
            "addr add 10.5.5.1/24 dev tun9",
            "link set tun9 up",
            "link add eth8 type veth peer name eth9",
            "link set eth8 multicast off",
            "addr add 10.6.6.1/24 dev eth8",
            "link set eth9 up",
            "link set eth8 up",
        ])?;
        let (sender, packets) = channel();
        let device = Arc::new(device);
        let reader = Arc::clone(&device);
        // It ends with the device, which goes with the lab.
        thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok(length) = reader.recv(&mut packet) {
                if sender.send(packet[..length].to_vec()).is_err() {
                    return;
                }
            }
        });

        let daemons = pair.connect()?;
        pair.check_neighbours(&daemons)?;
        let groups = |device: &str| pair.a.host.run(&["ip", "maddr", "show", "dev", device]);
        assert!(groups("eth0")?.contains("224.0.0.251"), "it has joined on the LAN");
        for device in ["tun9", "eth8"] {
            let groups = groups(device)?;
            assert!(!groups.contains("224.0.0.251") && !groups.contains("ff02::fb"), "{device}: {groups}");
        }
        // What goes out there is seen here.
        pair.a.host.udp(([10, 5, 5, 1], 0).into())?.send_to(b"x", ("10.5.5.2", 9)).unwrap();
        let is_udp_to = |packet: &[u8], port: u16| {
            packet.first().is_some_and(|first| first >> 4 == 4)
                && packet.get(9) == Some(&17)
                && packet.get(22..24) == Some(&port.to_be_bytes())
        };
        let mut seen = Vec::new();
        wait_for("a packet on the point-to-point link", SOON, || {
            seen.extend(packets.try_iter());
            Ok(seen.iter().any(|packet| is_udp_to(packet, 9)).then_some(()))
        })?;
        let mdns: Vec<_> = seen
            .iter()
            .filter(|packet| {
                packet.windows(9).any(|part| part == b"_wireplug") || is_udp_to(packet, MDNS_PORT)
            })
            .collect();
        assert!(mdns.is_empty(), "{mdns:02x?}");
        Ok(())
    });
    outcome.unwrap();
}

/// A neighbour announces names without end, each for a day. That costs little memory for each, peers on the LAN find
/// each other still, and a tunnel that stands does not notice.
///
/// The library keeps what is announced as long as it was announced for, whatever the number. Where services of our type
/// come faster than they are looked at, it gives up, and the link is left alone for a minute.
#[test]
fn a_flood_of_names_costs_little_memory() {
    /// More than any LAN has.
    const NAMES: u32 = 10_000;
    /// Some 500 bytes were measured for a name, but what was freed stays with the process for a while.
    const MAX_KIB: u64 = 32 * 1024;
    let mut pair = Pair::neighbours("mdns-flood", Nat::PortPreserving, &PairOptions::default()).unwrap();
    let outcome = pair.sites[0].host().and_then(|flooder| {
        pair.finish(|pair| {
            let first = pair.a.wireplug()?;
            first.process().wait_log("announced on eth0", SOON)?;
            let before = resident(&first)?;
            let check = |what: &str| {
                let grown = resident(&first)?.saturating_sub(before);
                if grown < MAX_KIB {
                    return Ok(());
                }
                Err(LabError::unexpected(format!("{NAMES} {what} cost {grown} KiB")))
            };
            flood(&flooder, NAMES, Announced::Hosts)?;
            check("hosts")?;
            let second = pair.b.wireplug()?;
            pair.wait_for_ping(SOON)?;
            let daemons = [first.clone(), second];
            pair.check_neighbours(&daemons)?;
            flood(&flooder, NAMES, Announced::Services)?;
            check("services")?;
            pair.check_neighbours(&daemons)
        })
    });
    outcome.unwrap();
}

/// What a flood holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announced {
    /// Names with addresses.
    Hosts,
    /// Services of our type too.
    Services,
}

fn resident(daemon: &Daemon) -> Result<u64> {
    daemon.resident_kib().ok_or_else(|| LabError::unexpected("the daemon's memory cannot be read"))
}

/// Announces so many different names.
fn flood(from: &Host, count: u32, what: Announced) -> Result<()> {
    /// So that a datagram fits into a frame.
    const PER_DATAGRAM: usize = 6;
    let socket = multicast(from)?;
    let to = SocketAddr::from(([224, 0, 0, 251], MDNS_PORT));
    let numbers: Vec<u32> = (0..count).collect();
    for (index, some) in numbers.chunks(PER_DATAGRAM).enumerate() {
        socket.send_to(&announcement(some, what), to).unwrap();
        if index % 4 == 0 {
            // About as fast as it can be read: what is dropped costs nothing.
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// A response (RFC 6762 section 18) with the records of some services or hosts.
fn announcement(numbers: &[u32], what: Announced) -> Vec<u8> {
    const A: u16 = 1;
    const PTR: u16 = 12;
    const SRV: u16 = 33;
    /// A day.
    const LIFE: u32 = 86_400;
    let (mut records, mut count) = (Vec::new(), 0_u16);
    let mut record = |name: &[&str], kind: u16, data: &[u8]| {
        records.extend_from_slice(&labels(name));
        records.extend_from_slice(&kind.to_be_bytes());
        records.extend_from_slice(&1_u16.to_be_bytes());
        records.extend_from_slice(&LIFE.to_be_bytes());
        records.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        records.extend_from_slice(data);
        count += 1;
    };
    for number in numbers {
        let (instance, host) = (format!("{number:056x}"), format!("{number:016x}"));
        let service = ["_wireplug", "_udp", "local"];
        let full = [&[instance.as_str()], &service[..]].concat();
        if what == Announced::Services {
            record(&service, PTR, &labels(&full));
        }
        let target = [&[0; 4], &9_u16.to_be_bytes()[..], &labels(&[&host, "local"])].concat();
        record(&full, SRV, &target);
        record(&[&host, "local"], A, &[10, 0, 0, 9]);
    }
    // An authoritative response without questions.
    let head = [&[0, 0, 0x84, 0, 0, 0][..], &count.to_be_bytes(), &[0; 4]].concat();
    [head, records].concat()
}

/// A name in the form of RFC 1035 section 3.1, uncompressed.
fn labels(name: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A socket that multicast DNS takes for a responder's: it sends from its port (RFC 6762 section 6).
fn multicast(host: &Host) -> Result<UdpSocket> {
    let address = host.v4()?;
    host.namespace().enter(|| {
        let open = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from(([0, 0, 0, 0], MDNS_PORT)).into())?;
            socket.set_multicast_if_v4(&address)?;
            socket.set_multicast_ttl_v4(255)?;
            Ok::<_, std::io::Error>(socket.into())
        };
        open().map_err(|error| LabError::unexpected(format!("cannot send multicast DNS: {error}")))
    })
}
