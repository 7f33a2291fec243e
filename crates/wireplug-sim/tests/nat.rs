//! The NAT and firewall models against the definitions of RFC 4787 and RFC 6092.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::{FULL_CONE, PORT_RESTRICTED, SYMMETRIC};
use wireplug_sim::firewall::{Firewall, Policy};
use wireplug_sim::nat::{Behaviour, Filtering, Mapping, Nat, Ports};
use wireplug_sim::{ms, secs};

const OUTER: Ipv4Addr = Ipv4Addr::new(5, 0, 0, 2);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn nat(behaviour: Behaviour) -> Nat {
    Nat::new(behaviour, OUTER, 1)
}

/// Section 4.1: which of three destinations (same port of an address, other port, other address) share a mapping.
#[test]
fn mappings_are_reused_as_section_4_1_defines() {
    for (mapping, other_port_shares, other_address_shares) in [
        (Mapping::EndpointIndependent, true, true),
        (Mapping::AddressDependent, true, false),
        (Mapping::AddressAndPortDependent, false, false),
    ] {
        let mut nat = nat(Behaviour { mapping, ..SYMMETRIC });
        let inner = at("192.168.0.10:51820");
        let mut out = |to| nat.outbound(secs(1), inner, at(to));
        let first = out("9.9.9.1:1000");
        assert_eq!(out("9.9.9.1:1000"), first, "{mapping:?}: the same destination");
        assert_eq!(out("9.9.9.1:1001") == first, other_port_shares, "{mapping:?}: another port");
        assert_eq!(out("9.9.9.2:1000") == first, other_address_shares, "{mapping:?}: another address");
    }
}

/// Section 5: who may answer after one datagram to 9.9.9.1:1000.
#[test]
fn filtering_is_as_section_5_defines() {
    for (filtering, port, address) in [
        (Filtering::EndpointIndependent, true, true),
        (Filtering::AddressDependent, true, false),
        (Filtering::AddressAndPortDependent, false, false),
    ] {
        let mut nat = nat(Behaviour { filtering, ..PORT_RESTRICTED });
        let inner = at("192.168.0.10:51820");
        let outer = nat.outbound(secs(1), inner, at("9.9.9.1:1000"));
        let mut passes = |from| nat.inbound(secs(2), at(from), outer.port()) == Some(inner);
        assert!(passes("9.9.9.1:1000"), "{filtering:?}: the one that was sent to");
        assert_eq!(passes("9.9.9.1:1001"), port, "{filtering:?}: another port");
        assert_eq!(passes("9.9.9.2:1000"), address, "{filtering:?}: another address");
    }
}

#[test]
fn ports_are_preserved_until_they_collide() {
    let mut nat = nat(PORT_RESTRICTED);
    let server = at("9.9.9.1:1000");
    assert_eq!(nat.outbound(secs(1), at("192.168.0.10:51820"), server), at("5.0.0.2:51820"));
    let second = nat.outbound(secs(1), at("192.168.0.11:51820"), server);
    assert_ne!(second.port(), 51820);
    assert_eq!(nat.inbound(secs(1), server, second.port()), Some(at("192.168.0.11:51820")));
}

#[test]
fn a_fixed_port_is_given_once() {
    let mut nat = nat(Behaviour { ports: Ports::Fixed(40001), ..PORT_RESTRICTED });
    let server = at("9.9.9.1:1000");
    assert_eq!(nat.outbound(secs(1), at("192.168.0.10:51820"), server).port(), 40001);
    assert_ne!(nat.outbound(secs(1), at("192.168.0.11:51820"), server).port(), 40001);
}

/// Linux's masquerade: a mapping for each destination, all with the preserved port.
#[test]
fn preserved_ports_make_a_dependent_mapping_predictable() {
    let masquerade = Behaviour { mapping: Mapping::AddressAndPortDependent, ..PORT_RESTRICTED };
    assert!(masquerade.is_predictable());
    let mut nat = nat(masquerade);
    let inner = at("192.168.0.10:51820");
    let outer = nat.outbound(secs(1), inner, at("9.9.9.1:1000"));
    assert_eq!(nat.outbound(secs(1), inner, at("9.9.9.2:1000")), outer);
    assert_eq!(nat.inbound(secs(1), at("9.9.9.2:1000"), outer.port()), Some(inner));
    assert_eq!(nat.inbound(secs(1), at("9.9.9.3:1000"), outer.port()), None);
}

/// Section 4.3: what leaves prolongs (REQ-6a); what comes does only where the NAT is made so (REQ-6b).
#[test]
fn mappings_expire_and_are_prolonged() {
    for inbound_refreshes in [false, true] {
        let mut nat = nat(Behaviour { inbound_refreshes, ..PORT_RESTRICTED });
        let (inner, server) = (at("192.168.0.10:51820"), at("9.9.9.1:1000"));
        let outer = nat.outbound(secs(0), inner, server);
        assert_eq!(nat.outbound(secs(59), inner, server), outer);
        assert_eq!(nat.inbound(secs(118), server, outer.port()), Some(inner), "prolonged by what left");
        let later = nat.inbound(secs(175), server, outer.port());
        assert_eq!(later.is_some(), inbound_refreshes, "prolonged by what came");
        assert_eq!(nat.inbound(secs(300), server, outer.port()), None, "over in any case");
    }
}

#[test]
fn a_random_mapping_is_another_one_after_it_expired() {
    let mut nat = nat(FULL_CONE);
    let (inner, server) = (at("192.168.0.10:51820"), at("9.9.9.1:1000"));
    let before = nat.outbound(secs(0), inner, server);
    assert_ne!(nat.outbound(secs(61), inner, server), before);
    nat.reboot();
    assert_eq!(nat.inbound(secs(61), server, before.port()), None);
}

/// RFC 6092 section 3.2: only what was sent to may answer, for as long as the state lives.
#[test]
fn a_stateful_firewall_lets_answers_pass_only() {
    let mut firewall = Firewall::new(Policy::Stateful { timeout: secs(60) });
    let (inner, peer) = (at("[2a00::1]:51820"), at("[2a00:1::1]:51820"));
    assert!(!firewall.inbound(ms(0), peer, inner));
    assert!(firewall.outbound(ms(0), inner, peer));
    assert!(firewall.inbound(secs(59), peer, inner));
    assert!(!firewall.inbound(secs(59), at("[2a00:1::1]:51821"), inner), "another port");
    assert!(firewall.inbound(secs(118), peer, inner), "answers prolong");
    assert!(!firewall.inbound(secs(180), peer, inner), "silence ends it");
    let mut blocked = Firewall::new(Policy::NoUdp);
    assert!(!blocked.outbound(ms(0), inner, peer) && !blocked.inbound(ms(0), peer, inner));
}
