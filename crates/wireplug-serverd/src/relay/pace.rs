//! How long a busy forwarding thread rests between two rounds, so that each round finds several packets.
//!
//! A round costs system calls and wake-ups whatever it finds. Under load a short rest makes it find many packets, and
//! runs of one flow that can leave as one message; it is paid for in delay. With little to do there is no rest.

use std::time::{Duration, Instant};

/// Packets a second below which every packet is forwarded at once. Such a thread uses a quarter of its core or less, so
/// that rests would save CPU time that nobody is short of, and cost delay.
const BUSY: f64 = 25_000.0;
/// Packets a second from which a thread rests longest; between the two, the rest grows with the rate. Higher would keep delay
/// low for longer, and use half a core before CPU time is saved.
const CROWDED: f64 = 75_000.0;
/// The longest rest: the most delay that it adds. A relayed path takes many times as long. Packets of many pairs come to
/// as many sockets, each with system calls of its own: half as long would double these.
const LONGEST: Duration = Duration::from_millis(1);
/// A rest shorter than this is not worth the timer.
const SHORTEST: Duration = Duration::from_micros(40);
/// The time over which the rate of packets is averaged, in seconds.
const MEMORY: f64 = 0.01;

/// The pace of one thread.
#[derive(Debug)]
pub(super) struct Pace {
    /// Packets to find in a round, if that takes no longer than the longest rest.
    wanted: f64,
    rate: f64,
    last: Instant,
}

impl Pace {
    /// Not busy yet. Sockets must be able to keep `wanted` packets and more meanwhile.
    pub(super) fn new(wanted: u16, now: Instant) -> Self {
        Self { wanted: f64::from(wanted.max(1)), rate: 0.0, last: now }
    }

    /// A round has found so many packets: how long to rest now, if at all.
    pub(super) fn rest(&mut self, packets: u32, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.last).as_secs_f64().max(1e-9);
        self.last = now;
        let weight = time / (time + MEMORY);
        self.rate += weight * (f64::from(packets) / time - self.rate);
        if self.rate < BUSY {
            return None;
        }
        let longest = LONGEST.mul_f64(((self.rate - BUSY) / (CROWDED - BUSY)).min(1.0));
        let rest = Duration::from_secs_f64(self.wanted / self.rate).min(longest);
        (rest >= SHORTEST).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rests of a thread to which so many packets a second come, after the first 100 ms.
    fn rests(rate: u32) -> Vec<Duration> {
        let start = Instant::now();
        let (mut pace, mut now, mut seen) = (Pace::new(64, start), start, 0);
        let mut rests = Vec::new();
        while now < start + Duration::from_millis(200) {
            now += Duration::from_micros(5).max(Duration::from_secs(1) / rate / 2);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let come = ((now - start).as_secs_f64() * f64::from(rate)) as u32;
            if come == seen {
                continue; // the thread sleeps until something comes
            }
            let rest = pace.rest(come - seen, now).unwrap_or_default();
            seen = come;
            now += rest;
            if now > start + Duration::from_millis(100) {
                rests.push(rest);
            }
        }
        rests
    }

    #[test]
    fn little_traffic_is_not_delayed() {
        assert!(rests(1_000).iter().all(Duration::is_zero));
        assert!(rests(20_000).iter().all(Duration::is_zero));
    }

    #[test]
    fn much_traffic_is_gathered_and_never_for_long() {
        let some = rests(50_000);
        assert!(some.iter().all(|rest| (LONGEST / 3..LONGEST * 2 / 3).contains(rest)), "{some:?}");
        let most = rests(100_000);
        assert!(most.iter().all(|rest| *rest > LONGEST / 2 && *rest <= LONGEST), "{most:?}");
        let full: Vec<Duration> = rests(1_000_000);
        assert!(full.iter().all(|rest| *rest < Duration::from_micros(100)), "{full:?}");
    }

    #[test]
    fn a_pause_ends_the_rests() {
        let start = Instant::now();
        let mut pace = Pace::new(64, start);
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_millis(1);
            pace.rest(100, now);
        }
        assert!(pace.rest(100, now + Duration::from_millis(1)).is_some());
        assert_eq!(pace.rest(1, now + Duration::from_secs(1)), None);
    }
}
