//! One connection per server and fwmark, however many interfaces use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio_util::task::TaskTracker;

use super::{Handle, Inner};
use crate::config::ServerConfig;
use crate::relay_link::{RelayEvents, RelayLink};
use crate::state::State;

/// Makes the waits of relay connections others than those of the same server's rendezvous.
const RELAY_SEED: u64 = 0x7265_6c61_7900_0000;

/// The servers of a config. Cheap to clone. A mark is known only when its device has been read, so each
/// interface asks for its own handles then.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Vec<ServerConfig>,
    state: Arc<State>,
    seed: u64,
    /// By number of the server and fwmark.
    open: Mutex<HashMap<(usize, u32), Weak<Inner>>>,
    tasks: TaskTracker,
}

impl Pool {
    /// A pool without connections. `seed` is this run's randomness.
    pub fn new(servers: Vec<ServerConfig>, state: Arc<State>, seed: u64) -> Self {
        let (open, tasks) = (Mutex::default(), TaskTracker::new());
        Self { shared: Arc::new(Shared { servers, state, seed, open, tasks }) }
    }

    /// Handles of all servers in the order of the config, connected with this mark (0 for none). Connections
    /// that another interface has already are shared; each ends with its last handle. Must be called within
    /// a tokio runtime.
    pub fn connect(&self, fwmark: u32) -> Vec<Handle> {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, inner| inner.strong_count() > 0);
        let servers = self.shared.servers.iter().enumerate();
        servers
            .map(|(number, server)| {
                if let Some(inner) = open.get(&(number, fwmark)).and_then(Weak::upgrade) {
                    return Handle { inner };
                }
                let seed = self.shared.seed ^ ((number as u64) << 32) ^ u64::from(fwmark);
                let state = Arc::clone(&self.shared.state);
                let (handle, task) = Handle::new(server.clone(), fwmark, state, seed);
                self.shared.tasks.spawn(task);
                open.insert((number, fwmark), Arc::downgrade(&handle.inner));
                handle
            })
            .collect()
    }

    /// A connection to the relay of the server of this number, with this mark; it is opened when it is needed, and
    /// ends with the link. Must be called within a tokio runtime.
    pub(crate) fn relay(&self, number: usize, fwmark: u32, events: RelayEvents) -> RelayLink {
        let seed = self.shared.seed ^ ((number as u64) << 32) ^ u64::from(fwmark) ^ RELAY_SEED;
        let (server, state) = (self.shared.servers[number].clone(), Arc::clone(&self.shared.state));
        let (link, task) = RelayLink::new(server, fwmark, state, seed, number, events);
        self.shared.tasks.spawn(task);
        link
    }

    /// Waits until all connections have ended, each after the last of its handles.
    pub async fn finished(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn interfaces_with_one_mark_share_a_connection() {
        let directory = tempfile::tempdir().unwrap();
        let servers =
            ["wss://127.0.0.1:1", "wss://127.0.0.1:2"].map(|url| ServerConfig::parse(url, None).unwrap());
        let pool = Pool::new(servers.to_vec(), Arc::new(State::open(directory.path())), 1);
        let first = pool.connect(0);
        let second = pool.connect(0);
        let marked = pool.connect(7);
        let same = |a: &Handle, b: &Handle| Arc::ptr_eq(&a.inner, &b.inner);
        assert_eq!(first.len(), 2);
        assert!(same(&first[0], &second[0]) && same(&first[1], &second[1]));
        assert!(!same(&first[0], &first[1]) && !same(&first[0], &marked[0]));
        drop((first, second));
        pool.connect(7);
        assert_eq!(pool.shared.open.lock().unwrap().len(), 2);
    }
}
