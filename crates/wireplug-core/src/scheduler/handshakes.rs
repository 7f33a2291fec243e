//! How old the last handshake is, by our own clock: WireGuard tells its time by the wall clock, which people and NTP set.

use std::time::{Duration, Instant};

use super::io::Handshake;

/// The last handshake of one peer.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    last: Option<Known>,
    looked: Option<Instant>,
    /// Our own clock may have stood still: the wall clock is believed once more.
    unsure: bool,
}

#[derive(Debug)]
struct Known {
    stamp: u128,
    seen: Instant,
    age: Duration,
}

impl Handshakes {
    /// Takes what the device says; gives it back with the right age. One that was not there at the last look is no older
    /// than that look, whatever the wall clock says; of the first one only that clock knows.
    pub(super) fn see(&mut self, now: Instant, told: Option<Handshake>) -> Option<Handshake> {
        let looked = self.looked.replace(now);
        let unsure = std::mem::take(&mut self.unsure);
        let Some(Handshake { stamp, age: told }) = told else {
            self.last = None;
            return None;
        };
        let age = match &self.last {
            Some(known) if known.stamp == stamp => {
                let age = known.age + (now - known.seen);
                if !unsure {
                    return Some(Handshake { stamp, age });
                }
                age.max(told)
            }
            Some(_) | None => looked.filter(|_| !unsure).map_or(told, |looked| told.min(now - looked)),
        };
        self.last = Some(Known { stamp, seen: now, age });
        Some(Handshake { stamp, age })
    }

    /// How old the last one is.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.last.as_ref().map(|known| known.age + (now - known.seen))
    }

    /// The machine slept for so long, which our own clock does not count.
    pub(super) fn slept(&mut self, time: Duration) {
        if let Some(known) = &mut self.last {
            known.age += time;
        }
        self.looked = self.looked.map(|looked| looked.checked_sub(time).unwrap_or(looked));
    }

    /// The machine may have slept, which our own clock does not count.
    pub(super) fn doubt(&mut self) {
        self.unsure = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn age(handshakes: &mut Handshakes, now: Instant, stamp: u128, told: Duration) -> Duration {
        handshakes.see(now, Some(Handshake { stamp, age: told })).unwrap().age
    }

    #[test]
    fn a_clock_that_is_set_makes_no_handshake_older_or_younger() {
        let start = Instant::now();
        let mut handshakes = Handshakes::default();
        assert_eq!(
            age(&mut handshakes, start, 1, secs(50)),
            secs(50),
            "of the first one only the wall clock knows"
        );
        assert_eq!(age(&mut handshakes, start + secs(2), 1, secs(3600)), secs(52), "set forward");
        assert_eq!(age(&mut handshakes, start + secs(4), 1, secs(0)), secs(54), "set back");
        assert_eq!(age(&mut handshakes, start + secs(6), 2, secs(9999)), secs(2), "new since the last look");
        assert_eq!(age(&mut handshakes, start + secs(8), 2, secs(0)), secs(4));
    }

    #[test]
    fn a_nap_makes_it_older_and_leaves_the_wall_clock_out() {
        let start = Instant::now();
        let mut handshakes = Handshakes::default();
        age(&mut handshakes, start, 1, secs(10));
        handshakes.slept(secs(8));
        assert_eq!(handshakes.age(start + secs(1)), Some(secs(19)));
        assert_eq!(age(&mut handshakes, start + secs(2), 1, secs(9999)), secs(20));
        handshakes.slept(secs(8));
        assert_eq!(
            age(&mut handshakes, start + secs(4), 2, secs(9)),
            secs(9),
            "made before the nap, after the look"
        );
        assert_eq!(age(&mut handshakes, start + secs(6), 3, secs(9)), secs(2));
    }

    #[test]
    fn after_a_sleep_the_wall_clock_tells_more() {
        let start = Instant::now();
        let mut handshakes = Handshakes::default();
        age(&mut handshakes, start, 1, secs(10));
        handshakes.doubt();
        assert_eq!(age(&mut handshakes, start + secs(2), 1, secs(8000)), secs(8000));
        assert_eq!(age(&mut handshakes, start + secs(4), 1, secs(0)), secs(8002), "that once only");
    }
}
