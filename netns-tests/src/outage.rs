//! How long a tunnel stands still when something happens to its network.

use std::time::{Duration, Instant};

use crate::cmd::{patient, wait_for};
use crate::daemon::Daemon;
use crate::error::{LabError, Result};
use crate::pair::Pair;
use crate::ping::Ping;

/// The time from one ping to the next: how fine an outage is measured.
const TICK: Duration = Duration::from_millis(10);

/// How long daemons may take to have nothing more to do for a tunnel that works.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// How long a tunnel is pinged before something happens, and after all is well again: what came late would show.
const BEFORE: Duration = Duration::from_millis(200);
const AFTER: Duration = Duration::from_millis(1000);

/// How often WireGuard is asked where it sends.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a tunnel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// Straight from one side to the other.
    Direct,
    /// Over the server's relay.
    Relayed,
}

/// What became of a tunnel after something happened.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// For how long no ping was answered, all gaps together.
    pub silent: Duration,
    /// When it ran as it should, counted from when it happened.
    pub arrived: Duration,
    /// Whether it was carried by the relay at some time before.
    pub by_relay: bool,
}

impl Pair {
    /// Waits until neither daemon does anything any more for the tunnel: both have closed the shared port.
    ///
    /// # Errors
    /// When one does not in half a minute.
    pub fn settle(&self, daemons: &[Daemon; 2]) -> Result<()> {
        wait_for("both daemons to be settled", SETTLED_WITHIN, || {
            Ok(daemons.iter().all(|daemon| !daemon.raw_socket_open()).then_some(()))
        })
    }

    /// Has something happen while `a` pings `b` each 10 ms, or the other way round if `backwards`, and waits, at most
    /// `limit` long, until both sides' WireGuard send where the pair belongs from then on.
    ///
    /// # Errors
    /// That of `happens`; when the pair does not get where it belongs.
    pub fn outage(
        &mut self,
        backwards: bool,
        belongs: Track,
        limit: Duration,
        happens: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Outage> {
        let (here, there) = if backwards { (&self.b, &self.a) } else { (&self.a, &self.b) };
        let to = there.wireguard.address().into();
        let ping = Ping { to, count: u16::MAX, interval: TICK, linger: patient(Duration::from_secs(1)) };
        let pinging = here.host.keep_pinging(ping)?;
        std::thread::sleep(BEFORE);
        let began = Instant::now();
        happens(self)?;
        let sent = pinging.sent();
        let mut by_relay = false;
        let arrived = loop {
            let track = self.track();
            by_relay |= track == Some(Track::Relayed);
            if track == Some(belongs) && pinging.is_answered_after(sent) {
                break began.elapsed();
            }
            if began.elapsed() > patient(limit) {
                return Err(LabError::Timeout {
                    what: format!("{belongs:?} endpoints on both sides; they are {:?}", self.endpoints()),
                    after: limit,
                });
            }
            std::thread::sleep(LOOK_EVERY);
        };
        std::thread::sleep(AFTER);
        let pings = pinging.stop()?;
        let lost = u32::try_from(pings.lost()).unwrap_or(u32::MAX);
        Ok(Outage { silent: TICK * lost, arrived, by_relay: by_relay && belongs == Track::Direct })
    }

    fn endpoints(&self) -> [Option<std::net::SocketAddr>; 2] {
        [&self.a, &self.b].map(|end| end.wireguard.first_endpoint())
    }

    /// Where both sides send; none while they differ, or one sends where the other is not.
    fn track(&self) -> Option<Track> {
        let [a, b] = self.endpoints();
        let (a, b) = (a?, b?);
        let relayed = [a, b].map(|endpoint| self.server.is_relay(endpoint) || endpoint.ip().is_loopback());
        let straight = self.b.host.public_addresses().contains(&a.ip())
            && self.a.host.public_addresses().contains(&b.ip());
        match relayed {
            [true, true] => Some(Track::Relayed),
            [false, false] if straight => Some(Track::Direct),
            _ => None,
        }
    }
}
