//! Real routers that map ports: miniupnpd behind nftables, asked by one strategy at a time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wireplug_lab::{
    Daemon, End, Lab, LabError, Miniupnpd, Nat, Pair, Peer, Result, Site, WIREGUARD_PORT, wait_for,
};

/// How long a daemon may take to say something that it knows.
const SOON: Duration = Duration::from_secs(10);

/// Two symmetric NATs, the first one's router with miniupnpd, both daemons with these strategies.
fn with(
    label: &str,
    strategies: &[&str],
    more: &str,
    work: impl FnOnce(&Pair, &mut Site, Miniupnpd) -> Result<()>,
) {
    with_nats(label, [Nat::Symmetric, Nat::Symmetric], strategies, more, work);
}

fn with_nats(
    label: &str,
    nats: [Nat; 2],
    strategies: &[&str],
    more: &str,
    work: impl FnOnce(&Pair, &mut Site, Miniupnpd) -> Result<()>,
) {
    let outcome = Lab::new(label).and_then(|lab| {
        let server = lab.server()?;
        let mut site = lab.site("a", nats[0])?;
        let gateway = site.miniupnpd()?;
        let mut other = lab.site("b", nats[1])?;
        let hosts = [site.host()?, other.host()?];
        server.start()?;
        let wireguards =
            [hosts[0].wireguard([10, 77, 0, 1].into())?, hosts[1].wireguard([10, 77, 0, 2].into())?];
        for (here, there) in [(0, 1), (1, 0)] {
            let there = &wireguards[there];
            wireguards[here].peer(&Peer::new(there.public_key(), &format!("{}/32", there.address())))?;
        }
        let end = |index: usize| {
            let (host, wireguard) = (hosts[index].clone(), wireguards[index].clone());
            let device = wireguard.device();
            let tables = more.replace("DEVICE", device);
            let config = format!("[interface.{device}]\nstrategies = {strategies:?}\n{tables}");
            let config = host.wireplug_config(&wireguard, &server, &config)?;
            Ok::<_, LabError>(End { host, wireguard, config })
        };
        let (a, b) = (end(0)?, end(1)?);
        let pair = Pair { a, b, sites: vec![other], server, lab };
        pair.finish(|pair| work(pair, &mut site, gateway))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Checks that the pair is direct, and that it became so by this strategy: b sends to a's mapping.
fn check_mapped(pair: &Pair, daemons: &[Daemon; 2], strategy: &str, port: u16) -> Result<()> {
    pair.check_direct(daemons)?;
    let status = daemons[1].wait_state(pair.a.wireguard.public_key(), "connected", SOON)?;
    let outside = SocketAddr::new(pair.a.host.public_addresses()[0], port);
    if status.strategy.as_deref() != Some(strategy) || status.endpoint != Some(outside.to_string()) {
        return Err(LabError::unexpected(format!("not {outside} by {strategy}, but {status:?}")));
    }
    Ok(())
}

fn symmetric_becomes_direct(strategy: &str) {
    let strategies = ["direct", "hole-punch", strategy];
    with(&format!("gw-{strategy}"), &strategies, "", |pair, _, gateway| {
        let daemons = pair.connect()?;
        check_mapped(pair, &daemons, strategy, WIREGUARD_PORT)?;
        let rules = gateway.rules()?;
        assert_eq!(rules.len(), 1, "{rules:?}");
        // What was made is taken back on stop.
        daemons[0].process().terminate();
        assert!(daemons[0].process().wait(Duration::from_secs(5))?.success());
        gateway.wait_rules(0, SOON).map(drop)
    });
}

#[test]
fn symmetric_with_nat_pmp_to_symmetric_is_direct() {
    symmetric_becomes_direct("nat-pmp");
}

#[test]
fn symmetric_with_pcp_to_symmetric_is_direct() {
    symmetric_becomes_direct("pcp");
}

#[test]
fn symmetric_with_upnp_igd_to_symmetric_is_direct() {
    symmetric_becomes_direct("upnp-igd");
}

/// One router answers all protocols: one mapping wins, the others are released, and that does not hurt the winner.
#[test]
fn one_of_several_mappings_stays() {
    with("gw-all", &["direct", "hole-punch", "upnp-igd", "nat-pmp", "pcp"], "", |pair, _, gateway| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        // By then all three have asked; who lost lets go soon.
        std::thread::sleep(Duration::from_secs(2));
        gateway.wait_rules(1, SOON)?;
        pair.check_pings(50)?;
        assert_eq!(gateway.rules()?.len(), 1);
        Ok(())
    });
}

/// The router forgets everything under a live tunnel.
#[test]
fn a_restarted_router_is_asked_again() {
    for strategy in ["nat-pmp", "pcp", "upnp-igd"] {
        let strategies = ["direct", "hole-punch", strategy];
        let more = format!("[interface.DEVICE.strategy.{strategy}]\ncheck = \"5s\"\n");
        with(&format!("gw-reboot-{strategy}"), &strategies, &more, |pair, _, mut gateway| {
            let daemons = pair.connect()?;
            check_mapped(pair, &daemons, strategy, WIREGUARD_PORT)?;
            // So old that a restart shows in its seconds.
            std::thread::sleep(Duration::from_secs(4));
            gateway.restart()?;
            gateway.wait_rules(1, Duration::from_secs(15))?;
            pair.check_pings(20)
        });
    }
}

/// kill -9 leaves the mapping; the next start takes it over, and a clean stop removes it.
#[test]
fn a_killed_daemons_mapping_is_found_again() {
    for strategy in ["nat-pmp", "pcp", "upnp-igd"] {
        let strategies = ["direct", "hole-punch", strategy];
        with(&format!("gw-kill-{strategy}"), &strategies, "", |pair, _, gateway| {
            let daemons = pair.connect()?;
            check_mapped(pair, &daemons, strategy, WIREGUARD_PORT)?;
            let [first, _] = daemons;
            first.process().kill();
            assert_eq!(gateway.rules()?.len(), 1, "it is left behind");
            pair.check_pings(20)?;
            let again = pair.a.wireplug()?;
            again.wait_state(pair.b.wireguard.public_key(), "connected", SOON)?;
            let found = format!("candidate found strategy={strategy}");
            wait_for("the mapping to be found again", SOON, || {
                Ok(again.process().log().contains(&found).then_some(()))
            })?;
            assert_eq!(gateway.rules()?.len(), 1, "it is the one from before");
            pair.check_pings(20)?;
            again.process().terminate();
            assert!(again.process().wait(Duration::from_secs(5))?.success());
            gateway.wait_rules(0, SOON).map(drop)
        });
    }
}

/// A router behind another one can map what it likes: that is said, and nothing is offered.
#[test]
fn cgnat_over_a_mapping_router_is_said() {
    for strategy in ["nat-pmp", "pcp", "upnp-igd"] {
        let strategies = ["direct", "hole-punch", strategy];
        let more = format!("[interface.DEVICE.strategy.{strategy}]\nwhen = \"always\"\n");
        let nats = [Nat::Cgnat, Nat::Symmetric];
        with_nats(&format!("gw-cgnat-{strategy}"), nats, &strategies, &more, |pair, _, gateway| {
            let daemon = pair.a.wireplug()?;
            wait_for("the double NAT to be said", SOON, || {
                let log = daemon.process().log();
                Ok((log.contains("double NAT / CGNAT") || log.contains("gives no mapping")).then_some(()))
            })?;
            // What was mapped to find that out is taken back.
            gateway.wait_rules(0, SOON).map(drop)
        });
    }
}

/// Two hosts behind one router want the same port: both are reached.
#[test]
fn two_hosts_with_one_listen_port_get_two_outer_ports() {
    for strategy in ["nat-pmp", "pcp", "upnp-igd"] {
        let strategies = ["direct", "hole-punch", strategy];
        with(&format!("gw-two-{strategy}"), &strategies, "", |pair, site, gateway| {
            let daemons = pair.connect()?;
            check_mapped(pair, &daemons, strategy, WIREGUARD_PORT)?;
            let second = site.host()?;
            let wireguard = second.wireguard([10, 77, 0, 3].into())?;
            let device = wireguard.device();
            let config = format!(
                "[interface.{device}]\nstrategies = [\"{strategy}\"]\n\
                 [interface.{device}.strategy.{strategy}]\nwhen = \"always\"\n"
            );
            let config = second.wireplug_config(&wireguard, &pair.server, &config)?;
            second.wireplug(&wireguard, &config)?;
            let rules = gateway.wait_rules(2, SOON)?;
            for address in [pair.a.host.addresses()[0], second.addresses()[0]] {
                assert!(rules.iter().any(|rule| rule.contains(&address.to_string())), "{rules:?}");
            }
            pair.check_pings(20)
        });
    }
}

/// A protocol opens the firewall for IPv6, which the server sees, and closes it on stop.
fn pinhole_is_opened(strategy: &str) {
    let more = format!("[interface.DEVICE.strategy.{strategy}]\nwhen = \"always\"\n");
    let nats = [Nat::DualStack, Nat::DualStack];
    with_nats(&format!("gw-pinhole-{strategy}"), nats, &[strategy], &more, |pair, _, gateway| {
        let daemon = pair.a.wireplug()?;
        let IpAddr::V6(address) = pair.a.host.addresses()[0] else { panic!("IPv6 comes first") };
        wait_for("the server to see an open pinhole", SOON, || {
            let proven = format!("candidate verified endpoint=[{address}]:{WIREGUARD_PORT} verdict=Open");
            Ok(daemon.process().log().contains(&proven).then_some(()))
        })?;
        assert!(gateway.has_pinhole(address)?);
        daemon.process().terminate();
        assert!(daemon.process().wait(Duration::from_secs(5))?.success());
        wait_for("the pinhole to be closed", SOON, || Ok((!gateway.has_pinhole(address)?).then_some(())))
    });
}

#[test]
fn pcp_opens_a_pinhole_for_ipv6() {
    pinhole_is_opened("pcp");
}

#[test]
fn upnp_igd_opens_a_pinhole_for_ipv6() {
    pinhole_is_opened("upnp-igd");
}

/// A router that hears searches to everybody only, as many do.
#[test]
fn upnp_igd_is_found_by_multicast_alone() {
    with("gw-multicast", &["direct", "hole-punch", "upnp-igd"], "", |pair, site, _| {
        let router = site.router().expect("it is behind one");
        router.nft(
            "table inet deaf { chain in { type filter hook input priority -10; \
             ip daddr != 224.0.0.0/4 udp dport 1900 drop; }; }",
        )?;
        let daemons = pair.connect()?;
        check_mapped(pair, &daemons, "upnp-igd", WIREGUARD_PORT)
    });
}

/// A router that drops what it is asked holds up nothing, and one that refuses neither.
#[test]
fn routers_that_map_nothing_do_not_hold_up_the_first_connect() {
    let strategies = ["direct", "hole-punch", "nat-pmp", "pcp"];
    let more = "[interface.DEVICE.strategy.nat-pmp]\nwhen = \"always\"\n\
        [interface.DEVICE.strategy.pcp]\nwhen = \"always\"\n";
    let nats = [Nat::PortPreserving, Nat::PortPreserving];
    with_nats("gw-silent", nats, &strategies, more, |pair, site, _| {
        let router = site.router().expect("it is behind one");
        router.nft(
            "table inet deaf { chain in { type filter hook input priority -10; udp dport 5351 drop; }; }",
        )?;
        let time = pair.measure_connect(Duration::ZERO, false)?;
        assert!(time < Duration::from_secs(2), "{time:?}");
        Ok(())
    });
}
