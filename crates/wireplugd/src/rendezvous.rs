//! The connection to a rendezvous server: one per server and fwmark, shared by all interfaces.
//!
//! | part | what |
//! |---|---|
//! | [`Handle`] | what the interfaces call: join, publish, verify, kick |
//! | [`Events`] | what each of them hears; a slow one loses only what newer news replaces |
//! | `session` | what is to be said when, without IO: also after a reconnect, and when the server refuses |
//! | `addresses` | where the server's services are |
//! | `backoff` | how long to wait before the next try |
//! | `connect` | resolver, TCP, TLS and WebSocket, one after the other |
//! | `race` | tries that race while the network changes |
//! | `link` | the task that moves bytes between them |

mod addresses;
pub(crate) mod backoff;
pub(crate) mod connect;
mod events;
pub(crate) mod link;
mod pool;
pub(crate) mod race;
mod session;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use wireplug_core::Endpoint;
use wireplug_proto::rendezvous::{About, AccessToken, Allocation, ClientMessage, Reason};
use wireplug_proto::{Commitment, JoinToken, Pair, Side, Topic};
use wireplug_strategy::StunServer;

pub use connect::ConnectError;
pub use events::Events;
pub use pool::Pool;

use crate::config::{ServerConfig, ServerUrl};
use crate::state::State;
use session::Session;

/// What a server has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server can be used. Topics and offers have been handed over already; verifications that were
    /// under way before are lost.
    Up {
        /// Shown in a STUN request from the WireGuard port, it makes that address ours for verification.
        token: [u8; 16],
        /// Where the server answers STUN, at most one entry for each family.
        stun: Vec<StunServer>,
    },
    /// The server cannot be used now; it is tried again until it can.
    Down {
        /// What was tried, and what to do.
        why: String,
        /// It was up, and is away only because this host's network is another one: it is likely back in a moment, with the
        /// same services.
        moved: bool,
    },
    /// The other side's offer in a topic.
    Offer {
        /// Of which pair.
        topic: Topic,
        /// For [`Pair::open`].
        sealed: Vec<u8>,
    },
    /// A probe is on its way.
    Probed {
        /// Of [`Handle::verify`].
        id: u64,
    },
    /// The server has a place on its relay for a pair: the first, or another one that replaces the one before.
    Allocated {
        /// Of which pair.
        topic: Topic,
        /// Where, and what to bind with. No address is unspecified.
        allocation: Allocation,
    },
    /// The other side of a pair asked for the relay.
    RelayCalled {
        /// Of which pair.
        topic: Topic,
    },
    /// Something was not done. Joins, offers and places that were refused for a time are asked for again without
    /// being told to; verifications are not.
    Refused {
        /// What.
        about: About,
        /// Why.
        reason: Reason,
        /// The same for people.
        detail: String,
        /// When asking again may help.
        retry_after: Option<Duration>,
    },
}

/// What is needed to join a pair's topic.
#[derive(Clone)]
pub struct Membership {
    topic: Topic,
    side: Side,
    token: JoinToken,
    other_commitment: Commitment,
}

impl Membership {
    /// The membership of this side of a pair.
    pub fn of(pair: &Pair) -> Self {
        Self {
            topic: pair.topic(),
            side: pair.side(),
            token: pair.token().clone(),
            other_commitment: pair.other_commitment(),
        }
    }

    /// The pair's mailbox.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    fn join(&self) -> ClientMessage {
        ClientMessage::Join {
            topic: self.topic,
            side: self.side,
            token: self.token.clone(),
            other_commitment: self.other_commitment,
        }
    }
}

/// A server to talk to. Cheap to clone; none of its calls waits. The connection ends with the last of them.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    number: usize,
    url: ServerUrl,
    shared: Arc<Shared>,
    // Stops the task.
    _stop: DropGuard,
}

/// What the handles and the task have in common.
#[derive(Default)]
struct Shared {
    session: Mutex<Session>,
    subscribers: events::Subscribers,
    /// There may be something new to say.
    work: Notify,
    /// The network has changed.
    kicked: Notify,
}

impl Handle {
    /// Connects to a server, with this mark on all sockets (0 for none), and again whenever the connection
    /// is lost. `seed` spreads the waiting times of many daemons. Must be called within a tokio runtime.
    pub fn spawn(server: ServerConfig, fwmark: u32, state: Arc<State>, seed: u64) -> Self {
        let (handle, task) = Self::new(0, server, fwmark, state, seed);
        tokio::spawn(task);
        handle
    }

    /// The same with the task still to be spawned.
    fn new(
        number: usize,
        server: ServerConfig,
        fwmark: u32,
        state: Arc<State>,
        seed: u64,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared::default());
        let url = server.url.clone();
        let task = link::run(Arc::clone(&shared), server, fwmark, state, seed, stop.clone());
        (Self { inner: Arc::new(Inner { number, url, shared, _stop: stop.drop_guard() }) }, task)
    }

    /// The server's number in its [`Pool`], which no other server has or had there.
    pub fn number(&self) -> usize {
        self.inner.number
    }

    /// The server's URL.
    pub fn url(&self) -> &ServerUrl {
        &self.inner.url
    }

    /// All that the server says from now on, after whether it can be used now. Offers of other interfaces'
    /// topics are among it.
    pub fn subscribe(&self) -> Events {
        let session = self.inner.shared.session();
        self.inner.shared.subscribers.add(session.standing())
    }

    /// An id for [`Handle::verify`] that no other interface uses.
    pub fn new_id(&self) -> u64 {
        self.inner.shared.session().new_id()
    }

    /// Wants the offers of a topic, over all reconnects, until [`Handle::leave`].
    pub fn join(&self, membership: Membership) {
        self.change(|session| session.join(membership));
    }

    /// Wants no more of a topic, and our offer there forgotten.
    pub fn leave(&self, topic: Topic) {
        self.change(|session| session.leave(topic));
    }

    /// Makes this our offer in a topic that was joined. Of several in a hurry only the latest is sent; it is
    /// sent again after each reconnect.
    pub fn publish(&self, topic: Topic, sealed: Vec<u8>) {
        self.change(|session| session.publish(topic, sealed));
    }

    /// Our offer in a topic, as it was last published.
    pub fn offer(&self, topic: Topic) -> Option<Vec<u8>> {
        self.inner.shared.session().offer(topic)
    }

    /// Wants a place on the server's relay for a topic that was joined, over all reconnects, until
    /// [`Handle::release`]; answered by [`Event::Allocated`] or [`Event::Refused`]. Said again, it is asked again.
    pub fn allocate(&self, topic: Topic, access: Option<AccessToken>) {
        self.change(|session| session.allocate(topic, access));
    }

    /// Wants no more of the relay for a topic.
    pub fn release(&self, topic: Topic) {
        self.change(|session| session.release(topic));
    }

    /// Asks the server for one probe to an address of ours, answered by [`Event::Probed`] or
    /// [`Event::Refused`]. Lost while the server cannot be used: ask again after [`Event::Up`].
    pub fn verify(&self, id: u64, endpoint: Endpoint, nonce: [u8; 16]) {
        self.change(|session| session.verify(id, endpoint, nonce));
    }

    /// The network has changed: makes sure soon that the connection still works, or tries at once to get one.
    pub fn kick(&self) {
        self.inner.shared.kicked.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut Session)) {
        change(&mut self.inner.shared.session());
        self.inner.shared.work.notify_one();
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
