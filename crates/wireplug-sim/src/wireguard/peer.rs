//! One peer of a WireGuard device: its handshake, sessions and timers.
//!
//! The order of the steps is that of Linux (`send.c`, `receive.c`, `timers.c`), because what the scheduler
//! must live with are not the states but these orders: that a response counts for the limiter, that a limited
//! repetition is not armed again, that an initiation is spent even where there is no endpoint.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand::RngExt as _;
use wireplug_core::PublicKey;

use super::constants::{
    CONSUME_GAP, JITTER, KEEPALIVE_TIMEOUT, MAX_ATTEMPTS, MAX_STAGED, REJECT_AFTER, REKEY_AFTER,
    REKEY_TIMEOUT, REKEY_WHEN_RECEIVING,
};
use super::message::{Body, Message};
use crate::{Chance, Time, earlier, secs};

/// One peer.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    pub(super) last_handshake: Option<Time>,
    pub(super) handshake_stamp: Option<Time>,
    keepalive: u16,
    /// The initiation that waits for its response; whatever else happens to the handshake voids it.
    initiation: Option<u64>,
    greatest_stamp: u128,
    last_consumed: Option<Time>,
    last_sent_handshake: Option<Time>,
    attempts: u32,
    sessions: Sessions,
    staged: VecDeque<Body>,
    timers: Timers,
}

/// Keypairs as `noise.c` keeps them: the next one is not used for sending until the peer has used it.
#[derive(Debug, Clone, Default)]
struct Sessions {
    previous: Option<Session>,
    current: Option<Session>,
    next: Option<Session>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    id: u64,
    made: Time,
    initiator: bool,
}

#[derive(Debug, Clone, Default)]
struct Timers {
    retransmit: Option<Time>,
    answer: Option<Time>,
    answer_again: bool,
    silence: Option<Time>,
    persistent: Option<Time>,
    last_minute: bool,
}

/// What a peer needs of its device for one step.
pub(super) struct Step<'a> {
    pub(super) now: Time,
    pub(super) wall: Time,
    pub(super) own: PublicKey,
    pub(super) chance: &'a mut Chance,
    pub(super) out: &'a mut Vec<(SocketAddr, Message)>,
}

impl Peer {
    pub(super) fn new(key: PublicKey) -> Self {
        Self {
            key,
            endpoint: None,
            rx_bytes: 0,
            tx_bytes: 0,
            last_handshake: None,
            handshake_stamp: None,
            keepalive: 0,
            initiation: None,
            greatest_stamp: 0,
            last_consumed: None,
            last_sent_handshake: None,
            attempts: 0,
            sessions: Sessions::default(),
            staged: VecDeque::new(),
            timers: Timers::default(),
        }
    }

    /// `set_peer` of `netlink.c`: the endpoint first, then the keepalive, then whatever waits.
    pub(super) fn set(&mut self, step: &mut Step<'_>, endpoint: Option<SocketAddr>, keepalive: Option<u16>) {
        self.endpoint = endpoint.or(self.endpoint);
        if let Some(seconds) = keepalive {
            let turned_on = self.keepalive == 0 && seconds != 0;
            self.keepalive = seconds;
            if turned_on {
                self.send_keepalive(step);
            }
        }
        self.send_staged(step);
    }

    pub(super) fn greatest_stamp(&self) -> u128 {
        self.greatest_stamp
    }

    pub(super) fn keepalive(&self) -> u16 {
        self.keepalive
    }

    /// A packet from the tunnel interface; false if there is no endpoint, then it is refused and not queued.
    pub(super) fn send(&mut self, step: &mut Step<'_>, body: Body) -> bool {
        if self.endpoint.is_none() {
            return false;
        }
        if self.staged.len() == MAX_STAGED {
            self.staged.pop_front();
        }
        self.staged.push_back(body);
        self.send_staged(step);
        true
    }

    pub(super) fn on_initiation(
        &mut self,
        step: &mut Step<'_>,
        source: SocketAddr,
        id: u64,
        stamp: u128,
    ) -> bool {
        let flood = self.last_consumed.is_some_and(|at| at + CONSUME_GAP > step.now);
        if stamp <= self.greatest_stamp || flood {
            return false;
        }
        self.greatest_stamp = stamp;
        self.last_consumed = Some(step.now);
        // The handshake's only state is overwritten: our own initiation, if one is out, is void.
        self.initiation = None;
        self.endpoint = Some(source);
        self.last_sent_handshake = Some(step.now);
        let session = Session { id: step.chance.random(), made: step.now, initiator: false };
        self.sessions.next = Some(session);
        self.sessions.previous = None;
        self.authentic_packet_sent(step);
        self.transmit(step, Message::Response { from: step.own, answers: id, session: session.id });
        self.authentic_packet_received(step);
        true
    }

    pub(super) fn on_response(
        &mut self,
        step: &mut Step<'_>,
        source: SocketAddr,
        answers: u64,
        session: u64,
    ) -> bool {
        if self.initiation != Some(answers) {
            return false;
        }
        self.initiation = None;
        self.endpoint = Some(source);
        let session = Session { id: session, made: step.now, initiator: true };
        if let Some(next) = self.sessions.next.take() {
            self.sessions.previous = Some(next);
        } else {
            self.sessions.previous = self.sessions.current.take();
        }
        self.sessions.current = Some(session);
        self.handshake_complete(step);
        // A response that nothing follows would leave the responder unable to send.
        self.send_keepalive(step);
        self.authentic_packet_received(step);
        true
    }

    pub(super) fn on_data(
        &mut self,
        step: &mut Step<'_>,
        source: SocketAddr,
        session: u64,
        body: Body,
    ) -> bool {
        let alive = |s: &Session| s.id == session && s.made + REJECT_AFTER > step.now;
        let confirms = self.sessions.next.as_ref().is_some_and(alive);
        let known = [&self.sessions.current, &self.sessions.previous]
            .into_iter()
            .any(|s| s.as_ref().is_some_and(alive));
        if !confirms && !known {
            return false;
        }
        self.endpoint = Some(source);
        if confirms {
            self.sessions.previous = self.sessions.current.take();
            self.sessions.current = self.sessions.next.take();
            self.handshake_complete(step);
            self.send_staged(step);
        }
        self.keep_fresh_while_receiving(step);
        self.authentic_packet_received(step);
        if body != Body::Keepalive {
            if self.timers.answer.is_some() {
                self.timers.answer_again = true;
            } else {
                self.timers.answer = Some(step.now + KEEPALIVE_TIMEOUT);
            }
        }
        true
    }

    pub(super) fn next_timer(&self) -> Option<Time> {
        let t = &self.timers;
        [t.retransmit, t.answer, t.silence, t.persistent].into_iter().fold(None, earlier)
    }

    pub(super) fn on_timer(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        if take_due(&mut self.timers.retransmit, now) {
            if self.attempts > MAX_ATTEMPTS {
                self.timers.answer = None;
                self.staged.clear();
            } else {
                self.attempts += 1;
                self.initiate(step);
            }
        }
        if take_due(&mut self.timers.answer, now) {
            self.send_keepalive(step);
            if std::mem::take(&mut self.timers.answer_again) {
                self.timers.answer = Some(now + KEEPALIVE_TIMEOUT);
            }
        }
        if take_due(&mut self.timers.silence, now) {
            self.attempts = 0;
            self.initiate(step);
        }
        if take_due(&mut self.timers.persistent, now) && self.keepalive != 0 {
            self.send_keepalive(step);
        }
    }

    fn send_keepalive(&mut self, step: &mut Step<'_>) {
        if self.staged.is_empty() {
            self.staged.push_back(Body::Keepalive);
        }
        self.send_staged(step);
    }

    fn send_staged(&mut self, step: &mut Step<'_>) {
        if self.staged.is_empty() {
            return;
        }
        let Some(session) = self.sessions.current.filter(|s| s.made + REJECT_AFTER > step.now) else {
            self.attempts = 0;
            self.initiate(step);
            return;
        };
        for body in std::mem::take(&mut self.staged) {
            self.authentic_packet_sent(step);
            let sent = self.transmit(step, Message::Data { from: step.own, session: session.id, body });
            if sent && body != Body::Keepalive && self.timers.silence.is_none() {
                self.timers.silence = Some(step.now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter(step));
            }
        }
        if session.initiator && session.made + REKEY_AFTER <= step.now {
            self.attempts = 0;
            self.initiate(step);
        }
    }

    fn initiate(&mut self, step: &mut Step<'_>) {
        if self.last_sent_handshake.is_some_and(|at| at + REKEY_TIMEOUT > step.now) {
            return;
        }
        self.last_sent_handshake = Some(step.now);
        let id = step.chance.random();
        self.initiation = Some(id);
        self.authentic_packet_sent(step);
        // The machine's clock: where it was set back, the peer refuses the initiation as an old one (section 5.1).
        let stamp = step.wall.as_nanos();
        self.transmit(step, Message::Initiation { from: step.own, to: self.key, id, stamp });
        self.timers.retransmit = Some(step.now + REKEY_TIMEOUT + jitter(step));
    }

    fn transmit(&mut self, step: &mut Step<'_>, message: Message) -> bool {
        let Some(endpoint) = self.endpoint else {
            return false;
        };
        self.tx_bytes += message.length();
        step.out.push((endpoint, message));
        true
    }

    fn handshake_complete(&mut self, step: &Step<'_>) {
        self.timers.retransmit = None;
        self.timers.last_minute = false;
        self.attempts = 0;
        self.last_handshake = Some(step.now);
        self.handshake_stamp = Some(step.wall);
    }

    fn keep_fresh_while_receiving(&mut self, step: &mut Step<'_>) {
        let due =
            self.sessions.current.is_some_and(|s| s.initiator && s.made + REKEY_WHEN_RECEIVING <= step.now);
        if due && !self.timers.last_minute {
            self.timers.last_minute = true;
            self.attempts = 0;
            self.initiate(step);
        }
    }

    fn authentic_packet_sent(&mut self, step: &Step<'_>) {
        self.timers.answer = None;
        self.authentic_packet_traversed(step);
    }

    fn authentic_packet_received(&mut self, step: &Step<'_>) {
        self.timers.silence = None;
        self.authentic_packet_traversed(step);
    }

    fn authentic_packet_traversed(&mut self, step: &Step<'_>) {
        if self.keepalive != 0 {
            self.timers.persistent = Some(step.now + secs(self.keepalive.into()));
        }
    }
}

fn jitter(step: &mut Step<'_>) -> Time {
    step.chance.random_range(Time::ZERO..JITTER)
}

fn take_due(timer: &mut Option<Time>, now: Time) -> bool {
    let due = timer.is_some_and(|at| at <= now);
    if due {
        *timer = None;
    }
    due
}
