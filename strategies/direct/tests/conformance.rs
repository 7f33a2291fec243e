//! The rules of every strategy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::IpAddr;
use std::time::Duration;

use wireplug_core::PublicKey;
use wireplug_direct as _;
use wireplug_strategy::kit::{Place, Scenario, address};
use wireplug_strategy::{PeerSituation, Situation, find};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn place(own: &str, name_at: &str) -> Place {
    let peer = |n, endpoint: Option<&str>| PeerSituation {
        public_key: PublicKey::from_bytes([n; 32]),
        endpoint: endpoint.map(str::to_owned),
    };
    Place::new(Situation {
        interface: "wg0".to_owned(),
        listen_port: 51820,
        addresses: vec![address(ip("192.168.1.5"), 24), address(ip(own), 24)],
        peers: vec![
            peer(1, Some("home.example.org:51820")),
            peer(2, Some("203.0.113.7:51820")),
            peer(3, Some("nonsense")),
            peer(4, None),
        ],
        ..Situation::default()
    })
    .with_name("home.example.org", &[ip(name_at), ip("2a00::7")], Duration::from_mins(1))
}

fn scenario() -> Scenario {
    Scenario::new(place("5.6.7.8", "203.0.113.1"), place("9.8.7.6", "203.0.113.2"))
        .changing("an address is gone", |place| drop(place.situation.addresses.pop()))
        .changing("another port", |place| place.situation.listen_port = 4500)
        .changing("a peer is gone", |place| drop(place.situation.peers.remove(0)))
        .changing("a peer's endpoint is gone", |place| place.situation.peers[0].endpoint = None)
        .changing("a peer's endpoint is another", |place| {
            place.situation.peers[0].endpoint = Some("203.0.113.77:9".to_owned());
        })
        .changing("a name moved", |place| {
            let moved = place.names.get_mut("home.example.org").unwrap().as_mut().unwrap();
            moved.addresses = vec![ip("203.0.113.99")];
        })
}

wireplug_strategy::conformance!(find("direct").unwrap(), toml::Table::new(), scenario());
