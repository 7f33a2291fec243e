//! Time passes, things happen, and it is watched whether the two hear each other.

use std::collections::BTreeMap;
use std::fmt;

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::scheduler::State;
use wireplug_sim::oracle::{Possible, direct_path};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::server::Relaying;
use wireplug_sim::site::Shared;
use wireplug_sim::world::{Cut, Service, World};
use wireplug_sim::{Chance, Time, secs};

use crate::events::{Event, Mend};

/// How long a pair that could be connected may be without a tunnel.
const LONGEST: Time = secs(30);

/// A pair that could be connected was not.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) began: Time,
    at: Time,
    host: usize,
    after: String,
    status: String,
}

/// A world that things happen to.
pub(crate) struct Month {
    pub(crate) world: World,
    pub(crate) chance: Chance,
    pub(crate) relays: bool,
    pub(crate) cut: Cut,
    /// What ends by itself, and when.
    mends: BTreeMap<(Time, u64), Mend>,
    number: u64,
    next_event: Time,
    next_traffic: [Time; 2],
    traffic: [bool; 2],
    /// The last thing that may have broken the tunnel, and when.
    disturbed: (Time, String),
    /// Since when traffic is under way.
    asked: [Time; 2],
    /// Since when all is there that a tunnel needs.
    able: Option<Time>,
    /// The tunnel worked and nothing has happened to it since.
    settled: bool,
    happened: u32,
    worst: Time,
    watched: Time,
    direct: Time,
}

impl Month {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            world: World::new(scenario, false),
            chance: Chance::seed_from_u64(scenario.seed ^ 0x0050_a400),
            relays: scenario.relaying == Relaying::On,
            cut: Cut::Nothing,
            mends: BTreeMap::new(),
            number: 0,
            next_event: secs(60),
            next_traffic: [secs(5), secs(20)],
            traffic: [false; 2],
            disturbed: (scenario.both_run(), "the start".to_owned()),
            asked: [Time::ZERO; 2],
            able: None,
            settled: false,
            happened: 0,
            worst: Time::ZERO,
            watched: Time::ZERO,
            direct: Time::ZERO,
        }
    }

    pub(crate) fn keep_from(&mut self, from: Time) {
        self.world.trace_from(from);
    }

    pub(crate) fn trace(&self) -> &str {
        self.world.trace()
    }

    /// What happened, in a line.
    pub(crate) fn told(&self) -> String {
        format!(
            "{} events, {:?} of traffic watched, {} % of it direct, the longest outage {:?}",
            self.happened,
            self.watched,
            100 * self.direct.as_secs() / self.watched.as_secs().max(1),
            self.worst,
        )
    }

    pub(crate) fn play(&mut self, time: Time) -> Result<(), Violation> {
        while self.world.now() < time {
            let mend = self.mends.first_key_value().map(|((at, _), _)| *at);
            let mut next = self.next_event.min(self.next_traffic[0]).min(self.next_traffic[1]).min(time);
            next = next.min(mend.unwrap_or(next));
            if self.traffic.contains(&true) || self.able.is_none() {
                next = next.min(self.world.now() + secs(1));
            }
            self.world.run_until(next);
            self.judge()?;
            self.happen();
        }
        Ok(())
    }

    /// Lets happen what is due.
    fn happen(&mut self) {
        let now = self.world.now();
        while let Some(entry) = self.mends.first_entry().filter(|entry| entry.key().0 <= now) {
            let mend = entry.remove();
            mend.perform(self);
            if !matches!(mend, Mend::Server | Mend::Daemon(_)) {
                self.disturb(format!("{mend:?}"));
            }
        }
        for host in 0..2 {
            if self.next_traffic[host] <= now {
                self.turn_traffic(host);
            }
        }
        if self.next_event <= now {
            self.next_event = now + self.draw_gap(1200);
            let event = Event::draw(self);
            let said = format!("{event:?}");
            if event.perform(self) {
                self.happened += 1;
                self.disturb(said);
            }
        }
    }

    fn disturb(&mut self, what: String) {
        self.disturbed = (self.world.now(), what);
        self.settled = false;
    }

    fn turn_traffic(&mut self, host: usize) {
        let now = self.world.now();
        self.traffic[host] = !self.traffic[host];
        let mean = if self.traffic[host] { 900 } else { 3600 };
        self.next_traffic[host] = now + self.draw_gap(mean);
        let every = if self.chance.random() { 1000 } else { self.chance.random_range(300..1000) };
        self.world.ping_every(host, self.traffic[host].then_some(Time::from_millis(every)));
        self.asked[host] = now;
    }

    /// A time with this mean, in seconds; short ones are frequent.
    pub(crate) fn draw_gap(&mut self, mean: u32) -> Time {
        let part: f64 = self.chance.random_range(f64::EPSILON..1.0);
        secs(1) + Time::from_secs_f64(f64::from(mean) * -part.ln())
    }

    /// Something ends by itself after this time.
    pub(crate) fn later(&mut self, after: Time, mend: Mend) {
        self.number += 1;
        self.mends.insert((self.world.now() + after, self.number), mend);
    }

    /// Whether something of this kind is still to end.
    pub(crate) fn awaits(&self, of: impl Fn(&Mend) -> bool) -> bool {
        self.mends.values().any(of)
    }

    /// Whether two daemons that do all right would have a tunnel by and by.
    fn is_able(&self) -> bool {
        let ready = |index: usize| {
            let host = self.world.host(index);
            host.is_connected() && !host.is_asleep() && !host.addresses().is_empty()
        };
        // WireGuard begins a handshake anew after 5 s, and takes no answer to the one before: a relay must be quicker.
        let (serves, relays) = match self.world.service() {
            Service::Runs => (true, self.relays),
            Service::Slow(by) => (true, self.relays && by < secs(2)),
            _ => (false, false),
        };
        let [one, other] = [0, 1].map(|index| self.world.site(index));
        let direct = self.cut == Cut::Nothing && direct_path(&one, &other, Shared::Nothing) == Possible::Yes;
        // Where both clocks were set back, WireGuard itself makes no session until they have caught up.
        let session = self.world.may_initiate(0) || self.world.may_initiate(1);
        serves && session && ready(0) && ready(1) && (relays || direct)
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let now = self.world.now();
        self.able = self.is_able().then(|| self.able.unwrap_or(now));
        let said = [0, 1].map(|index| self.world.status(index).map(|status| status.state));
        let direct = said == [Some(State::Connected); 2];
        let able = match self.able {
            Some(since) => since,
            // Who needs nobody goes on without anybody.
            None if self.settled => self.disturbed.0,
            None => return Ok(()),
        };
        let mut heard = true;
        for host in (0..2).filter(|host| self.traffic[*host]) {
            let last = self.world.host(host).last_pong().unwrap_or_default();
            let began = last.max(able).max(self.asked[host]).max(self.disturbed.0);
            let outage = now.saturating_sub(began);
            self.worst = self.worst.max(outage);
            heard &= last + secs(3) > now;
            if outage > LONGEST {
                let status =
                    [0, 1].map(|i| format!("host {i}: {}\n{:?}", self.world.site(i), self.world.status(i)));
                let status = status.join("\n");
                let after = format!("{} at {:?}", self.disturbed.1, self.disturbed.0);
                return Err(Violation { began, at: now, host, after, status });
            }
        }
        if self.traffic.contains(&true) {
            self.watched += secs(1);
            self.direct += if direct { secs(1) } else { Time::ZERO };
            self.settled = direct && (self.settled || heard && self.able.is_some());
        }
        Ok(())
    }

    /// What happened concerns only those who help: a tunnel that works goes on.
    pub(crate) fn spare(&mut self, event: impl FnOnce(&mut Self)) -> bool {
        event(self);
        self.happened += 1;
        false
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { began, at, host, after, status } = self;
        write!(f, "host {host} hears nothing from {began:?} to {at:?}, after {after}:\n{status}")
    }
}
