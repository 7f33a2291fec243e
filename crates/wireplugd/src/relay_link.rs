//! The legs of an interface's pairs over TLS, to one server's relay: one WebSocket for all of them.
//!
//! | part | what |
//! |---|---|
//! | [`RelayLink`] | what the event loop calls: open and close a leg, bind it |
//! | `channels` | what is to be written and whose answer is awaited, without IO |
//! | `leg` | one leg's UDP socket on this host, which WireGuard sends to |
//! | `connection` | the task that keeps the WebSocket and moves packets |

mod channels;
mod connection;
mod leg;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use wireplug_core::{Endpoint, TransactionId};
use wireplug_proto::relay::{BindRefusal, Credential};

use crate::config::ServerConfig;
use crate::state::State;
use channels::Channels;
use leg::Leg;

/// Where links tell what they heard: by the number of the server.
pub type RelayEvents = mpsc::Sender<(usize, RelayEvent)>;

/// What a relay said over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayEvent {
    /// The channel is bound.
    Bound {
        /// Which.
        channel: u16,
        /// The checks that this carries out.
        checks: Vec<TransactionId>,
        /// Whether the other side is bound too.
        other_side: bool,
    },
    /// The channel is not bound.
    Refused {
        /// Which.
        channel: u16,
        /// Why.
        refusal: BindRefusal,
    },
}

/// The legs to one server's relay. The connection is open while there are any; it ends when this is dropped.
pub struct RelayLink {
    shared: Arc<Shared>,
    legs: BTreeMap<u16, Leg>,
    // Stops the task.
    _stop: DropGuard,
}

/// What the link and its task have in common.
#[derive(Default)]
struct Shared {
    channels: Mutex<Channels>,
    /// There is something new to write, or another set of legs.
    work: Notify,
    /// The network has changed.
    kicked: Notify,
}

impl RelayLink {
    /// A link without legs, and its task still to be spawned.
    pub fn new(
        server: ServerConfig,
        fwmark: u32,
        state: Arc<State>,
        seed: u64,
        number: usize,
        events: RelayEvents,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared::default());
        let task = connection::Task { shared: Arc::clone(&shared), number, events, stop: stop.clone() };
        let task = task.run(server, fwmark, state, seed);
        (Self { shared, legs: BTreeMap::new(), _stop: stop.drop_guard() }, task)
    }

    /// Opens a leg for WireGuard at this port, bound with this credential. Says where it begins on this host.
    ///
    /// # Errors
    /// What the system says of its UDP socket.
    pub fn open(&mut self, channel: u16, credential: Credential, listen_port: u16) -> io::Result<Endpoint> {
        let leg = Leg::open(channel, listen_port, Arc::clone(&self.shared))?;
        let endpoint = leg.endpoint();
        self.change(|channels| channels.open(channel, credential, leg.socket(), listen_port));
        self.legs.insert(channel, leg);
        Ok(endpoint)
    }

    /// Binds a leg with another credential.
    pub fn credential(&self, channel: u16, credential: Credential) {
        self.change(|channels| channels.credential(channel, credential));
    }

    /// Binds a leg once more, for a check.
    pub fn bind(&self, channel: u16, check: TransactionId) {
        self.change(|channels| channels.bind(channel, Some(check)));
    }

    /// Ends a leg.
    pub fn close(&mut self, channel: u16) {
        if self.legs.remove(&channel).is_some() {
            self.change(|channels| channels.close(channel));
        }
    }

    /// The network has changed: a connection that cannot have survived is made anew at once.
    pub fn kick(&self) {
        self.shared.kicked.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut Channels)) {
        change(&mut self.shared.channels());
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
