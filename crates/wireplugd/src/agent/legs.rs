//! The legs of one interface's pairs over TLS, one link for each server that has any.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tokio::sync::mpsc;
use tracing::warn;
use wireplug_core::{Endpoint, TransactionId};
use wireplug_proto::relay::Credential;

use super::relays::About;
use crate::relay_link::{RelayEvent, RelayEvents, RelayLink};
use crate::rendezvous::Pool;

/// What a link said, and the number of its server.
pub(super) type LinkEvent = (usize, RelayEvent);

/// All legs over TLS.
pub(super) struct Legs {
    pool: Pool,
    fwmark: u32,
    events: RelayEvents,
    links: BTreeMap<usize, RelayLink>,
    open: BTreeMap<About, Leg>,
    channels: u16,
}

struct Leg {
    channel: u16,
    endpoint: Endpoint,
    listen_port: u16,
    credential: Credential,
}

impl Legs {
    /// None yet; what they hear comes from the receiver.
    pub(super) fn new(pool: Pool, fwmark: u32) -> (Self, mpsc::Receiver<LinkEvent>) {
        let (events, heard) = mpsc::channel(64);
        let (links, open) = (BTreeMap::new(), BTreeMap::new());
        (Self { pool, fwmark, events, links, open, channels: 0 }, heard)
    }

    /// Has a leg, bound with this credential, for WireGuard at this port.
    pub(super) fn have(&mut self, about: About, credential: &Credential, listen_port: u16) {
        if let Some(leg) = self.open.get_mut(&about).filter(|leg| leg.listen_port == listen_port) {
            if leg.credential != *credential {
                leg.credential = credential.clone();
                if let Some(link) = self.links.get(&about.1) {
                    link.credential(leg.channel, credential.clone());
                }
            }
            return;
        }
        self.close(about);
        let Some(channel) = self.new_channel() else { return };
        let (pool, fwmark, events) = (&self.pool, self.fwmark, &self.events);
        let link = match self.links.entry(about.1) {
            Entry::Occupied(link) => link.into_mut(),
            Entry::Vacant(place) => match pool.relay(about.1, fwmark, events.clone()) {
                Some(link) => place.insert(link),
                None => return,
            },
        };
        match link.open(channel, credential.clone(), listen_port) {
            Ok(endpoint) => {
                let credential = credential.clone();
                self.open.insert(about, Leg { channel, endpoint, listen_port, credential });
            }
            Err(error) => warn!(%error, "no socket for a relay over TLS"),
        }
    }

    /// Has none any more.
    pub(super) fn close(&mut self, about: About) {
        let Some(leg) = self.open.remove(&about) else { return };
        if let Some(link) = self.links.get_mut(&about.1) {
            link.close(leg.channel);
        }
        if !self.open.keys().any(|(_, server)| *server == about.1) {
            self.links.remove(&about.1);
        }
    }

    /// Carries out a check.
    pub(super) fn bind(&self, about: About, check: TransactionId) {
        if let (Some(leg), Some(link)) = (self.open.get(&about), self.links.get(&about.1)) {
            link.bind(leg.channel, check);
        }
    }

    /// Whose channel it is, and where the leg begins.
    pub(super) fn of_channel(&self, server: usize, channel: u16) -> Option<(About, Endpoint)> {
        let mut open = self.open.iter();
        let found = open.find(|((_, of), leg)| *of == server && leg.channel == channel);
        found.map(|(about, leg)| (*about, leg.endpoint))
    }

    /// All that are open.
    pub(super) fn all(&self) -> Vec<About> {
        self.open.keys().copied().collect()
    }

    /// The network has changed.
    pub(super) fn kick(&self) {
        for link in self.links.values() {
            link.kick();
        }
    }

    /// A channel that no leg uses.
    fn new_channel(&mut self) -> Option<u16> {
        let used = |channel| self.open.values().any(|leg| leg.channel == channel);
        let free =
            (1..=u16::MAX).map(|step| self.channels.wrapping_add(step)).find(|channel| !used(*channel))?;
        self.channels = free;
        Some(free)
    }
}
