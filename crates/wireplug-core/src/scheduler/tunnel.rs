//! What WireGuard itself does with one peer: whether a session lives, and over which endpoint.

use std::time::{Duration, Instant};

use super::io::{Handshake, Keepalive, PeerView};
use super::tuning::{
    CONFIRM, KEEPALIVE, KEEPALIVE_BYTES, LATE_PACKETS, POLL_ASKING, POLL_SETTLED, REASSERTIONS, RENEWAL,
    SESSION_LIFE, SILENCE_WHEN_SENDING, SILENCE_WORTH_A_CHECK, STILL_SENDING, USUAL_FOR, keepalives_worth,
    put_right_gap,
};
use crate::Endpoint;

/// The state of a peer's tunnel.
#[derive(Debug)]
pub(super) enum Tunnel {
    /// No session, as far as can be seen.
    Down,
    /// An endpoint was applied, and its handshake is awaited.
    Trying(Attempt),
    /// There is a session.
    Up(Box<Up>),
}

/// An endpoint that was applied while there was no session.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: Endpoint,
    pub(super) until: Instant,
    /// WireGuard was made to send a second time.
    pub(super) repeated: bool,
    /// The last handshake before it.
    handshake: Option<u128>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) since: Instant,
    pub(super) endpoint: Option<Endpoint>,
    /// The path in use has answered a check: so checks tell something of it.
    pub(super) answers_checks: bool,
    /// How long its last answers took, if they came while it was in use or led to it.
    round_trip: Option<Duration>,
    /// Our network is another one, and the peer's WireGuard may not have heard of us from here yet.
    unannounced: bool,
    /// When we last looked at the device.
    looked: Instant,
    /// When we last saw that something was received, and when we had looked before.
    heard: Instant,
    heard_after: Instant,
    rx: u64,
    tx: u64,
    tx_when_heard: u64,
    /// What we send and hear nothing of.
    asking: Option<Asking>,
    /// The last look before the last packet, sent or received.
    passed: Instant,
    /// The last look that showed more than keepalives, sent or received.
    busy: Instant,
    /// Before we began to send what has had no answer yet, how long there was nothing but keepalives.
    quiet_before: Option<Duration>,
    /// The longest silence that was usual lately, and when it was.
    usual: Option<(Duration, Instant)>,
    /// Our last move of it, while late packets may still undo it.
    moved: Option<Move>,
    /// The last move's end, if that was not where it stayed.
    unsettled: Option<Endpoint>,
}

/// More than keepalives is sent, and nothing comes back.
#[derive(Debug)]
struct Asking {
    /// The last look before it.
    since: Instant,
    /// The look that showed it.
    seen: Instant,
    /// The last look that showed more of it.
    sent: Instant,
    /// A check has shown that the path works all the same.
    reassured: bool,
}

#[derive(Debug)]
struct Move {
    at: Instant,
    from: Option<Endpoint>,
    to: Endpoint,
    reasserted: u8,
    over: bool,
    /// While it is put right again and again.
    again: Option<Again>,
}

#[derive(Debug, Clone, Copy)]
struct Again {
    until: Instant,
    next: Instant,
    gap: Duration,
}

/// What a look at the device means for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing to act on.
    Nothing,
    /// A session is there that was not there before.
    CameUp,
    /// The session is over.
    WentDown,
    /// Soon after a move the endpoint is another one: a late packet may have pulled it back.
    PulledBack {
        /// Where it is now.
        to: Option<Endpoint>,
    },
    /// The peer is silent while we go on sending, for longer than is usual.
    Silent,
    /// The peer is silent for longer than WireGuard allows.
    SilentForLong,
}

impl Attempt {
    /// WireGuard went where an initiation of the peer came from. Its answer is on its way there, and may be all that was
    /// missing: to set our own choice over it would send the next packets elsewhere.
    fn follow(&mut self, now: Instant, before: Option<&PeerView>, view: &PeerView) {
        let heard = before.is_some_and(|before| before.rx_bytes < view.rx_bytes);
        let moved = before.is_some_and(|before| before.endpoint != view.endpoint);
        if let Some(endpoint) = view.endpoint.filter(|endpoint| heard && moved && *endpoint != self.endpoint)
        {
            self.endpoint = endpoint;
            self.until = now + CONFIRM;
        }
    }

    pub(super) fn new(endpoint: Endpoint, until: Instant, view: Option<&PeerView>) -> Self {
        Self { endpoint, until, repeated: false, handshake: view.and_then(stamp) }
    }
}

impl Up {
    pub(super) fn new(now: Instant, view: &PeerView) -> Self {
        Self {
            since: now,
            endpoint: view.endpoint,
            answers_checks: false,
            round_trip: None,
            unannounced: false,
            looked: now,
            heard: now,
            heard_after: now,
            rx: view.rx_bytes,
            tx: view.tx_bytes,
            usual: None,
            tx_when_heard: view.tx_bytes,
            asking: None,
            passed: now,
            busy: now,
            quiet_before: None,
            moved: None,
            unsettled: None,
        }
    }

    /// We move it to another endpoint.
    pub(super) fn move_to(&mut self, now: Instant, to: Endpoint) {
        let from = self.endpoint.replace(to);
        self.answers_checks = true;
        self.round_trip = None;
        self.unannounced = false;
        self.moved = Some(Move { at: now, from, to, reasserted: 0, over: false, again: None });
    }

    /// The peer moves it to the endpoint where it is now. Each side must hold on to it while packets of both
    /// cross: with only one that does, each side's old path pulls the other's endpoint back, for as long as
    /// both send.
    pub(super) fn hold(&mut self, now: Instant, to: Endpoint) {
        if self.moved.as_ref().is_none_or(|moved| moved.to != to) {
            self.move_to(now, to);
        }
    }

    /// The endpoint is where it was seen because the peer itself went there.
    pub(super) fn follow(&mut self, to: Option<Endpoint>) {
        self.endpoint = to;
        self.round_trip = None;
        self.moved = None;
    }

    /// Our network is another one.
    pub(super) fn roams(&mut self) {
        self.unannounced = true;
    }

    /// Whether the peer's WireGuard is to hear of us from here now; only once.
    pub(super) fn take_unannounced(&mut self) -> bool {
        std::mem::take(&mut self.unannounced)
    }

    /// One side is in another network: where it was moved to, nobody is any more, so it is not held there.
    pub(super) fn let_go(&mut self) {
        self.moved = None;
        self.unsettled = None;
    }

    /// Late packets were seen: it is put right again and again for this long.
    pub(super) fn put_right_for(&mut self, now: Instant, time: Duration) {
        if let Some(moved) = &mut self.moved {
            moved.again = Some(Again { until: now + time, next: now, gap: put_right_gap(time) });
        }
    }

    /// When it is put right the next time.
    pub(super) fn put_right_at(&self) -> Option<Instant> {
        let again = self.moved.as_ref()?.again?;
        (again.next < again.until).then_some(again.next)
    }

    /// What it is put right to, if that is due; `jitter` is a factor near 1 for the next time.
    pub(super) fn put_right(&mut self, now: Instant, jitter: f64) -> Option<Endpoint> {
        self.put_right_at().filter(|at| *at <= now)?;
        let moved = self.moved.as_mut()?;
        if let Some(again) = &mut moved.again {
            again.next = now + again.gap.mul_f64(jitter);
        }
        Some(moved.to)
    }

    /// Whether a move to here was never settled: packets on the path that was left kept coming.
    pub(super) fn never_settled(&self, left: Option<Endpoint>) -> bool {
        self.unsettled.is_some() && self.unsettled == left
    }

    /// Whether late packets may still undo a move.
    pub(super) fn is_holding(&self) -> bool {
        self.moved.as_ref().is_some_and(|moved| !moved.over)
    }

    /// The path that it was moved from lately.
    pub(super) fn left(&self) -> Option<Endpoint> {
        self.moved.as_ref()?.from
    }

    /// Whether something was received after this time, for certain.
    pub(super) fn was_heard_since(&self, since: Instant) -> bool {
        self.heard_after >= since
    }

    /// The path in use is another one: whether it has answered a check in this round, and how soon.
    pub(super) fn note_answers(&mut self, rtt: Option<Duration>) {
        self.answers_checks = rtt.is_some();
        self.round_trip = rtt;
    }

    /// The round trip of the path in use, as last measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The path in use has answered a check.
    pub(super) fn reassure(&mut self, rtt: Duration) {
        self.note_answers(Some(rtt));
        if let Some(asking) = &mut self.asking {
            asking.reassured = true;
        }
    }

    /// When the silence is, or will be, longer than WireGuard allows; `None` while nothing is asked.
    pub(super) fn silent_for_long_at(&self) -> Option<Instant> {
        self.asking.as_ref().map(|asking| asking.seen + SILENCE_WHEN_SENDING)
    }

    /// The machine slept for so long, which our own clock does not count: it was silent for longer than it seems. How long
    /// WireGuard takes to answer is no matter of that, as it was asleep too.
    pub(super) fn slept(&mut self, time: Duration) {
        for at in [&mut self.passed, &mut self.busy] {
            *at = at.checked_sub(time).unwrap_or(*at);
        }
    }

    /// How long there has been nothing but keepalives, as far as was looked.
    pub(super) fn quiet(&self) -> Duration {
        self.looked - self.busy
    }

    /// When the last packet went through, sent or received, at the earliest.
    pub(super) fn passed(&self) -> Instant {
        self.passed
    }

    /// How long there had been nothing but keepalives before we began to send what has had no answer yet.
    pub(super) fn quiet_before_asking(&self) -> Option<Duration> {
        self.quiet_before
    }

    /// How long to wait until the next look.
    pub(super) fn poll(&self) -> Duration {
        let hurried = self.asking.as_ref().is_some_and(|asking| !asking.reassured);
        if hurried && self.patience(self.looked) < 2 * SILENCE_WORTH_A_CHECK {
            POLL_ASKING
        } else {
            POLL_SETTLED
        }
    }

    /// How long a silence is worth no check.
    fn patience(&self, now: Instant) -> Duration {
        let usual = self.usual.filter(|(_, at)| now < *at + USUAL_FOR);
        usual.map_or(SILENCE_WORTH_A_CHECK, |(silence, _)| SILENCE_WORTH_A_CHECK.max(silence * 4 / 3))
    }

    /// A silence ended without harm: those like it are usual from now on.
    fn learn(&mut self, now: Instant, silence: Duration) {
        if 2 * silence < self.patience(now) {
            return;
        }
        let before = self.usual.filter(|(_, at)| now < *at + USUAL_FOR);
        self.usual = Some((before.map_or(silence, |(before, _)| before.max(silence)), now));
    }

    /// Counts what was sent and received since the last look.
    fn count(&mut self, now: Instant, view: &PeerView) {
        if view.rx_bytes < self.rx {
            // The device or the peer was made anew: its counters and its session are other ones.
            *self = Self::new(now, view);
        }
        let before = std::mem::replace(&mut self.looked, now);
        let sends = view.tx_bytes > self.tx;
        self.note_quiet(now, before, view);
        self.tx = view.tx_bytes;
        if view.rx_bytes > self.rx {
            if let Some(asking) = self.asking.take() {
                self.learn(now, now - asking.since);
            }
            self.rx = view.rx_bytes;
            self.tx_when_heard = view.tx_bytes;
            (self.heard, self.heard_after) = (now, before);
        } else if let Some(asking) = &mut self.asking {
            asking.sent = if sends { now } else { asking.sent };
        } else if view.tx_bytes.saturating_sub(self.tx_when_heard)
            > keepalives_worth(now - self.heard, every(view))
        {
            self.asking = Some(Asking { since: before, seen: now, sent: now, reassured: false });
        }
    }

    fn note_quiet(&mut self, now: Instant, before: Instant, view: &PeerView) {
        let (sent, heard) = (view.tx_bytes.saturating_sub(self.tx), view.rx_bytes.saturating_sub(self.rx));
        let keepalives = KEEPALIVE_BYTES * (1 + (now - before).as_secs() / u64::from(every(view).max(1)));
        let busy = sent.max(heard) > keepalives;
        if heard > 0 {
            self.quiet_before = None;
        } else if busy && self.quiet_before.is_none() {
            self.quiet_before = Some(before - self.busy);
        }
        if busy {
            self.busy = now;
        }
        if sent.max(heard) > 0 {
            self.passed = before;
        }
    }

    fn see(&mut self, now: Instant, view: &PeerView) -> Seen {
        self.count(now, view);
        if self.is_pulled_back(now, view.endpoint) {
            return Seen::PulledBack { to: view.endpoint };
        }
        self.endpoint = view.endpoint;
        if self.silent_for_long_at().is_some_and(|at| at < now) {
            return Seen::SilentForLong;
        }
        if !has_session(view) {
            return Seen::WentDown;
        }
        let patience = self.patience(now);
        let silent = self.asking.as_ref().is_some_and(|asking| {
            now - asking.since >= patience && asking.sent - asking.since >= STILL_SENDING && !asking.reassured
        });
        if silent { Seen::Silent } else { Seen::Nothing }
    }

    fn is_pulled_back(&mut self, now: Instant, seen: Option<Endpoint>) -> bool {
        let Some(moved) = &mut self.moved else { return false };
        moved.over |= now - moved.at > LATE_PACKETS || moved.reasserted >= REASSERTIONS;
        if seen == Some(moved.to) {
            return false;
        }
        if moved.over {
            self.unsettled = (moved.from == seen).then_some(moved.to);
            self.moved = None;
            return false;
        }
        moved.reasserted += 1;
        true
    }
}

impl Tunnel {
    /// Takes a look at the device.
    pub(super) fn see(&mut self, now: Instant, before: Option<&PeerView>, view: &PeerView) -> Seen {
        match self {
            Self::Down => {
                let news = before
                    .is_none_or(|before| stamp(before) != stamp(view) || view.rx_bytes > before.rx_bytes);
                if !(news && has_session(view)) {
                    return Seen::Nothing;
                }
            }
            Self::Trying(attempt) => {
                if stamp(view) == attempt.handshake || !has_session(view) {
                    attempt.follow(now, before, view);
                    return Seen::Nothing;
                }
            }
            Self::Up(up) => return up.see(now, view),
        }
        *self = Self::Up(Box::new(Up::new(now, view)));
        Seen::CameUp
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

fn stamp(view: &PeerView) -> Option<u128> {
    view.handshake.map(|handshake| handshake.stamp)
}

/// The keepalive, in seconds; where there is none, more often than is sent unasked.
fn every(view: &PeerView) -> u16 {
    match view.keepalive {
        Keepalive::Off => KEEPALIVE,
        Keepalive::Ours(seconds) | Keepalive::Theirs(seconds) => seconds,
    }
}

fn has_session(view: &PeerView) -> bool {
    matches!(view.handshake, Some(Handshake { age, .. }) if age < SESSION_LIFE + RENEWAL)
}
