//! Two peers on one LAN behind one router that does not hairpin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use wireplug_lab::{
    Daemon, Host, Lab, LabError, Nat, Peer, Ping, Result, Server, Site, WIREGUARD_PORT, Wireguard, wait_for,
};

/// How long the tunnel may take to carry its first ping.
const CONNECT: Duration = Duration::from_secs(15);

/// How long a tunnel may take to follow a host that roams, of which nobody tells the other side.
const ROAM: Duration = Duration::from_secs(40);

/// One side.
struct End {
    host: Host,
    wireguard: Wireguard,
    config: PathBuf,
}

/// Two hosts on one LAN.
struct Lan {
    a: End,
    b: End,
    site: Site,
    server: Server,
}

impl Lan {
    fn with(label: &str, nat: Nat, work: impl FnOnce(&Lab, &mut Self) -> Result<()>) {
        Lab::with(label, |lab| work(lab, &mut Self::new(lab, nat)?)).unwrap();
    }

    /// With a server that does not run yet.
    fn new(lab: &Lab, nat: Nat) -> Result<Self> {
        let server = lab.server()?;
        let mut site = lab.site("lan", nat)?;
        let hosts = [site.host()?, site.host()?];
        let wireguards =
            [hosts[0].wireguard([10, 77, 0, 1].into())?, hosts[1].wireguard([10, 77, 0, 2].into())?];
        let mut ends = Vec::new();
        for (here, there, host) in [(0, 1, &hosts[0]), (1, 0, &hosts[1])] {
            let (here, there) = (&wireguards[here], &wireguards[there]);
            here.peer(&Peer::new(there.public_key(), &format!("{}/32", there.address())))?;
            let config = host.wireplug_config(here, &server, "")?;
            ends.push(End { host: host.clone(), wireguard: here.clone(), config });
        }
        let b = ends.remove(1);
        Ok(Self { a: ends.remove(0), b, site, server })
    }

    fn connect(&self) -> Result<[Daemon; 2]> {
        let daemons = [self.a.wireplug()?, self.b.wireplug()?];
        self.ping(CONNECT)?;
        Ok(daemons)
    }

    fn ping(&self, limit: Duration) -> Result<()> {
        wait_for("a ping through the tunnel", limit, || {
            let pings = self.a.host.ping(Ping::fast(self.b.wireguard.address(), 5))?;
            Ok((!pings.answers.is_empty()).then_some(()))
        })
    }

    /// Both sides send straight to each other, and say that lan-mdns found the way.
    fn check_neighbours(&self, daemons: &[Daemon; 2]) -> Result<()> {
        for (daemon, here, there) in [(&daemons[0], &self.a, &self.b), (&daemons[1], &self.b, &self.a)] {
            let on_lan = |endpoint: SocketAddr| {
                endpoint.port() == WIREGUARD_PORT && there.host.addresses().contains(&endpoint.ip())
            };
            wait_for("an endpoint on the LAN and the status that says so", CONNECT, || {
                let endpoint = here.wireguard.endpoint(there.wireguard.public_key())?;
                let Some(status) = daemon.peer(there.wireguard.public_key())? else { return Ok(None) };
                let strategy = status.strategy.as_deref();
                let fits = status.state == "connected" && strategy == Some("lan-mdns") && status.proven;
                Ok((endpoint.is_some_and(on_lan) && fits).then_some(()))
            })?;
        }
        Ok(())
    }
}

impl End {
    fn wireplug(&self) -> Result<Daemon> {
        self.host.wireplug(&self.wireguard, &self.config)
    }
}

#[test]
fn neighbours_find_each_other() {
    Lan::with("lan", Nat::PortPreserving, |_, lan| {
        lan.server.start()?;
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)
    });
}

#[test]
fn neighbours_find_each_other_without_a_server() {
    Lan::with("lan-alone", Nat::PortPreserving, |_, lan| {
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)
    });
}

#[test]
fn neighbours_find_each_other_over_ipv6() {
    Lan::with("lan-ipv6", Nat::Ipv6Firewall, |_, lan| {
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)
    });
}

/// The first one has given up and rests; it hears the second come.
#[test]
fn a_neighbour_that_comes_late_is_found_at_once() {
    Lan::with("lan-late", Nat::PortPreserving, |_, lan| {
        let first = lan.a.wireplug()?;
        first.wait_state(lan.b.wireguard.public_key(), "unreachable", CONNECT)?;
        let second = lan.b.wireplug()?;
        lan.ping(Duration::from_secs(5))?;
        lan.check_neighbours(&[first, second])
    });
}

#[test]
fn isolated_neighbours_say_that_they_are_unreachable() {
    Lan::with("lan-isolated", Nat::PortPreserving, |_, lan| {
        lan.site.isolate()?;
        lan.server.start()?;
        let daemons = [lan.a.wireplug()?, lan.b.wireplug()?];
        for (daemon, here, there) in [(&daemons[0], &lan.a, &lan.b), (&daemons[1], &lan.b, &lan.a)] {
            let status =
                daemon.wait_state(there.wireguard.public_key(), "unreachable", Duration::from_secs(45))?;
            assert!(status.reason.is_some_and(|reason| !reason.is_empty()));
            assert_eq!(here.wireguard.endpoint(there.wireguard.public_key())?, None, "nothing was proven");
        }
        Ok(())
    });
}

/// A public host and one behind a NAT, as soon as one has left the LAN.
#[test]
fn the_path_is_left_when_one_roams_away_and_taken_again_by_others() {
    Lan::with("lan-roam", Nat::PortPreserving, |_, lan| {
        lan.server.start()?;
        let daemons = lan.connect()?;
        lan.check_neighbours(&daemons)?;
        let moved = lan.b.host.roam_to_internet()?;
        let public = SocketAddr::new(moved.v4()?.into(), WIREGUARD_PORT);
        lan.ping(ROAM)?;
        wait_for("the public endpoint", CONNECT, || {
            let endpoint = lan.a.wireguard.endpoint(lan.b.wireguard.public_key())?;
            Ok((endpoint == Some(public)).then_some(()))
        })?;
        let status = daemons[0].wait_state(lan.b.wireguard.public_key(), "connected", CONNECT)?;
        if status.strategy.as_deref() == Some("lan-mdns") {
            return Err(LabError::unexpected(format!("the LAN path is still said to be in use: {status:?}")));
        }
        Ok(())
    });
}
