//! How long the NATs of the network we are in keep a mapping that is not used, and so how often our keepalive must be sent.
//!
//! Most keep one for 30 s or longer, and 25 s are right. Some forget it after 10 to 20 s (RFC 4787 section 4.3, REQ-5, forbids
//! less than two minutes): then a tunnel without traffic is deaf between two keepalives. Nobody tells us so; it is learnt
//! from tunnels that died of it (`expiry`). Two such deaths make the keepalive shorter by a step, and after a long time
//! without one the longer is tried again: the router may be another one, or the deaths may have had another cause.

use std::time::{Duration, Instant};

use super::tuning::{
    EVIDENCE_GAP, KEEPALIVE, KEEPALIVES, MAX_FAILED_TRIALS, SUSPICION_HOLDS, TRIAL_HOLDS, longer_after,
};

/// What was learnt of a network: to be kept while we are elsewhere, and told by
/// [`Input::Recalled`](super::Input::Recalled) when we are back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learnt {
    /// The keepalive that holds a mapping there, in seconds.
    pub keepalive: u16,
    /// A mapping expired once, which may have been an accident.
    pub suspected: bool,
    /// The keepalive was made longer again lately, and has to prove itself.
    pub on_trial: bool,
    /// How often a longer one was tried in vain.
    pub failed_trials: u8,
}

impl Default for Learnt {
    /// Of a network that nothing is known of.
    fn default() -> Self {
        Self { keepalive: KEEPALIVE, suspected: false, on_trial: false, failed_trials: 0 }
    }
}

/// The keepalive of the network that we are in.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    learnt: Learnt,
    /// Since when it has been so without anything against it; `None` until there is a reason to count.
    since: Option<Instant>,
    /// The last sign of a mapping that expired, whether it counted or not.
    expired: Option<Instant>,
    /// The least age, since its last packet, at which a mapping was found to have expired since the last step.
    age: Option<Duration>,
    /// It is another than was told last.
    news: bool,
}

impl Lifetimes {
    /// The keepalive to use, in seconds.
    pub(super) fn seconds(&self) -> u16 {
        self.learnt.keepalive
    }

    /// We are in a network that this was learnt of.
    pub(super) fn recall(&mut self, now: Instant, learnt: Learnt) {
        let keepalive = KEEPALIVES.into_iter().find(|step| *step <= learnt.keepalive);
        let keepalive = keepalive.unwrap_or(KEEPALIVES[KEEPALIVES.len() - 1]);
        let failed_trials = learnt.failed_trials.min(MAX_FAILED_TRIALS);
        *self = Self::default();
        self.learnt = Learnt { keepalive, failed_trials, ..learnt };
        self.since = Some(now);
    }

    /// A mapping expired under a tunnel that nothing but keepalives went through. One router that restarts makes many
    /// tunnels show it at once, so those that follow soon count for nothing. `age`: how old it can have been, since its last
    /// packet, if that is known.
    pub(super) fn expired(&mut self, now: Instant, age: Option<Duration>) {
        let before = self.expired.replace(now);
        if before.is_some_and(|before| now < before + EVIDENCE_GAP) {
            return;
        }
        self.age = [self.age, age].into_iter().flatten().min();
        let Learnt { suspected, on_trial, .. } = self.learnt;
        if suspected || on_trial {
            if on_trial {
                self.learnt.failed_trials = (self.learnt.failed_trials + 1).min(MAX_FAILED_TRIALS);
            }
            self.learnt.keepalive = self.shorter();
            self.age = None;
            (self.learnt.suspected, self.learnt.on_trial) = (false, false);
        } else {
            self.learnt.suspected = true;
        }
        self.since = Some(now);
        self.news = true;
    }

    /// When [`Lifetimes::handle_timeout`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let since = self.since?;
        if self.learnt.suspected {
            Some(since + SUSPICION_HOLDS)
        } else if self.learnt.on_trial {
            Some(since + TRIAL_HOLDS)
        } else {
            (self.learnt.keepalive != KEEPALIVE).then(|| since + longer_after(self.learnt.failed_trials))
        }
    }

    /// Draws the conclusion from a long time without any sign.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next().is_none_or(|at| at > now) {
            return;
        }
        if self.learnt.suspected {
            (self.learnt.suspected, self.age) = (false, None);
        } else if self.learnt.on_trial {
            self.learnt.on_trial = false;
        } else {
            self.learnt.keepalive = self.longer();
            self.learnt.on_trial = true;
        }
        self.since = Some(now);
        self.news = true;
    }

    /// What is to be kept, if that is another than was told last.
    pub(super) fn take_news(&mut self) -> Option<Learnt> {
        std::mem::take(&mut self.news).then_some(self.learnt)
    }

    fn shorter(&self) -> u16 {
        let held = |step: u16| self.age.is_none_or(|age| Duration::from_secs(step.into()) < age);
        let shorter = || KEEPALIVES.into_iter().filter(|step| *step < self.learnt.keepalive);
        shorter().find(|step| held(*step)).or(shorter().next_back()).unwrap_or(self.learnt.keepalive)
    }

    fn longer(&self) -> u16 {
        let longer = KEEPALIVES.into_iter().rev().find(|step| *step > self.learnt.keepalive);
        longer.unwrap_or(self.learnt.keepalive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A network that nothing is known of, and a hand that moves time.
    struct Network {
        lifetimes: Lifetimes,
        now: Instant,
    }

    impl Network {
        fn new() -> Self {
            Self { lifetimes: Lifetimes::default(), now: Instant::now() }
        }

        fn expired(&mut self) -> u16 {
            self.lifetimes.expired(self.now, None);
            self.lifetimes.seconds()
        }

        fn pass(&mut self, time: Duration) -> u16 {
            let end = self.now + time;
            while let Some(at) = self.lifetimes.next().filter(|at| *at <= end) {
                assert!(at > self.now, "it wants to be woken in the past");
                self.now = at;
                self.lifetimes.handle_timeout(at);
            }
            self.now = end;
            self.lifetimes.seconds()
        }

        /// Twice what makes one step.
        fn dies(&mut self) -> u16 {
            self.expired();
            self.pass(2 * EVIDENCE_GAP);
            let seconds = self.expired();
            self.pass(2 * EVIDENCE_GAP);
            seconds
        }
    }

    #[test]
    fn two_deaths_shorten_it_by_a_step_down_to_the_floor() {
        let mut network = Network::new();
        assert_eq!(network.expired(), 25, "once is an accident");
        network.pass(HOUR);
        let mut steps = vec![network.expired()];
        for _ in 0..3 {
            network.pass(2 * EVIDENCE_GAP);
            steps.push(network.dies());
        }
        assert_eq!(steps, [12, 8, 8, 8]);
    }

    #[test]
    fn the_step_is_one_that_would_have_held_the_mapping() {
        let at = Duration::from_secs;
        for (ages, keepalive) in [([24, 20], 12), ([24, 11], 8), ([11, 24], 8), ([12, 12], 8), ([3, 3], 8)] {
            let mut network = Network::new();
            for age in ages {
                network.pass(2 * EVIDENCE_GAP);
                network.lifetimes.expired(network.now, Some(at(age)));
            }
            assert_eq!(network.lifetimes.seconds(), keepalive, "{ages:?}");
        }
    }

    #[test]
    fn what_many_tunnels_show_at_once_counts_once() {
        let mut network = Network::new();
        for _ in 0..100 {
            assert_eq!(network.expired(), 25);
            network.pass(EVIDENCE_GAP / 2);
        }
        assert_eq!(network.pass(2 * EVIDENCE_GAP), 25);
        assert_eq!(network.expired(), 12);
    }

    #[test]
    fn an_accident_is_forgotten() {
        let mut network = Network::new();
        for _ in 0..5 {
            assert_eq!(network.expired(), 25);
            network.pass(SUSPICION_HOLDS);
        }
        assert_eq!(network.lifetimes.next(), None, "and then there is nothing to wake up for");
    }

    #[test]
    fn after_a_long_good_time_the_longer_is_tried_again() {
        let mut network = Network::new();
        network.dies();
        network.dies();
        assert_eq!(network.pass(longer_after(0)), 12);
        assert_eq!(network.pass(TRIAL_HOLDS + longer_after(0)), 25);
        assert_eq!(network.pass(TRIAL_HOLDS), 25);
        assert_eq!(network.lifetimes.next(), None);
        assert_eq!(network.lifetimes.learnt, Learnt::default());
    }

    #[test]
    fn a_trial_that_fails_ends_at_once_and_the_next_one_waits_longer() {
        let mut network = Network::new();
        assert_eq!(network.dies(), 12);
        for failed in 0..=MAX_FAILED_TRIALS + 2 {
            let wait = longer_after(failed.min(MAX_FAILED_TRIALS));
            assert_eq!(network.pass(wait / 2), 12, "{failed}");
            assert_eq!(network.pass(wait / 2), 25, "{failed}");
            assert_eq!(network.expired(), 12, "{failed}");
        }
    }

    #[test]
    fn what_was_kept_of_a_network_holds_when_we_are_back() {
        let mut network = Network::new();
        network.dies();
        let learnt = network.lifetimes.take_news().unwrap();
        assert_eq!(network.lifetimes.take_news(), None, "it is told once");
        network.lifetimes.recall(network.now, Learnt::default());
        assert_eq!((network.lifetimes.seconds(), network.lifetimes.next()), (25, None));
        network.lifetimes.recall(network.now, learnt);
        assert_eq!(network.lifetimes.seconds(), 12);
        assert_eq!(network.lifetimes.take_news(), None, "what was recalled is no news");
        assert_eq!(network.pass(longer_after(0)), 25);
    }

    #[test]
    fn what_no_version_ever_kept_becomes_a_step() {
        let mut network = Network::new();
        for (kept, used) in [(0, 8), (7, 8), (9, 8), (20, 12), (60, 25), (u16::MAX, 25)] {
            let learnt = Learnt { keepalive: kept, failed_trials: 255, ..Learnt::default() };
            network.lifetimes.recall(network.now, learnt);
            assert_eq!(network.lifetimes.seconds(), used);
            network.pass(1000 * HOUR);
        }
    }
}
