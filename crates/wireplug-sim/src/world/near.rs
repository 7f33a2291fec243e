//! What hosts say to their own links: to neighbours, and to the router.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::World;
use crate::Time;
use crate::site::Shared;
use crate::strategies::near::{FromLink, OnLink};

/// What is under way on links, by the number of the host that hears it. Nothing is lost: it would be repeated.
#[derive(Debug)]
pub(super) struct Links {
    queue: BTreeMap<(Time, u64), (usize, FromLink)>,
    sequence: u64,
    /// Customers of one carrier do not hear each other's names.
    names_pass: bool,
}

impl Links {
    pub(super) fn of(shared: Shared) -> Self {
        Self { queue: BTreeMap::new(), sequence: 0, names_pass: shared == Shared::Home }
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take_due(&mut self, now: Time) -> Option<(usize, FromLink)> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    fn send(&mut self, at: Time, to: usize, what: FromLink) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (to, what));
    }
}

impl World {
    pub(super) fn on_link(&mut self, index: usize, what: OnLink) {
        let id = self.hosts[index].id;
        let line = self.hosts[index].line.latency;
        match what {
            OnLink::Announce if !self.links.names_pass => {}
            OnLink::Announce => {
                let neighbours = self.net.neighbours(id);
                for other in 0..self.hosts.len() {
                    if neighbours.contains(&self.hosts[other].id) {
                        let way = line + self.hosts[other].line.latency;
                        self.name(self.now + way, index, other);
                        self.name(self.now + 2 * way, other, index);
                    }
                }
            }
            OnLink::MapPort => {
                let external = self.net.map_port(id, self.hosts[index].device.port());
                self.trace.line(self.now, || format!("host {index}: the router maps {external:?}"));
                if let Some(external) = external {
                    self.links.send(self.now + 2 * line, index, FromLink::Mapped(external));
                }
            }
        }
    }

    /// Lets `to` hear who `from` is, if a daemon is there to say so.
    fn name(&mut self, at: Time, from: usize, to: usize) {
        let (speaker, hearer) = (&self.hosts[from], &self.hosts[to]);
        if speaker.daemon.is_none() || speaker.is_asleep() || !self.net.hears_all(hearer.id) {
            return;
        }
        let (ours, port) = (self.net.addresses(hearer.id), speaker.device.port());
        let shared = self
            .net
            .addresses(speaker.id)
            .iter()
            .filter(|address| ours.iter().any(|ours| ours.is_ipv4() == address.is_ipv4()));
        let addresses = shared.map(|address| SocketAddr::new(*address, port)).collect();
        self.links.send(at, to, FromLink::Neighbour(speaker.own, addresses));
    }

    pub(super) fn hear(&mut self, index: usize, what: FromLink) {
        self.trace.line(self.now, || format!("host {index} hears on its link: {what:?}"));
        let host = &mut self.hosts[index];
        let awake = !host.is_asleep();
        if let Some(daemon) = host.daemon.as_mut().filter(|_| awake) {
            daemon.on_link(self.now, what);
        }
    }
}
