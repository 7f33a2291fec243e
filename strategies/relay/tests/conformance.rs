//! The rules of every strategy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::IpAddr;
use std::time::Duration;

use wireplug_core::PublicKey;
use wireplug_relay as _;
use wireplug_strategy::kit::{FakeRelay, Place, Scenario, address};
use wireplug_strategy::{LegStanding, PeerSituation, RelayRefusal, RelayStanding, Relaying, Situation, find};

const HERE: &str = "wss://here.example";
const THERE: &str = "wss://there.example";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn relay(addresses: &[&str], ports: LegStanding) -> FakeRelay {
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    FakeRelay { standing: RelayStanding::Open { addresses, ports: 3479..=3510 }, ports }
}

fn peer(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn place(own: &str) -> Place {
    let mut place = Place::new(Situation {
        interface: "wg0".to_owned(),
        listen_port: 51820,
        addresses: vec![address(ip(own), 24), address(ip("2a00::5"), 64)],
        peers: [1, 2, 3].map(|number| PeerSituation { public_key: peer(number), endpoint: None }).to_vec(),
        relaying: Relaying {
            servers: vec![HERE.to_owned(), THERE.to_owned()],
            udp: true,
            wanted: vec![peer(1), peer(3)],
            places: Vec::new(),
        },
        ..Situation::default()
    });
    place.relays.insert(HERE.to_owned(), relay(&["203.0.113.1", "2001:db8::1"], LegStanding::Bound));
    place.relays.insert(THERE.to_owned(), relay(&["203.0.113.2"], LegStanding::Bound));
    place
}

fn refuse(place: &mut Place, server: &str) {
    let standing = RelayStanding::Refused {
        why: RelayRefusal::Limit,
        detail: "too many".to_owned(),
        retry_after: Some(Duration::from_secs(30)),
    };
    place.relays.insert(server.to_owned(), FakeRelay { standing, ports: LegStanding::Asked });
}

fn scenario() -> Scenario {
    Scenario::new(place("192.168.1.5"), place("10.1.1.5"))
        .changing("a peer needs it no more", |place| place.situation.relaying.wanted.truncate(1))
        .changing("nobody needs it", |place| place.situation.relaying.wanted.clear())
        .changing("another peer needs it", |place| place.situation.relaying.wanted.push(peer(4)))
        .changing("a server refuses", |place| refuse(place, HERE))
        .changing("both servers refuse", |place| {
            refuse(place, HERE);
            refuse(place, THERE);
        })
        .changing("no raw socket any more", |place| place.situation.relaying.udp = false)
        .changing("UDP is blocked", |place| {
            place.relays.values_mut().for_each(|relay| relay.ports = LegStanding::Silent);
        })
        .changing("no IPv6 any more", |place| place.situation.addresses.truncate(1))
        .changing("no address", |place| place.situation.addresses.clear())
}

wireplug_strategy::conformance!(find("relay").unwrap(), toml::Table::new(), scenario());
