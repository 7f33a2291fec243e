//! The rules of every strategy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::SocketAddr;

use wireplug_hole_punch as _;
use wireplug_strategy::kit::{Nat, Place, Scenario, address};
use wireplug_strategy::{Situation, StunServer, find};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn place(nat: Nat) -> Place {
    let server =
        |primary, secondary| StunServer { primary: addr(primary), secondary: Option::map(secondary, addr) };
    Place::new(Situation {
        interface: "wg0".to_owned(),
        listen_port: 51820,
        addresses: vec![address(addr("192.168.1.5:1").ip(), 24), address(addr("[2a00::5]:1").ip(), 64)],
        servers: vec![
            server("203.0.113.1:3478", Some("203.0.113.2:3478")),
            server("203.0.113.9:3478", None),
            server("[2001:db8::1]:3478", Some("[2001:db8::2]:3478")),
        ],
        ..Situation::default()
    })
    .behind(nat)
}

fn scenario() -> Scenario {
    let home = place(Nat::Fixed(addr("5.6.7.8:40001")));
    Scenario::new(home, place(Nat::Fixed(addr("9.8.7.6:40002"))))
        .changing("another mapping", |place| place.nat = Nat::Fixed(addr("5.6.7.8:40003")))
        .changing("another kind of NAT", |place| place.nat = Nat::DestinationDependent(addr("5.6.7.8:1000")))
        .changing("no NAT any more", |place| place.nat = Nat::None)
        .changing("another port", |place| {
            place.situation.listen_port = 4500;
            place.nat = Nat::Fixed(addr("5.6.7.8:40004"));
        })
        .changing("a server is gone whose view others confirm", |place| {
            place.situation.servers.remove(1);
        })
        .changing("no address", |place| place.situation.addresses.clear())
}

wireplug_strategy::conformance!(find("hole-punch").unwrap(), toml::Table::new(), scenario());
