//! The rules of every strategy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use wireplug_pcp as _;
use wireplug_strategy::find;
use wireplug_strategy::kit::Scenario;
use wireplug_strategy::kit::home::{GATEWAY, Home, OUTSIDE, SOURCE};

fn scenario() -> Scenario {
    let home = Home::at(GATEWAY, SOURCE, OUTSIDE);
    let away = Home::at("10.0.0.1", "10.0.0.9", "9.8.7.6");
    let new_port = Home::at(GATEWAY, SOURCE, OUTSIDE);
    let gone = Home::at(GATEWAY, SOURCE, OUTSIDE);
    gone.router.change(|script| script.pcp.manner = wireplug_strategy::kit::gateway::Manner::Silent);
    for lab in [&home, &away, &new_port] {
        // The kit compares runs that have nothing in common but the router.
        lab.router.change(|script| script.pcp.any_nonce = true);
    }
    let there = away.router.clone();
    let mut scenario = Scenario::new(home.place(), away.place())
        .changing("another port", |place| {
            place.situation.listen_port = 4500;
            *place = new_port.clone().moved_into(place.clone());
        })
        .changing("a router that maps no more", |place| *place = gone.clone().moved_into(place.clone()))
        .changing("no router any more", |place| place.situation.gateways.clear());
    // What stands on the router of a network that was left cannot be reached, and ends with its lease.
    scenario.left_behind =
        Box::new(move || there.mappings().iter().map(|mapping| format!("{mapping:?}")).collect());
    scenario
}

wireplug_strategy::conformance!(find("pcp").unwrap(), toml::Table::new(), scenario());
