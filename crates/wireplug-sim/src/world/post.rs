//! The connections between daemons and server: in order, without loss, a little late.

use std::collections::BTreeMap;

use rand::RngExt as _;

use crate::link::Link;
use crate::server::{FromServer, ToServer};
use crate::{Chance, Time, ms};

/// A message and the end that it goes to, by the number of the daemon's host.
#[derive(Debug)]
pub(super) enum To {
    Server(usize, ToServer),
    Daemon(usize, FromServer),
}

/// Everything that is under way.
#[derive(Debug, Default)]
pub(super) struct Post {
    queue: BTreeMap<(Time, u64), To>,
    sequence: u64,
    /// The last arrival of each direction: nothing overtakes it.
    last: BTreeMap<(usize, bool), Time>,
}

/// What a lost segment costs TCP at least (RFC 6298 section 2.4 says 1 s, Linux does 200 ms).
const RETRANSMISSION: Time = ms(200);

impl Post {
    pub(super) fn send(&mut self, now: Time, line: Link, chance: &mut Chance, to: To) {
        let lost = line.loss > 0 && chance.random_ratio(line.loss, 1000);
        let delay = line.latency + if lost { RETRANSMISSION + 2 * line.latency } else { Time::ZERO };
        let direction = match &to {
            To::Server(index, _) => (*index, true),
            To::Daemon(index, _) => (*index, false),
        };
        let before = self.last.entry(direction).or_default();
        let at = (now + delay).max(*before);
        *before = at;
        self.sequence += 1;
        self.queue.insert((at, self.sequence), to);
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take_due(&mut self, now: Time) -> Option<To> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}
