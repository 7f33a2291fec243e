//! `wireplug strategies` beside real routers: what each strategy found, with evidence, or why it found nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use wireplug_lab::{
    Binaries, Daemon, Host, Lab, LabError, Nat, Peer, Result, WIREGUARD_PORT, Wireguard, wait_for,
};

/// How long a daemon may take to say something that it knows.
const SOON: Duration = Duration::from_secs(10);
/// Some peer, which is not there.
const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

/// A host with a daemon that runs these strategies, behind a symmetric NAT whose router may have miniupnpd.
struct Asked {
    host: Host,
    wireguard: Wireguard,
    daemon: Daemon,
}

fn with(label: &str, maps: bool, config: &str, work: impl FnOnce(&Asked) -> Result<()>) {
    Lab::with(label, |lab| {
        let server = lab.server()?;
        let mut site = lab.site("a", Nat::Symmetric)?;
        let gateway = maps.then(|| site.miniupnpd()).transpose()?;
        let host = site.host()?;
        server.start()?;
        let wireguard = host.wireguard([10, 77, 0, 1].into())?;
        wireguard.peer(&Peer::new(PEER, "10.77.0.2/32"))?;
        let config =
            host.wireplug_config(&wireguard, &server, &config.replace("DEVICE", wireguard.device()))?;
        let daemon = host.wireplug(&wireguard, &config)?;
        work(&Asked { host, wireguard, daemon })?;
        drop(gateway);
        Ok(())
    })
    .unwrap();
}

impl Asked {
    /// What `wireplug strategies` prints.
    fn strategies(&self, arguments: &[&str]) -> Result<String> {
        let program = Binaries::find()?.path("wireplug")?.display().to_string();
        self.host.run(&[&[program.as_str(), "strategies"], arguments].concat())
    }

    /// How it goes with one strategy on the interface.
    fn one(&self, name: &str) -> Result<Value> {
        let text = self.strategies(&[self.wireguard.device(), "--json"])?;
        let all: Vec<Value> = serde_json::from_str(&text)
            .map_err(|_| LabError::Parse { what: "an array in `wireplug strategies --json`", text })?;
        let one = all.into_iter().find(|one| one["name"] == name);
        one.map(|one| one["interfaces"][0].clone())
            .ok_or_else(|| LabError::unexpected(format!("{name} is not listed")))
    }

    /// Waits until one strategy says what is asked for.
    fn wait(&self, name: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let result = wait_for("what a strategy says", SOON, || {
            if self.daemon.status()?.is_none() {
                return Ok(None); // it does not listen yet
            }
            last = self.one(name)?;
            Ok(is(&last).then(|| last.clone()))
        });
        result.map_err(|error| LabError::unexpected(format!("{error}; last: {last:#}")))
    }
}

/// The router's address, where the host's packets leave by.
fn router(host: &Host) -> Result<IpAddr> {
    let route = host.run(&["ip", "-4", "route", "show", "default"])?;
    let address = route.split_whitespace().nth(2).and_then(|word| word.parse().ok());
    address.ok_or_else(|| LabError::unexpected(format!("no router in {route:?}")))
}

#[test]
fn a_mapping_is_shown_with_router_protocol_address_lease_and_proof() {
    for (strategy, protocol) in [("pcp", "PCP 2"), ("nat-pmp", "NAT-PMP"), ("upnp-igd", "UPnP IGD ")] {
        let config = format!(
            "[interface.DEVICE]\nstrategies = [\"hole-punch\", \"{strategy}\"]\n\
             [interface.DEVICE.strategy.{strategy}]\nwhen = \"always\"\nlease = \"30m\"\n\
             [interface.DEVICE.peer.\"{PEER}\"]\nname = \"nas\"\nstrategies = [\"hole-punch\"]\n"
        );
        with(&format!("strategies-{strategy}"), true, &config, |asked| {
            let one = asked.wait(strategy, |one| one["found"][0]["verdict"] == "open")?;
            let outside = SocketAddr::new(asked.host.public_addresses()[0], WIREGUARD_PORT);
            let inside = SocketAddr::new(asked.host.addresses()[0], WIREGUARD_PORT);
            let gateway = router(&asked.host)?.to_string();
            assert_eq!(
                (&one["enabled"], &one["rank"], &one["state"]),
                (&true.into(), &2.into(), &"running".into())
            );
            assert_eq!((&one["starts"], &one["failures"]), (&1.into(), &0.into()));
            assert_eq!(one["options"]["lease"], "30m");
            assert_eq!(one["peers"][0]["name"], "nas");
            assert_eq!(one["peers"][0]["enabled"], false);
            let found = &one["found"][0];
            assert_eq!(found["endpoint"], outside.to_string(), "{found:#}");
            assert_eq!(found["facts"]["gateway"], gateway, "{found:#}");
            assert_eq!(found["facts"]["inside"], inside.to_string(), "{found:#}");
            assert!(found["facts"]["protocol"].as_str().unwrap().starts_with(protocol), "{found:#}");
            assert!((1700..=1800).contains(&found["left_s"].as_u64().unwrap()), "{found:#}");

            let punch = asked.wait("hole-punch", |one| one["nat"] == "destination-dependent")?;
            assert_eq!(punch["peers"][0]["rank"], 1);
            let lan = asked.one("lan-mdns")?;
            assert_eq!((&lan["enabled"], &lan["state"]), (&false.into(), &"off".into()));

            let text = asked.strategies(&[])?;
            for words in [&*format!("{outside} open"), &gateway, "29 min left", "for nas: not enabled"] {
                assert!(text.contains(words), "{words:?} is not in:\n{text}");
            }
            Ok(())
        });
    }
}

#[test]
fn a_router_that_maps_nothing_is_named() {
    let config = "[interface.DEVICE]\nstrategies = [\"direct\", \"nat-pmp\"]\n\
        [interface.DEVICE.strategy.nat-pmp]\nwhen = \"always\"\n";
    with("strategies-none", false, config, |asked| {
        let one = asked.wait("nat-pmp", |one| !one["note"].is_null())?;
        let (note, gateway) = (one["note"]["text"].as_str().unwrap(), router(&asked.host)?.to_string());
        assert!(note.contains(&gateway) && note.contains("NAT-PMP"), "{note}");
        assert_eq!(one["found"], serde_json::json!([]));
        assert!(asked.strategies(&[asked.wireguard.device()])?.contains(note));
        Ok(())
    });
}
