//! Two peers, each behind its own NAT, and the server: what the matrix, the demo and the bench run.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::binaries::Binaries;
use crate::cmd::patient;
use crate::daemon::Daemon;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::internet::BLACKHOLE;
use crate::lab::Lab;
use crate::line::Line;
use crate::nat::Nat;
use crate::ping::{Ping, Pinging, Pings};
use crate::server::Server;
use crate::site::Site;
use crate::wireguard::{Peer, Wireguard, wireguard_at};

/// How long a tunnel may take to carry its first ping. Generous: it is no measure of speed.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// How long the first daemon has before the second starts where that is measured: it has found its candidates by then.
pub const SETTLE: Duration = Duration::from_secs(2);

/// How long a measurement waits for its first ping: WireGuard's limiter alone may cost several times 5 s.
const MEASURE_LIMIT: Duration = Duration::from_secs(60);

/// How much later than on the first side traffic begins on the second. Two wireguard-go repeat their handshakes in
/// the same rhythm (their jitter is not random); begun at once, their initiations would cross for ever.
const OUT_OF_STEP: Duration = Duration::from_millis(700);

/// How the pair's WireGuard is set up before any daemon runs.
#[derive(Clone, Debug, Default)]
pub struct PairOptions {
    /// `PersistentKeepalive` of both, in seconds, set by the person.
    pub keepalive: Option<u16>,
    /// Both have an endpoint where nobody answers.
    pub stale_endpoints: bool,
    /// Each side's line to the internet, where it is not a perfect one.
    pub lines: [Option<Line>; 2],
    /// Every packet takes this much longer to cross the internet.
    pub one_way_delay: Option<Duration>,
    /// The daemons know the server by its name, which has addresses of both families.
    pub server_by_name: bool,
    /// What the server's configuration says besides.
    pub server_config: String,
    /// What each side's configuration says besides; `DEVICE` stands for the interface there.
    pub configs: [String; 2],
    /// Where the product's programs are; beside the running executable if not given.
    pub binaries: Option<Binaries>,
}

impl PairOptions {
    /// With a round-trip time between any two hosts, in milliseconds; 0 adds nothing.
    pub fn with_round_trip(milliseconds: u64) -> Self {
        let one_way_delay = (milliseconds > 0).then(|| Duration::from_micros(milliseconds * 1000 / 2));
        Self { one_way_delay, ..Self::default() }
    }
}

/// One side.
#[derive(Clone, Debug)]
pub struct End {
    /// Its computer.
    pub host: Host,
    /// Its WireGuard interface, which knows the other side as its only peer.
    pub wireguard: Wireguard,
    /// The daemon's configuration.
    pub config: PathBuf,
}

/// The two sides, the server, and the lab that they are in.
#[derive(Debug)]
pub struct Pair {
    /// The first side.
    pub a: End,
    /// The second side.
    pub b: End,
    /// Where they are: each has its own, or both have one.
    pub sites: Vec<Site>,
    /// The server, running.
    pub server: Server,
    /// Dropping this ends everything.
    pub lab: Lab,
}

impl Pair {
    /// Sets up the lab with a running server and two WireGuard peers that know nothing of each other's place.
    ///
    /// # Errors
    /// When something cannot be set up.
    pub fn new(label: &str, nats: [Nat; 2], options: &PairOptions) -> Result<Self> {
        Self::in_new_lab(label, options, |lab| {
            let mut sites = vec![lab.site("a", nats[0])?, lab.site("b", nats[1])?];
            let hosts = [sites[0].host()?, sites[1].host()?];
            Ok((sites, hosts))
        })
    }

    /// As [`Self::new`], with both peers on the LAN behind one router.
    ///
    /// # Errors
    /// When something cannot be set up.
    pub fn neighbours(label: &str, nat: Nat, options: &PairOptions) -> Result<Self> {
        Self::in_new_lab(label, options, |lab| {
            let mut site = lab.site("a", nat)?;
            let hosts = [site.host()?, site.host()?];
            Ok((vec![site], hosts))
        })
    }

    /// Runs `work` in a new pair; its error prints the lab's digest.
    ///
    /// # Errors
    /// Those of [`Self::new`] and of `work`.
    pub fn with<T>(
        label: &str,
        nats: [Nat; 2],
        options: &PairOptions,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        Self::new(label, nats, options)?.finish(work)
    }

    /// Runs `work`; its error prints the lab's digest.
    ///
    /// # Errors
    /// That of `work`.
    pub fn finish<T>(self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.finish_mut(|pair| work(pair))
    }

    /// As [`Self::finish`], where `work` moves hosts or makes interfaces anew.
    ///
    /// # Errors
    /// That of `work`.
    pub fn finish_mut<T>(mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let result = work(&mut self);
        if let Err(error) = &result {
            self.lab.fail(&error.to_string());
        }
        result
    }

    fn in_new_lab(
        label: &str,
        options: &PairOptions,
        place: impl FnOnce(&Lab) -> Result<(Vec<Site>, [Host; 2])>,
    ) -> Result<Self> {
        let lab = match &options.binaries {
            Some(binaries) => Lab::with_binaries(label, binaries.clone())?,
            None => Lab::new(label)?,
        };
        match Self::build(&lab, options, place) {
            Ok((server, sites, [a, b])) => Ok(Self { a, b, sites, server, lab }),
            Err(error) => {
                lab.fail(&error.to_string());
                Err(error)
            }
        }
    }

    fn build(
        lab: &Lab,
        options: &PairOptions,
        place: impl FnOnce(&Lab) -> Result<(Vec<Site>, [Host; 2])>,
    ) -> Result<(Server, Vec<Site>, [End; 2])> {
        let server = lab.server()?;
        let (sites, [host_a, host_b]) = place(lab)?;
        if let Some(one_way) = options.one_way_delay {
            lab.delay(one_way)?;
        }
        for (site, line) in sites.iter().zip(options.lines) {
            line.map_or(Ok(()), |line| site.line(line))?;
        }
        server.add_config(&options.server_config)?;
        server.start()?;
        let wg_a = host_a.wireguard([10, 77, 0, 1].into())?;
        let wg_b = host_b.wireguard([10, 77, 0, 2].into())?;
        for (here, there) in [(&wg_a, &wg_b), (&wg_b, &wg_a)] {
            here.peer(&Peer {
                public_key: there.public_key(),
                allowed_ips: &format!("{}/32", there.address()),
                endpoint: options.stale_endpoints.then(|| wireguard_at(BLACKHOLE.into())),
                keepalive: options.keepalive,
            })?;
        }
        let config = |host: &Host, here: &Wireguard, there: &Wireguard, name: &str, more: &str| {
            // Named, so that logs can be read.
            let peer = format!(
                "[interface.{}.peer.\"{}\"]
name = \"{name}\"
",
                here.device(),
                there.public_key()
            );
            let more = more.replace("DEVICE", here.device());
            if options.server_by_name {
                host.knows(&server)?;
                host.wireplug_config_at(&Server::url_by_name(), here, &server, &(peer + &more))
            } else {
                host.wireplug_config(here, &server, &(peer + &more))
            }
        };
        let config_a = config(&host_a, &wg_a, &wg_b, host_b.label(), &options.configs[0])?;
        let config_b = config(&host_b, &wg_b, &wg_a, host_a.label(), &options.configs[1])?;
        let a = End { host: host_a, wireguard: wg_a, config: config_a };
        let b = End { host: host_b, wireguard: wg_b, config: config_b };
        Ok((server, sites, [a, b]))
    }

    /// Both sides, each with its other.
    pub fn both_ways(&self) -> [(&End, &End); 2] {
        [(&self.a, &self.b), (&self.b, &self.a)]
    }

    /// Starts both daemons and pings from `a` until the first answer. Returns the daemons of `a` and `b`.
    ///
    /// # Errors
    /// When nothing answers within [`CONNECT_LIMIT`].
    pub fn connect(&self) -> Result<[Daemon; 2]> {
        let ping = Ping::fast(self.b.wireguard.address(), pings_in(CONNECT_LIMIT));
        let pinging = self.a.host.ping_until_answered(ping, Some(&self.a.wireguard))?;
        let daemons = [self.a.wireplug()?, self.b.wireplug()?];
        first_answer(&pinging.wait()?, CONNECT_LIMIT)?;
        Ok(daemons)
    }

    /// Measures the time from the second daemon's start to the first answered ping. The first one has
    /// had `settle` to find its candidates. With `traffic`, both sides ping from the beginning; without,
    /// only `a` does, and only while its WireGuard has an endpoint.
    ///
    /// # Errors
    /// When nothing answers within a minute.
    pub fn measure_connect(&self, settle: Duration, traffic: bool) -> Result<Duration> {
        self.a.wireplug()?;
        let gate = (!traffic).then_some(&self.a.wireguard);
        let ping = Ping::fast(self.b.wireguard.address(), pings_in(settle + MEASURE_LIMIT));
        let pinging = self.a.host.ping_until_answered(ping, gate)?;
        thread::sleep(OUT_OF_STEP);
        let back = Ping { to: self.a.wireguard.address().into(), ..ping };
        let pinging_back = traffic.then(|| self.b.host.ping_until_answered(back, None)).transpose()?;
        thread::sleep(settle.saturating_sub(OUT_OF_STEP));
        let second = self.b.wireplug()?;
        let pings = pinging.wait()?;
        pinging_back.map(Pinging::stop).transpose()?;
        first_answer(&pings, MEASURE_LIMIT)?
            .duration_since(second.process().started())
            .map_err(|_| LabError::unexpected("a ping was answered before the second daemon was started"))
    }

    /// As [`Self::measure_connect`] without traffic, giving the daemons and the time of the first answer.
    ///
    /// # Errors
    /// When nothing answers within a minute.
    pub fn connect_measured(&self, settle: Duration) -> Result<([Daemon; 2], SystemTime)> {
        let first = self.a.wireplug()?;
        let ping = Ping::fast(self.b.wireguard.address(), pings_in(settle + MEASURE_LIMIT));
        let pinging = self.a.host.ping_until_answered(ping, Some(&self.a.wireguard))?;
        thread::sleep(settle);
        let second = self.b.wireplug()?;
        Ok(([first, second], first_answer(&pinging.wait()?, MEASURE_LIMIT)?))
    }

    /// Whether WireGuard on both sides sends, and not to the server.
    pub fn is_direct(&self) -> bool {
        self.both_ways().into_iter().all(|(here, _)| {
            let endpoint = here.wireguard.first_endpoint();
            endpoint.is_some_and(|at| !at.ip().is_loopback() && !self.server.is_relay(at))
        })
    }

    /// Pings from `a` until the first answer, at most `limit` long; gives its time.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn wait_for_ping(&self, limit: Duration) -> Result<SystemTime> {
        let ping = Ping::fast(self.b.wireguard.address(), pings_in(limit));
        let pings = self.a.host.ping_until_answered(ping, Some(&self.a.wireguard))?.wait()?;
        first_answer(&pings, limit)
    }
}

impl End {
    /// Takes the other side's endpoint away, as after a restart of the interface: the peer is removed and added again.
    ///
    /// # Errors
    /// When `wg` refuses.
    pub fn forget_endpoint(&self, there: &Self) -> Result<()> {
        let key = there.wireguard.public_key();
        self.wireguard.set(&["peer", key, "remove"])?;
        self.wireguard.peer(&Peer::new(key, &format!("{}/32", there.wireguard.address())))
    }

    /// Starts this side's daemon.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wireplug(&self) -> Result<Daemon> {
        self.host.wireplug(&self.wireguard, &self.config)
    }
}

fn first_answer(pings: &Pings, limit: Duration) -> Result<SystemTime> {
    pings.first_answer().ok_or_else(|| LabError::Timeout {
        what: format!("a ping through the tunnel to be answered ({} were sent)", pings.sent),
        after: limit,
    })
}

/// How many pings at 10 ms fill a time, or more on a slow machine.
fn pings_in(time: Duration) -> u16 {
    u16::try_from(patient(time).as_millis() / 10).unwrap_or(u16::MAX)
}
