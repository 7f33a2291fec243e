//! A peer that does not run wireplug: the tunnel works as WireGuard would, and follows the peer's name.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use wireplug_lab::{
    CONNECT_LIMIT, Lab, Nat, Pair, PairOptions, Peer, Result, UNREACHABLE_LIMIT, WIREGUARD_PORT, wait_for,
    wireguard_at,
};

/// How long a change of a name may take to arrive: WireGuard must first be seen to be silent on the old address.
const FOLLOW: Duration = Duration::from_secs(90);

/// A NATed host with wireplug, and a public one without.
fn lonely(label: &str, work: impl FnOnce(&Pair) -> Result<()>) {
    let nats = [Nat::PortPreserving, Nat::None];
    Pair::with(label, nats, &PairOptions::default(), work).unwrap();
}

fn with_endpoint(pair: &Pair, endpoint: &str) -> Result<std::path::PathBuf> {
    let (device, key) = (pair.a.wireguard.device(), pair.b.wireguard.public_key());
    let more = format!("[interface.{device}.peer.\"{key}\"]\nname = \"b\"\nendpoint = \"{endpoint}\"\n");
    pair.a.host.wireplug_config(&pair.a.wireguard, &pair.server, &more)
}

#[test]
fn an_endpoint_set_by_hand_stays_and_works() {
    lonely("plain-hand", |pair| {
        let key = pair.b.wireguard.public_key();
        let allowed = format!("{}/32", pair.b.wireguard.address());
        let endpoint = Some(wireguard_at(pair.b.host.addresses()[0]));
        pair.a.wireguard.peer(&Peer { endpoint, ..Peer::new(key, &allowed) })?;
        pair.check_pings(20)?;
        let daemon = pair.a.wireplug()?;
        for _ in 0..10 {
            pair.check_pings(20)?;
            assert_eq!(pair.a.wireguard.endpoint(key)?, endpoint);
            thread::sleep(Duration::from_millis(500));
        }
        daemon.wait_state(key, "connected", CONNECT_LIMIT).map(drop)
    });
}

#[test]
fn a_configured_endpoint_is_tried_unproven_and_said_to_be() {
    lonely("plain-config", |pair| {
        let key = pair.b.wireguard.public_key();
        let config = with_endpoint(pair, &wireguard_at(pair.b.host.addresses()[0]).to_string())?;
        let daemon = pair.a.host.wireplug(&pair.a.wireguard, &config)?;
        pair.wait_for_ping(FOLLOW)?;
        let status = daemon.wait_state(key, "connected", CONNECT_LIMIT)?;
        assert!(!status.proven, "nothing could be proven: {status:?}");
        pair.a.check_endpoint(&pair.b).map(drop)
    });
}

#[test]
fn a_name_is_followed_when_it_changes() {
    Lab::with("plain-name", |lab| {
        let server = lab.server()?;
        server.start()?;
        let a = lab.site("a", Nat::PortPreserving)?.host()?;
        // The peer's machine moves: the same keys on another host.
        let (old, new) = (lab.site("b", Nat::None)?.host()?, lab.site("c", Nat::None)?.host()?);
        let dns = server.dns()?;
        dns.set("b.lab", old.addresses()[0]);
        a.use_dns(&dns)?;

        let private = old.run(&["wg", "genkey"])?;
        let public = old.namespace().run_with(&["wg", "pubkey"], &private)?.trim().to_owned();
        let wg_a = a.wireguard([10, 77, 0, 1].into())?;
        let wg_old = old.wireguard_with_keys([10, 77, 0, 2].into(), &private, &public)?;
        let wg_new = new.wireguard_with_keys([10, 77, 0, 2].into(), &private, &public)?;
        wg_a.peer(&Peer::new(&public, "10.77.0.2/32"))?;
        let more = format!(
            "[interface.{}.peer.\"{public}\"]\nendpoint = \"b.lab:{WIREGUARD_PORT}\"\n",
            wg_a.device()
        );
        let config = a.wireplug_config(&wg_a, &server, &more)?;
        wg_old.peer(&Peer::new(wg_a.public_key(), "10.77.0.1/32"))?;
        a.wireplug(&wg_a, &config)?;
        let goes_to = |what: &str, address: SocketAddr| {
            wait_for(what, FOLLOW, || {
                // Traffic, as a person would have who notices.
                a.ping(wireplug_lab::Ping::fast([10, 77, 0, 2], 1))?;
                let state = wg_a.state(&public)?;
                Ok((state.endpoint == Some(address) && state.latest_handshake.is_some()).then_some(()))
            })
        };
        goes_to("the name's first address", wireguard_at(old.addresses()[0]))?;

        wg_old.set(&["peer", wg_a.public_key(), "remove"])?;
        wg_new.peer(&Peer::new(wg_a.public_key(), "10.77.0.1/32"))?;
        dns.set("b.lab", new.addresses()[0]);
        goes_to("the name's second address", wireguard_at(new.addresses()[0]))?;
        wait_for("the moved peer to answer", FOLLOW, || {
            let pings = a.ping(wireplug_lab::Ping::fast([10, 77, 0, 2], 3))?;
            Ok((!pings.answers.is_empty()).then_some(()))
        })
    })
    .unwrap();
}

#[test]
fn without_any_endpoint_it_is_unreachable_with_a_reason_until_it_calls() {
    let nats = [Nat::None, Nat::PortPreserving];
    Pair::with("plain-none", nats, &PairOptions::default(), |pair| {
        let key = pair.b.wireguard.public_key();
        let daemon = pair.a.wireplug()?;
        let status = daemon.wait_state(key, "unreachable", UNREACHABLE_LIMIT)?;
        assert!(status.reason.is_some_and(|reason| !reason.is_empty()));
        assert_eq!(pair.a.wireguard.endpoint(key)?, None);

        let endpoint = Some(wireguard_at(pair.a.host.addresses()[0]));
        let allowed = format!("{}/32", pair.a.wireguard.address());
        let peer = Peer::new(pair.a.wireguard.public_key(), &allowed);
        pair.b.wireguard.peer(&Peer { endpoint, keepalive: Some(1), ..peer })?;
        daemon.wait_state(key, "connected", CONNECT_LIMIT)?;
        pair.a.check_endpoint(&pair.b)?;
        pair.check_pings(20)
    })
    .unwrap();
}
