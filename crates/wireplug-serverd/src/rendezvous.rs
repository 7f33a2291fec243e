//! The rendezvous: connections, topics, offers and the right to be probed, without IO or clock.
//!
//! [`Rendezvous`] has four kinds of methods:
//!
//! - what happened: [`connect`](Rendezvous::connect), [`message`](Rendezvous::message),
//!   [`malformed`](Rendezvous::malformed), [`heard`](Rendezvous::heard), [`disconnect`](Rendezvous::disconnect);
//! - time: [`poll_timeout`](Rendezvous::poll_timeout) says when [`handle_timeout`](Rendezvous::handle_timeout)
//!   is due; every method takes the instant at which it happens, which must not go back;
//! - effects: after any of these, [`poll_output`](Rendezvous::poll_output) until it gives nothing;
//! - looking: [`counts`](Rendezvous::counts).
//!
//! Memory is bounded by [`Limits`] whatever the input is. A side of a topic is held by one connection, the
//! newest that showed its token; its offer lives as long as that connection and `offer_ttl` after.

mod accounts;
mod actions;
mod ownership;
mod relaying;
mod topics;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wireplug_core::Endpoint;
use wireplug_proto::rendezvous::{About, ClientMessage, FrameError, MAX_STUN, Reason, ServerMessage};
use wireplug_proto::{Side, Topic};

use self::accounts::{Accounts, Buckets};
use self::actions::Refusal;
use self::ownership::{Contacts, Owned};
pub use self::ownership::{Departure, ProbeSource};
pub use self::relaying::{NoPlace, Seat};
use self::topics::Topics;
use crate::access::AccessList;
use crate::limits::{AddressKey, Bucket, Limits, RateTable};

/// Shown in a STUN request, it names a connection.
pub type Token = [u8; 16];

/// How often what nobody uses any more is looked for, where nothing tells when it ends.
const SWEEP: Duration = Duration::from_secs(30);
/// A frame that is not a message costs as many refusals: no honest client sends one.
const MALFORMED_STRIKES: usize = 10;

/// The rendezvous of one server.
#[derive(Debug)]
pub struct Rendezvous {
    limits: Limits,
    stun: Vec<SocketAddr>,
    sources: Vec<ProbeSource>,
    /// Who may use the relay; `None` where there is none.
    relay: Option<AccessList>,
    connections: HashMap<ConnectionId, Connection>,
    tokens: HashMap<Token, ConnectionId>,
    accounts: Accounts,
    topics: Topics,
    contacts: Contacts,
    targets: RateTable<AddressKey>,
    next_id: u64,
    next_sweep: Option<Instant>,
    outputs: VecDeque<Output>,
    counts: Counts,
}

/// One WebSocket connection, never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// To whom.
        to: ConnectionId,
        /// What.
        message: ServerMessage,
    },
    /// Send [`ServerMessage::Offer`]; one of the same topic that still waits to be sent is void.
    Offer {
        /// To whom.
        to: ConnectionId,
        /// The pair's mailbox.
        topic: Topic,
        /// Shared by all that hold it, so that waiting offers cost no copies.
        sealed: Arc<[u8]>,
    },
    /// Send one probe, and then tell the connection that it is on its way.
    Probe {
        /// Who asked.
        by: ConnectionId,
        /// The id of its request.
        id: u64,
        /// Where to.
        endpoint: Endpoint,
        /// What.
        nonce: [u8; 16],
        /// Where from.
        from: Departure,
    },
    /// Ask the relay for a place, and tell [`Rendezvous::allocated`] what it says. The same connection may ask
    /// again, and then gets the same credential.
    Allocate {
        /// For whom.
        seat: Seat,
        /// Whose share of the relay it is of.
        address: AddressKey,
    },
    /// Tell the relay that a side needs its place no more: its bindings end at once.
    Release {
        /// Whose.
        seat: Seat,
    },
    /// Tell the relay that the connection of a place is gone; its bindings live on.
    Abandon {
        /// Whose.
        seat: Seat,
    },
    /// Close a connection, after what is already to be sent to it. It is disconnected already.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why, for people.
        why: &'static str,
    },
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server, or the share of this address, is full.
    #[error("the server has no room for more connections{}", if *.own { " of this address" } else { "" })]
    Full {
        /// Whether it is the share of this address.
        own: bool,
    },
    /// The address connects too often.
    #[error("this address connects too often: wait {} s", .retry_after.as_secs() + 1)]
    TooOften {
        /// When it may again.
        retry_after: Duration,
    },
}

/// How much there is, for operators and for the tests of bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open connections.
    pub connections: usize,
    /// Topics.
    pub topics: usize,
    /// Sides of topics that are on an account.
    pub seats: usize,
    /// Bytes of all kept offers.
    pub offer_bytes: usize,
    /// Offers whose publisher is gone.
    pub expiring: usize,
    /// Addresses with an account.
    pub accounts: usize,
    /// Addresses that lately sent STUN.
    pub contacts: usize,
    /// Offers taken since the start.
    pub published: u64,
    /// Refusals since the start.
    pub refused: u64,
    /// Probes since the start.
    pub probes: u64,
    /// Requests for a place on the relay that the access list denied since the start.
    pub denied: u64,
}

/// Kinds of messages that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Join,
    Publish,
    Verify,
    Allocate,
}

#[derive(Debug)]
struct Connection {
    account: AddressKey,
    token: Token,
    topics: HashMap<Topic, Side>,
    owned: Owned,
    buckets: Buckets,
    strikes: Bucket,
}

impl Rendezvous {
    /// An empty rendezvous. `stun` is announced to clients; probes leave from `sources`.
    pub fn new(limits: Limits, mut stun: Vec<SocketAddr>, sources: Vec<ProbeSource>) -> Self {
        stun.truncate(MAX_STUN);
        Self {
            stun,
            sources,
            relay: None,
            connections: HashMap::new(),
            tokens: HashMap::new(),
            accounts: Accounts::default(),
            topics: Topics::default(),
            contacts: Contacts::new(limits.sources),
            targets: RateTable::new(limits.probes_per_target, limits.sources),
            next_id: 0,
            next_sweep: None,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            limits,
        }
    }

    /// The same with a relay for those whom the list admits.
    #[must_use]
    pub fn with_relay(self, access: AccessList) -> Self {
        Self { relay: Some(access), ..self }
    }

    /// A client has connected from `address` and is greeted; `token` is random, for its STUN requests.
    ///
    /// # Errors
    /// [`ConnectError`] if it must not.
    pub fn connect(
        &mut self,
        now: Instant,
        address: IpAddr,
        token: Token,
    ) -> Result<ConnectionId, ConnectError> {
        self.schedule_sweep(now);
        if self.connections.len() >= self.limits.connections {
            return Err(ConnectError::Full { own: false });
        }
        let key = AddressKey::of(address);
        let account = self.accounts.open(key, &self.limits, now).ok_or(ConnectError::Full { own: false })?;
        if account.connections >= self.limits.connections_per_address {
            return Err(ConnectError::Full { own: true });
        }
        account
            .connects
            .take(self.limits.connects, now)
            .map_err(|retry_after| ConnectError::TooOften { retry_after })?;
        account.connections += 1;
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.tokens.insert(token, id);
        let connection = Connection {
            account: key,
            token,
            topics: HashMap::new(),
            owned: Owned::default(),
            buckets: Buckets::default(),
            strikes: Bucket::default(),
        };
        self.connections.insert(id, connection);
        let (stun, offer_ttl) = (self.stun.clone(), self.limits.offer_ttl);
        self.send(id, ServerMessage::Hello { token, stun, offer_ttl });
        Ok(id)
    }

    /// A client said something.
    pub fn message(&mut self, now: Instant, from: ConnectionId, message: ClientMessage) {
        if !self.connections.contains_key(&from) {
            return; // it was closed while this was on its way
        }
        let about = match &message {
            ClientMessage::Join { topic, .. } => About::Join(*topic),
            ClientMessage::Publish { topic, .. } => About::Publish(*topic),
            ClientMessage::Verify { id, .. } => About::Verify(*id),
            ClientMessage::Allocate { topic, .. } => About::Allocate(*topic),
            ClientMessage::Leave { .. }
            | ClientMessage::Release { .. }
            | ClientMessage::Ping { .. }
            | ClientMessage::Unknown => About::Connection,
        };
        if let Err(refusal) = self.act(now, from, message) {
            self.refuse(now, from, about, refusal, 1);
        }
    }

    /// A client sent a frame that is no message.
    pub fn malformed(&mut self, now: Instant, from: ConnectionId, error: &FrameError) {
        let (reason, detail) = match error {
            FrameError::TooLarge(_) => (Reason::TooLarge, "the frame is too long"),
            FrameError::Malformed(_) | FrameError::Field { .. } => {
                (Reason::Malformed, "the frame is not a wireplug.v1 message")
            }
        };
        self.refuse(now, from, About::Connection, Refusal::new(reason, detail), MALFORMED_STRIKES);
    }

    /// A STUN request from `from` reached our `to`, with a token or without.
    pub fn heard(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, token: Option<Token>) {
        self.schedule_sweep(now);
        let (from, to) = (from.ip().to_canonical(), SocketAddr::new(to.ip().to_canonical(), to.port()));
        self.contacts.note(from, to, now);
        let id = token.and_then(|token| self.tokens.get(&token));
        if let Some(connection) = id.and_then(|id| self.connections.get_mut(id)) {
            connection.owned.see(from, to, now);
        }
    }

    /// A connection has ended. Its offers are kept for `offer_ttl`.
    pub fn disconnect(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.tokens.remove(&connection.token);
        for (topic, side) in connection.topics {
            self.abandon(topic, side, id);
            let relieved = self.topics.vacate(topic, side, Some(now + self.limits.offer_ttl));
            self.accounts.relieve(relieved);
        }
        if let Some(account) = self.accounts.get(connection.account) {
            account.connections = account.connections.saturating_sub(1);
        }
    }

    /// When [`Rendezvous::handle_timeout`] is due, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let expiry = self.topics.next_expiry().map(|at| (at, "an offer expires"));
        let sweep = self.next_sweep.map(|at| (at, "forget idle addresses"));
        expiry.into_iter().chain(sweep).min()
    }

    /// Lets go of what has expired by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(expired) = self.topics.expire(now) {
            self.accounts.relieve(expired.relieved);
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.accounts.sweep(now);
            self.contacts.sweep(now);
            let nothing_left = self.accounts.len() == 0 && self.contacts.len() == 0;
            self.next_sweep = (!nothing_left).then_some(now + SWEEP);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len(),
            topics: self.topics.len(),
            seats: self.accounts.seats(),
            offer_bytes: self.topics.offer_bytes(),
            expiring: self.topics.expiring(),
            accounts: self.accounts.len(),
            contacts: self.contacts.len(),
            ..self.counts
        }
    }

    fn send(&mut self, to: ConnectionId, message: ServerMessage) {
        self.outputs.push_back(Output::Send { to, message });
    }

    fn schedule_sweep(&mut self, now: Instant) {
        self.next_sweep.get_or_insert(now + SWEEP);
    }
}
