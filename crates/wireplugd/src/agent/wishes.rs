//! What strategies want of relays, on its way to the event loop: only the latest of each peer and server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use wireplug_core::PublicKey;
use wireplug_strategy::RelayWish;

/// The most wishes that wait: more than a large interface has peers, for a few servers.
const MAX_WAITING: usize = 8192;

/// Wishes that wait. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Wishes {
    shared: Arc<Shared>,
}

/// One wish: for whom, the server's URL, and how; `None` is no more.
pub(super) type Wish = (PublicKey, String, Option<RelayWish>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<BTreeMap<(PublicKey, String), Option<RelayWish>>>,
    arrived: Notify,
}

impl Wishes {
    /// Takes a wish; never waits. One for something new is dropped while too many wait.
    pub(super) fn push(&self, peer: PublicKey, server: &str, wish: Option<RelayWish>) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let about = (peer, server.to_owned());
        if waiting.len() < MAX_WAITING || waiting.contains_key(&about) {
            waiting.insert(about, wish);
        }
        drop(waiting);
        self.shared.arrived.notify_one();
    }

    /// Waits for the next wish. Safe to drop at any await; one listener only.
    pub(super) async fn recv(&self) -> Wish {
        loop {
            let next = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            if let Some(((peer, server), wish)) = next {
                return (peer, server, wish);
            }
            self.shared.arrived.notified().await;
        }
    }
}
