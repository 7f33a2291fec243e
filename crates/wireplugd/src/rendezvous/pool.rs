//! One connection per server and fwmark, however many interfaces use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    servers: Mutex<Servers>,
    state: Arc<State>,
    seed: u64,
    /// By number of the server and fwmark.
    open: Mutex<HashMap<(usize, u32), Weak<Inner>>>,
    tasks: TaskTracker,
}

/// The servers of the config by number. A number is never used again: what is said of a server that is gone is said of
/// no other.
#[derive(Default)]
struct Servers {
    numbered: Vec<(usize, ServerConfig)>,
    used: usize,
}

impl Servers {
    /// Those that are the same keep their numbers.
    fn replace(&mut self, servers: Vec<ServerConfig>) {
        let before = std::mem::take(&mut self.numbered);
        for server in servers {
            let number = before.iter().find(|(_, known)| *known == server).map(|(number, _)| *number);
            let number = number.unwrap_or_else(|| {
                self.used += 1;
                self.used - 1
            });
            self.numbered.push((number, server));
        }
    }
}

impl Pool {
    /// A pool without connections. `seed` is this run's randomness.
    pub fn new(servers: Vec<ServerConfig>, state: Arc<State>, seed: u64) -> Self {
        let (open, tasks) = (Mutex::default(), TaskTracker::new());
        let pool = Self { shared: Arc::new(Shared { servers: Mutex::default(), state, seed, open, tasks }) };
        pool.replace(servers);
        pool
    }

    /// Makes the servers these: one that was there with the same URL and pin is the same and keeps its connections.
    /// Whoever is connected asks again ([`Pool::connect`]); a connection that is wanted no more ends with its handles.
    pub fn replace(&self, servers: Vec<ServerConfig>) {
        self.servers().replace(servers);
    }

    /// Handles of all servers in the order of the config, connected with this mark (0 for none). Connections
    /// that another interface has already are shared; each ends with its last handle. Must be called within
    /// a tokio runtime.
    pub fn connect(&self, fwmark: u32) -> Vec<Handle> {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, inner| inner.strong_count() > 0);
        let servers = self.servers();
        let connect = |(number, server): &(usize, ServerConfig)| {
            if let Some(inner) = open.get(&(*number, fwmark)).and_then(Weak::upgrade) {
                return Handle { inner };
            }
            let seed = self.shared.seed ^ ((*number as u64) << 32) ^ u64::from(fwmark);
            let state = Arc::clone(&self.shared.state);
            let (handle, task) = Handle::new(*number, server.clone(), fwmark, state, seed);
            self.shared.tasks.spawn(task);
            open.insert((*number, fwmark), Arc::downgrade(&handle.inner));
            handle
        };
        servers.numbered.iter().map(connect).collect()
    }

    /// A connection to the relay of the server of this number, with this mark; it is opened when it is needed, and
    /// ends with the link. `None` if the config does not name the server any more. Must be called within a tokio runtime.
    pub(crate) fn relay(&self, number: usize, fwmark: u32, events: RelayEvents) -> Option<RelayLink> {
        let seed = self.shared.seed ^ ((number as u64) << 32) ^ u64::from(fwmark) ^ RELAY_SEED;
        let server = self.servers().numbered.iter().find(|(of, _)| *of == number)?.1.clone();
        let (link, task) =
            RelayLink::new(server, fwmark, Arc::clone(&self.shared.state), seed, number, events);
        self.shared.tasks.spawn(task);
        Some(link)
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.shared.servers.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn a_server_that_is_the_same_keeps_its_connection() {
        let directory = tempfile::tempdir().unwrap();
        let server = |url: &str| ServerConfig::parse(url, None).unwrap();
        let pin = format!("sha256/{}=", "A".repeat(43));
        let pinned = ServerConfig::parse("wss://127.0.0.1:2", Some(&pin)).unwrap();
        let state = Arc::new(State::open(directory.path()));
        let pool = Pool::new(vec![server("wss://127.0.0.1:1"), server("wss://127.0.0.1:2")], state, 1);
        let before = pool.connect(0);
        pool.replace(vec![server("wss://127.0.0.1:3"), pinned, server("wss://127.0.0.1:1")]);
        let after = pool.connect(0);
        let numbers: Vec<_> = after.iter().map(Handle::number).collect();
        assert_eq!(numbers, [2, 3, 0], "another pin makes another server");
        assert!(Arc::ptr_eq(&before[0].inner, &after[2].inner));
        pool.replace(vec![server("wss://127.0.0.1:2")]);
        assert_eq!(pool.connect(0)[0].number(), 4, "not the number that it had before");
    }
}
