//! The rules of every strategy.

use wireplug_core::PublicKey;
use wireplug_strategy::kit::{Place, Scenario, address};
use wireplug_strategy::{PeerSituation, Situation};

use crate::fake::{REGISTRATION, ether, name_of};

fn peer(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

fn place(own: &str, interface: &str) -> Place {
    let mut own = address(own.parse().unwrap(), 24);
    interface.clone_into(&mut own.interface);
    Place::new(Situation {
        interface: "wg0".to_owned(),
        public_key: Some(peer(9)),
        listen_port: 51820,
        addresses: vec![own],
        peers: [1, 2, 3].map(|n| PeerSituation { public_key: peer(n), endpoint: None }).to_vec(),
        ..Situation::default()
    })
}

/// Neighbours are there from the start, at home and away.
fn scenario() -> Scenario {
    for (interface, lan) in [("eth0", "192.168.1"), ("wlan0", "10.0.0")] {
        ether().comes(interface, name_of(&peer(1), 1), 51820, &[&format!("{lan}.71"), "fe80::71"]);
        ether().comes(interface, name_of(&peer(2), 2), 4500, &[&format!("{lan}.72"), "172.16.0.72"]);
        ether().comes(interface, name_of(&peer(7), 3), 51820, &[&format!("{lan}.77")]);
    }
    let scenario = Scenario::new(place("192.168.1.5", "eth0"), place("10.0.0.5", "wlan0"))
        .changing("another port", |place| place.situation.listen_port = 4500)
        .changing("another address of the link", |place| {
            place.situation.addresses[0].ip = "192.168.1.6".parse().unwrap();
        })
        .changing("another link", |place| place.situation.addresses[0].ip = "172.16.0.5".parse().unwrap())
        .changing("a peer is gone", |place| drop(place.situation.peers.remove(0)))
        .changing("a stranger becomes a peer", |place| place.situation.peers[2].public_key = peer(7))
        .changing("another key", |place| place.situation.public_key = Some(peer(8)))
        .changing("no key", |place| place.situation.public_key = None);
    Scenario { left_behind: Box::new(|| ether().left_behind()), ..scenario }
}

wireplug_strategy::conformance!(&REGISTRATION, toml::Table::new(), scenario());
