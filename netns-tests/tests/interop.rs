//! With the programs of others: coturn's STUN clients and server, and Wireshark's eyes. (Avahi is in `lan.rs`.)

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use wireplug_core::TransactionId;
use wireplug_lab::{
    Capture, Host, Lab, LabError, Nat, Pair, PairOptions, Result, STUN_PORT, Server, WIREGUARD_PORT,
};
use wireplug_proto::stun::binding::{BindingResponse, Change, parse_response, request};
use wireplug_proto::stun::{MAGIC_COOKIE, MAGIC_COOKIE_OFFSET};

/// Where coturn listens in place of the server's own STUN.
const COTURN_PORT: u16 = 13478;

/// How long an answer over the lab's links may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(3);

/// What coturn's client says of each NAT. It tells a host without NAT, which it sees by its own address, only from what
/// it hears first; after that it takes it for a NAT that is open in all respects.
fn words(nat: Nat) -> [&'static str; 2] {
    match nat {
        Nat::None | Nat::FullCone => ["Endpoint Independent Mapping!", "Endpoint Independent Filtering!"],
        Nat::Symmetric => ["Address and Port Dependent Mapping!", "Address and Port Dependent Filtering!"],
        _ => ["Endpoint Independent Mapping!", "Address and Port Dependent Filtering!"],
    }
}

#[test]
fn coturns_client_tells_by_our_server_what_each_nat_does() {
    Lab::with("natdiscovery", |lab| {
        let server = lab.server()?;
        let mut hosts = Vec::new();
        for nat in Nat::PLAIN.into_iter().chain([Nat::ClosedHost]) {
            hosts.push(lab.site(nat.name(), nat)?.host()?);
        }
        server.start()?;
        let at = SocketAddr::new(server.v4(0).into(), STUN_PORT);
        thread::scope(|scope| {
            let asking: Vec<_> =
                hosts.iter().map(|host| scope.spawn(|| host.nat_discovery(at, WIREGUARD_PORT))).collect();
            for (host, asking) in hosts.iter().zip(asking) {
                let said = asking.join().expect("a thread that asks")?;
                for (said, expected) in said.iter().zip(words(host.nat())) {
                    let expected = format!("NAT with {expected}");
                    if said.lines().rev().find(|line| line.contains("NAT with")) != Some(&expected) {
                        let nat = host.nat();
                        return Err(LabError::unexpected(format!("{nat}: {expected:?} is not in {said}")));
                    }
                }
            }
            Ok(())
        })
    })
    .unwrap();
}

#[test]
fn coturns_plain_client_learns_its_address_from_our_server() {
    Lab::with("stunclient", |lab| {
        let server = lab.server()?;
        let v4 = lab.site("a", Nat::Cgnat)?.host()?;
        let v6 = lab.site("b", Nat::Ipv6Firewall)?.host()?;
        server.start()?;
        for (host, at) in [(&v4, server.v4(0).into()), (&v6, server.v6(0).into())] {
            let client = host.stun_client(SocketAddr::new(at, STUN_PORT))?;
            client.wait_log(&format!("UDP reflexive addr: {}:", host.public_addresses()[0]), ANSWER)?;
        }
        Ok(())
    })
    .unwrap();
}

/// Where the internet sees the host's WireGuard port.
fn outer(host: &Host) -> SocketAddr {
    SocketAddr::new(host.public_addresses()[0], host.nat().outer_port().expect("one for all"))
}

/// A socket that asks a STUN server as the daemon does, with its codec.
struct Client(UdpSocket);

impl Client {
    fn new(host: &Host) -> Result<Self> {
        let socket = host.udp((Ipv4Addr::UNSPECIFIED, WIREGUARD_PORT).into())?;
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        Ok(Self(socket))
    }

    /// The answer, and where it came from; none where none came.
    fn ask(
        &self,
        to: SocketAddr,
        token: Option<&[u8; 16]>,
        change: Change,
    ) -> Option<(BindingResponse, SocketAddr)> {
        let transaction = TransactionId::from_bytes([change as u8; 12]);
        self.0.send_to(&request(transaction, token, change), to).unwrap();
        let mut buffer = [0; 1500];
        let (length, from) = self.0.recv_from(&mut buffer).ok()?;
        let response = parse_response(&buffer[..length]).expect("an answer that can be read");
        assert_eq!(response.transaction, transaction);
        Some((response, from))
    }
}

/// The codec with which the daemon asks for its mapping, against somebody else's server: with all that a request of ours
/// may have, from behind a NAT, and from where answers may come from anywhere.
#[test]
fn our_requests_are_understood_by_coturn_and_its_answers_by_us() {
    Lab::with("coturn", |lab| {
        let server = lab.server()?;
        let natted = lab.site("a", Nat::Fixed)?.host()?;
        let public = lab.site("b", Nat::None)?.host()?;
        server.coturn(STUN_PORT)?;
        let at = |index, port| SocketAddr::new(server.v4(index).into(), port);
        let primary = at(0, STUN_PORT);

        let client = Client::new(&natted)?;
        for token in [None, Some(&[7; 16])] {
            let (answer, from) = client.ask(primary, token, Change::None).expect("an answer");
            assert_eq!((from, answer.response_origin), (primary, Some(primary)));
            assert_eq!(answer.mapped, outer(&natted));
            assert_eq!(answer.other_address, Some(at(1, STUN_PORT + 1)));
        }
        assert_eq!(client.ask(primary, None, Change::AddressAndPort), None, "the NAT filters it");

        let client = Client::new(&public)?;
        for (change, source) in [
            (Change::Port, at(0, STUN_PORT + 1)),
            (Change::Address, at(1, STUN_PORT)),
            (Change::AddressAndPort, at(1, STUN_PORT + 1)),
        ] {
            let (answer, from) = client.ask(primary, None, change).expect("an answer from elsewhere");
            assert_eq!((from, answer.response_origin), (source, Some(source)), "{change:?}");
            assert_eq!(answer.mapped, outer(&public));
        }
        Ok(())
    })
    .unwrap();
}

/// The daemons take their mappings from coturn, whose answers the server's host gives in place of its own.
#[test]
fn daemons_connect_by_what_coturn_tells_them() {
    Pair::with("coturn-pair", [Nat::Fixed, Nat::PortPreserving], &PairOptions::default(), |pair| {
        pair.server.coturn(COTURN_PORT)?;
        put_in_place_of_stun(&pair.server)?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        let asked = asked(&pair.server)?;
        assert!(asked >= 2, "both daemons have asked coturn: {asked}");
        Ok(())
    })
    .unwrap();
}

/// What comes to the server's STUN port goes to coturn's at the same address, and is counted.
fn put_in_place_of_stun(server: &Server) -> Result<()> {
    server.namespace().nft(&format!(
        "table ip coturn {{
            counter asked {{ }}
            chain in {{
                type nat hook prerouting priority dstnat
                udp dport {STUN_PORT} counter name asked dnat to :{COTURN_PORT}
            }}
        }}\n"
    ))
}

/// How many sources have asked coturn: the rest of what they say follows the first packet.
fn asked(server: &Server) -> Result<u64> {
    let text = server.namespace().run(&["nft", "list", "counter", "ip", "coturn", "asked"])?;
    let number = text.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    Ok(number.and_then(|number| number.parse().ok()).expect("a counter"))
}

/// A STUN message in a capture.
#[derive(Debug)]
struct Message {
    /// As `tshark` shows it, such as `0x0101`.
    kind: String,
    attributes: Vec<String>,
    /// What is wrong or strange.
    complaints: Vec<String>,
}

impl Message {
    const FIELDS: [&str; 3] = ["stun.type", "stun.att.type", "_ws.expert.message"];

    fn read(fields: &[String]) -> Self {
        let list = |text: &String| text.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        Self { kind: fields[0].clone(), attributes: list(&fields[1]), complaints: list(&fields[2]) }
    }

    /// Whether it has an attribute of ours, which only we know.
    fn has_own(&self, number: &str) -> bool {
        self.complaints.contains(&format!("Unknown attribute {number}"))
    }
}

/// All that has our magic cookie is STUN to Wireshark too, and it has nothing to complain of but that it does not know the
/// attributes of our own.
fn sniffed(capture: &Capture) -> Result<Vec<Message>> {
    capture.stop()?;
    let cookie: Vec<String> = MAGIC_COOKIE.iter().map(|byte| format!("{byte:02x}")).collect();
    let cookie = format!("udp.payload[{MAGIC_COOKIE_OFFSET}:4] == {}", cookie.join(":"));
    let not_stun = capture.decode(&format!("{cookie} && !stun"), &["udp.payload"])?;
    assert!(not_stun.is_empty(), "{not_stun:?}");
    let wrong = "stun && (_ws.malformed || (stun.att.crc32.status && stun.att.crc32.status != \"Good\"))";
    let wrong = capture.decode(wrong, &Message::FIELDS)?;
    assert!(wrong.is_empty(), "{wrong:?}");
    let messages: Vec<_> =
        capture.decode(&cookie, &Message::FIELDS)?.iter().map(|fields| Message::read(fields)).collect();
    for message in &messages {
        let strange = message.complaints.iter().find(|it| !it.starts_with("Unknown attribute 0xe0d"));
        assert_eq!(strange, None, "{message:?}");
    }
    Ok(messages)
}

/// Message types (RFC 8489 section 5).
const REQUEST: &str = "0x0001";
const INDICATION: &str = "0x0011";
const SUCCESS: &str = "0x0101";

/// Attributes (RFC 8489 section 18.3, RFC 8445 section 16.1, RFC 5780 section 9.1).
const USERNAME: &str = "0x0006";
const INTEGRITY_SHA256: &str = "0x001c";
const XOR_MAPPED: &str = "0x0020";
const PRIORITY: &str = "0x0024";
const USE_CANDIDATE: &str = "0x0025";
const FINGERPRINT: &str = "0x8028";
const ORIGIN: &str = "0x802b";
const OTHER: &str = "0x802c";

#[test]
fn wireshark_decodes_checks_probes_and_bindings_as_sound_stun() {
    Pair::with("sniffed-checks", [Nat::None, Nat::PortPreserving], &PairOptions::default(), |pair| {
        let capture = pair.lab.capture()?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        let messages = sniffed(&capture)?;
        for (kind, own, attributes) in [
            // Checks: plain, nominating, answered.
            (REQUEST, None, &[USERNAME, PRIORITY, INTEGRITY_SHA256, FINGERPRINT][..]),
            (REQUEST, None, &[USERNAME, PRIORITY, USE_CANDIDATE, INTEGRITY_SHA256, FINGERPRINT]),
            (SUCCESS, None, &[XOR_MAPPED, INTEGRITY_SHA256, FINGERPRINT]),
            // To the server and back, and its probe.
            (REQUEST, Some("0xe0d1"), &[FINGERPRINT]),
            (SUCCESS, None, &[XOR_MAPPED, ORIGIN, OTHER, FINGERPRINT]),
            (INDICATION, Some("0xe0d2"), &[FINGERPRINT]),
        ] {
            let found = messages.iter().find(|it| {
                let complaints = own.map_or(it.complaints.is_empty(), |own| it.has_own(own));
                it.kind == kind && it.attributes == attributes && complaints
            });
            assert!(found.is_some(), "{kind} {attributes:?} is not in {messages:?}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn wireshark_decodes_binds_to_a_relay_as_sound_stun() {
    Pair::with("sniffed-binds", [Nat::Symmetric, Nat::Symmetric], &PairOptions::default(), |pair| {
        let capture = pair.lab.capture()?;
        pair.connect()?;
        let messages = sniffed(&capture)?;
        for (kind, own) in [(REQUEST, "0xe0d4"), (SUCCESS, "0xe0d5")] {
            let integrity = INTEGRITY_SHA256.to_owned();
            let bind = messages.iter().find(|it| it.kind == kind && it.has_own(own));
            assert!(
                bind.is_some_and(|bind| bind.attributes.contains(&integrity)),
                "{kind} is not in {messages:?}"
            );
        }
        Ok(())
    })
    .unwrap();
}
