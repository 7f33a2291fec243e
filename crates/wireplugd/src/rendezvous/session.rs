//! What is to be said to a server, and when. No IO, no clock: time is a parameter.
//!
//! The session outlives connections. What is wanted (topics, offers) is state, so that saying it again after
//! a reconnect, or only the latest of several, needs no queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tracing::debug;
use wireplug_core::Endpoint;
use wireplug_proto::Topic;
use wireplug_proto::rendezvous::{About, AccessToken, Allocation, ClientMessage, Reason, ServerMessage};

use super::addresses::{relay_addresses, stun_servers};
use super::{Event, Membership};

/// How often the server is asked whether it is there: often enough for the NATs and proxies on the way,
/// whose idle times for TCP begin at a minute or so.
const PING_EVERY: Duration = Duration::from_secs(25);
/// How many pings may stay unanswered.
const MISSED: u32 = 2;
/// How soon a ping must be answered after the network changed: a connection that is dead is noticed by
/// then, one over a satellite is not given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How soon the server must say hello on a new connection.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// When something refused for a time is tried again where the server does not say.
const RETRY: Duration = Duration::from_secs(60);
/// The shortest wait after a refusal that is taken from a server.
const SHORTEST_RETRY: Duration = Duration::from_millis(500);
/// The longest one.
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// How many verifications wait to be sent.
const MAX_VERIFIES: usize = 64;

#[derive(Default)]
pub(super) struct Session {
    topics: BTreeMap<Topic, Mailbox>,
    leaves: BTreeSet<Topic>,
    releases: BTreeSet<Topic>,
    verifies: VecDeque<(u64, Endpoint, [u8; 16])>,
    link: Link,
    ids: u64,
}

struct Mailbox {
    membership: Membership,
    join: Due,
    offer: Option<Vec<u8>>,
    publish: Due,
    /// The place on the relay that is wanted.
    place: Option<Place>,
    /// A place that was refused for a time and then given up: whoever wants it again waits as long.
    refused: Option<Place>,
}

struct Place {
    access: Option<AccessToken>,
    allocate: Due,
}

/// When something is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// As soon as it can be.
    Now,
    /// The server said to wait.
    At(Instant),
    /// It was said, or is of no use on this connection.
    No,
}

enum Link {
    Down {
        why: String,
        moved: bool,
    },
    /// Connected, but the server has not said hello yet. Topics can be joined already: that saves a round trip.
    Opened {
        server: Vec<IpAddr>,
        pulse: Pulse,
    },
    Up {
        server: Vec<IpAddr>,
        up: Event,
        pulse: Pulse,
    },
}

impl Default for Link {
    fn default() -> Self {
        Self::Down { why: "connecting".to_owned(), moved: false }
    }
}

/// Whether the server is still there.
struct Pulse {
    /// When to ping next, or before that to give up.
    next: Instant,
    /// A ping that is to be sent.
    send: Option<u64>,
    unanswered: u32,
    /// The ping that must be answered by then.
    urgent: Option<(u64, Instant)>,
}

impl Session {
    pub(super) fn join(&mut self, membership: Membership) {
        let topic = membership.topic();
        self.leaves.remove(&topic);
        self.topics.entry(topic).or_insert(Mailbox {
            membership,
            join: Due::Now,
            offer: None,
            publish: Due::No,
            place: None,
            refused: None,
        });
    }

    pub(super) fn leave(&mut self, topic: Topic) {
        if self.topics.remove(&topic).is_some() && !matches!(self.link, Link::Down { .. }) {
            self.leaves.insert(topic);
        }
    }

    pub(super) fn publish(&mut self, topic: Topic, sealed: Vec<u8>) {
        match self.topics.get_mut(&topic) {
            None => debug!(?topic, "an offer for a topic that was not joined is dropped"),
            Some(mailbox) => {
                mailbox.offer = Some(sealed);
                // A wait that the server asked for holds for the newer offer too.
                if mailbox.publish == Due::No {
                    mailbox.publish = Due::Now;
                }
            }
        }
    }

    /// Our offer in a topic.
    pub(super) fn offer(&self, topic: Topic) -> Option<Vec<u8>> {
        self.topics.get(&topic)?.offer.clone()
    }

    pub(super) fn allocate(&mut self, topic: Topic, access: Option<AccessToken>) {
        let Some(mailbox) = self.topics.get_mut(&topic) else {
            debug!(?topic, "no place is asked for: the topic was not joined");
            return;
        };
        self.releases.remove(&topic);
        // A wait that the server asked for holds, unless another token may change its mind.
        let allocate = match &mailbox.refused.take().or_else(|| mailbox.place.take()) {
            Some(Place { access: before, allocate: wait @ Due::At(_) }) if *before == access => *wait,
            Some(_) | None => Due::Now,
        };
        mailbox.place = Some(Place { access, allocate });
    }

    pub(super) fn release(&mut self, topic: Topic) {
        let Some(mailbox) = self.topics.get_mut(&topic) else { return };
        let Some(place) = mailbox.place.take() else { return };
        if matches!(place.allocate, Due::At(_)) {
            mailbox.refused = Some(place);
        } else if !matches!(self.link, Link::Down { .. }) {
            self.releases.insert(topic);
        }
    }

    pub(super) fn verify(&mut self, id: u64, endpoint: Endpoint, nonce: [u8; 16]) {
        if matches!(self.link, Link::Up { .. }) {
            self.verifies.push_back((id, endpoint, nonce));
            if self.verifies.len() > MAX_VERIFIES {
                self.verifies.pop_front();
            }
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Whether the server can be used now.
    pub(super) fn standing(&self) -> Event {
        match &self.link {
            Link::Down { why, moved } => Event::Down { why: why.clone(), moved: *moved },
            Link::Opened { .. } => {
                Event::Down { why: "waiting for the server's hello".to_owned(), moved: false }
            }
            Link::Up { up, .. } => up.clone(),
        }
    }

    /// A connection is open; `server` are the server's addresses, the one connected to first.
    pub(super) fn opened(&mut self, now: Instant, server: Vec<IpAddr>) {
        for mailbox in self.topics.values_mut() {
            mailbox.join = Due::Now;
            mailbox.refused = None;
            mailbox.publish = if mailbox.offer.is_some() { Due::Now } else { Due::No };
            mailbox.ask_for_place();
        }
        let pulse = Pulse { next: now + HELLO_WITHIN, send: None, unanswered: 0, urgent: None };
        self.link = Link::Opened { server, pulse };
    }

    /// There is no connection, or none any more because this host `moved`. Returns what to tell, if it is news.
    pub(super) fn closed(&mut self, why: String, moved: bool) -> Option<Event> {
        self.leaves.clear();
        self.releases.clear();
        self.verifies.clear();
        let moved = moved && matches!(self.link, Link::Up { .. } | Link::Down { moved: true, .. });
        let event = Event::Down { why: why.clone(), moved };
        let news = self.standing() != event;
        self.link = Link::Down { why, moved };
        news.then_some(event)
    }

    /// The network has changed: the connection must show that it works. Where it changes again and again, by the same time.
    pub(super) fn kick(&mut self, now: Instant) {
        let id = self.new_id();
        if let Some(pulse) = self.pulse() {
            pulse.send = Some(id);
            let by = pulse.urgent.map_or(now + ANSWER_WITHIN, |(_, by)| by);
            pulse.urgent = Some((id, by));
        }
    }

    /// Whether it still has to show that.
    pub(super) fn is_on_trial(&self) -> bool {
        match &self.link {
            Link::Down { .. } => false,
            Link::Opened { pulse, .. } | Link::Up { pulse, .. } => pulse.urgent.is_some(),
        }
    }

    /// Takes what the server said. Returns what to tell.
    pub(super) fn handle(&mut self, now: Instant, message: ServerMessage) -> Option<Event> {
        if let Some(pulse) = self.pulse() {
            pulse.heard(&message);
        }
        match message {
            ServerMessage::Hello { token, stun, offer_ttl: _ } => self.hello(now, token, &stun),
            ServerMessage::Offer { topic, sealed } if self.topics.contains_key(&topic) => {
                Some(Event::Offer { topic, sealed })
            }
            ServerMessage::Allocated { topic, allocation } => self.allocated(topic, allocation),
            ServerMessage::RelayCalled { topic } if self.topics.contains_key(&topic) => {
                Some(Event::RelayCalled { topic })
            }
            ServerMessage::Probed { id } => Some(Event::Probed { id }),
            ServerMessage::Refused { about, reason, detail, retry_after } => {
                self.refused(now, about, reason, retry_after);
                Some(Event::Refused { about, reason, detail, retry_after })
            }
            ServerMessage::Offer { .. }
            | ServerMessage::Joined { .. }
            | ServerMessage::RelayCalled { .. }
            | ServerMessage::Pong { .. }
            | ServerMessage::Unknown => None,
        }
    }

    /// What to say next on the connection; `None` if there is nothing now.
    pub(super) fn poll_send(&mut self, now: Instant) -> Option<ClientMessage> {
        if let Some(id) = self.pulse()?.send.take() {
            return Some(ClientMessage::Ping { id });
        }
        if let Some(topic) = self.leaves.pop_first() {
            return Some(ClientMessage::Leave { topic });
        }
        if let Some(topic) = self.releases.pop_first() {
            return Some(ClientMessage::Release { topic });
        }
        for (topic, mailbox) in &mut self.topics {
            if mailbox.join.take(now) {
                return Some(mailbox.membership.join());
            }
            if mailbox.join == Due::No
                && mailbox.publish.take(now)
                && let Some(sealed) = mailbox.offer.clone()
            {
                return Some(ClientMessage::Publish { topic: *topic, sealed });
            }
            if mailbox.join == Due::No
                && let Some(place) = &mut mailbox.place
                && place.allocate.take(now)
            {
                return Some(ClientMessage::Allocate { topic: *topic, access: place.access.clone() });
            }
        }
        let (id, endpoint, nonce) = self.verifies.pop_front()?;
        Some(ClientMessage::Verify { id, endpoint, nonce })
    }

    /// When [`Session::handle_timeout`] is to be called, and why.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let pulse = match &self.link {
            Link::Down { .. } => return None,
            Link::Opened { pulse, .. } | Link::Up { pulse, .. } => pulse,
        };
        let retries = self.topics.values().flat_map(|mailbox| {
            let allocate = mailbox.place.as_ref().map_or(Due::No, |place| place.allocate);
            [mailbox.join, mailbox.publish, allocate]
        });
        let retries = retries.filter_map(|due| match due {
            Due::At(at) => Some((at, "retry what was refused")),
            Due::Now | Due::No => None,
        });
        let urgent = pulse.urgent.map(|(_, by)| (by, "answer after the network changed"));
        retries.chain(urgent).chain([(pulse.next, "ping")]).min()
    }

    /// Goes on with what is due.
    ///
    /// # Errors
    /// Why the connection is dead.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), &'static str> {
        let opened = matches!(self.link, Link::Opened { .. });
        let id = self.new_id();
        let Some(pulse) = self.pulse() else { return Ok(()) };
        if pulse.urgent.is_some_and(|(_, by)| by <= now) {
            return Err("the connection did not survive a change of the network");
        }
        if pulse.next <= now {
            if opened {
                return Err("the server said no hello: is it a wireplug-serverd?");
            }
            if pulse.unanswered >= MISSED {
                return Err("the server does not answer any more");
            }
            pulse.unanswered += 1;
            pulse.send = Some(id);
            pulse.next = now + PING_EVERY;
        }
        Ok(())
    }

    fn pulse(&mut self) -> Option<&mut Pulse> {
        match &mut self.link {
            Link::Down { .. } => None,
            Link::Opened { pulse, .. } | Link::Up { pulse, .. } => Some(pulse),
        }
    }

    fn hello(&mut self, now: Instant, token: [u8; 16], stun: &[SocketAddr]) -> Option<Event> {
        let Link::Opened { server, pulse } = &self.link else { return None };
        let up = Event::Up { token, stun: stun_servers(stun, server) };
        let pulse = Pulse { next: now + PING_EVERY, send: pulse.send, unanswered: 0, urgent: pulse.urgent };
        self.link = Link::Up { server: server.clone(), up: up.clone(), pulse };
        Some(up)
    }

    fn allocated(&mut self, topic: Topic, allocation: Allocation) -> Option<Event> {
        // What was released meanwhile is of no use.
        self.topics.get(&topic)?.place.as_ref()?;
        let server = match &self.link {
            Link::Down { .. } => return None,
            Link::Opened { server, .. } | Link::Up { server, .. } => server,
        };
        let relays = relay_addresses(&allocation.relays, server);
        Some(Event::Allocated { topic, allocation: Allocation { relays, ..allocation } })
    }

    fn refused(&mut self, now: Instant, about: About, reason: Reason, retry_after: Option<Duration>) {
        let wait = retry_after.unwrap_or(RETRY).clamp(SHORTEST_RETRY, LONGEST_RETRY);
        let for_a_time = retry_after.is_some() || matches!(reason, Reason::RateLimited | Reason::Full);
        let due = if for_a_time { Due::At(now + wait) } else { Due::No };
        match about {
            About::Join(topic) => {
                if let Some(mailbox) = self.topics.get_mut(&topic) {
                    mailbox.join = due;
                    let again = mailbox.offer.is_some() && for_a_time;
                    mailbox.publish = if again { Due::Now } else { Due::No };
                    if for_a_time {
                        mailbox.ask_for_place();
                    }
                }
            }
            About::Publish(topic) => {
                // Where the join was refused, the offer that came with it was too: it goes with the next join.
                if let Some(mailbox) = self.topics.get_mut(&topic).filter(|mailbox| mailbox.join == Due::No) {
                    mailbox.publish = due;
                }
            }
            About::Allocate(topic) => {
                let mailbox = self.topics.get_mut(&topic).filter(|mailbox| mailbox.join == Due::No);
                if let Some(place) = mailbox.and_then(|mailbox| mailbox.place.as_mut()) {
                    place.allocate = due;
                }
            }
            About::Verify(_) | About::Connection => {}
        }
    }
}

impl Mailbox {
    /// Has the place that is wanted asked for again, with or after the join.
    fn ask_for_place(&mut self) {
        if let Some(place) = &mut self.place {
            place.allocate = Due::Now;
        }
    }
}

impl Due {
    /// Whether it is to be said now; then it counts as said.
    fn take(&mut self, now: Instant) -> bool {
        let due = match *self {
            Self::Now => true,
            Self::At(at) => at <= now,
            Self::No => false,
        };
        if due {
            *self = Self::No;
        }
        due
    }
}

impl Pulse {
    fn heard(&mut self, message: &ServerMessage) {
        self.unanswered = 0;
        if let (ServerMessage::Pong { id }, Some((urgent, _))) = (message, self.urgent)
            && *id >= urgent
        {
            self.urgent = None;
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
