//! The relay: pairs that nothing else connects, over whatever way each side has to the server, and who may use it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use wireplug_lab::{Nat, Pair, PairOptions, Result, UNREACHABLE_LIMIT};

/// Two that cannot be direct, though UDP to the server works.
const SYMMETRIC: [Nat; 2] = [Nat::Symmetric, Nat::PortPreserving];

/// A token as an operator would give it to somebody.
const TOKEN: &str = "a-token-of-the-lab-0123456789";

fn relayed(label: &str, nats: [Nat; 2], options: &PairOptions) {
    Pair::with(label, nats, options, |pair| {
        let daemons = pair.connect()?;
        pair.check_relayed(&daemons)?;
        full_packets_pass(pair)
    })
    .unwrap();
}

/// What WireGuard's usual MTU allows arrives whole: 1420 bytes with the headers of IPv4 and ICMP.
fn full_packets_pass(pair: &Pair) -> Result<()> {
    let to = pair.b.wireguard.address().to_string();
    pair.a.host.run(&["ping", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1392", &to]).map(drop)
}

#[test]
fn a_symmetric_nat_is_relayed() {
    relayed("relay", SYMMETRIC, &PairOptions::default());
}

#[test]
fn ipv4_only_and_ipv6_only_are_bridged() {
    let nats = [Nat::PortPreserving, Nat::Ipv6Firewall];
    relayed("relay-families", nats, &PairOptions::default());
}

#[test]
fn udp_blocked_on_one_side_goes_over_tls_there() {
    let nats = [Nat::UdpBlocked, Nat::PortPreserving];
    relayed("relay-tls", nats, &PairOptions::default());
}

#[test]
fn udp_blocked_on_both_sides_goes_over_tls() {
    let nats = [Nat::UdpBlocked, Nat::UdpBlocked];
    relayed("relay-tls-tls", nats, &PairOptions::default());
}

#[test]
fn tls_goes_through_a_reverse_proxy() {
    let nats = [Nat::UdpBlocked, Nat::PortPreserving];
    Pair::with("relay-proxy", nats, &PairOptions::default(), |pair| {
        pair.server.restart_behind_proxy()?;
        let daemons = pair.connect()?;
        pair.check_relayed(&daemons)?;
        full_packets_pass(pair)
    })
    .unwrap();
}

#[test]
fn a_pair_that_is_direct_at_once_costs_the_relay_nothing() {
    Pair::with("relay-unused", [Nat::PortPreserving, Nat::Fixed], &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        assert_eq!(pair.server.metric("relay_granted_total")?, 0, "a place was asked for");
        assert_eq!(pair.server.wireguard_packets()?, 0, "packets of the tunnel went to the server");
        Ok(())
    })
    .unwrap();
}

/// Both say that the peer is unreachable, and why the relay is no help.
fn not_relayed(label: &str, options: &PairOptions, why: &str) {
    Pair::with(label, SYMMETRIC, options, |pair| {
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        pair.check_unreachable(&daemons)?;
        daemons[1].process().wait_log(why, UNREACHABLE_LIMIT)?;
        assert_eq!(pair.server.wireguard_packets()?, 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_server_that_does_not_relay_is_said() {
    let options =
        PairOptions { server_config: "[relay]\nenabled = false\n".to_owned(), ..PairOptions::default() };
    not_relayed("relay-off", &options, "the relay of this server is turned off");
}

#[test]
fn a_wrong_token_is_said_and_a_right_one_lets_in() {
    let private = |token: &str| PairOptions {
        server_config: format!("[relay]\ntokens = [\"{TOKEN}\"]\n"),
        configs: [TOKEN, token]
            .map(|token| format!("[interface.DEVICE.strategy.relay]\ntoken = \"{token}\"\n")),
        ..PairOptions::default()
    };
    not_relayed("relay-denied", &private("another-token-of-the-lab-0123"), "does not know the token");
    relayed("relay-token", SYMMETRIC, &private(TOKEN));
}
