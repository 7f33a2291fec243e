//! Who is connected, who reads what, and what was ever published.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::mpsc;
use wireplug_proto::rendezvous::ServerMessage;
use wireplug_proto::{Side, Topic};

use super::temper::{Babble, Temper, Told};

/// Older offers of one side that are remembered.
const REMEMBERED: usize = 40;

/// What is to be sent to one client.
pub(super) type Outbox = mpsc::UnboundedSender<ServerMessage>;

/// The state of a rogue server.
#[derive(Debug)]
pub(super) struct Mailboxes {
    temper: Temper,
    clients: BTreeMap<usize, Client>,
    connections: usize,
    history: HashMap<(Topic, Side), Vec<Vec<u8>>>,
    lies: usize,
    published: usize,
}

#[derive(Debug)]
struct Client {
    outbox: Outbox,
    seats: HashMap<Topic, Side>,
}

impl Mailboxes {
    pub(super) fn new(temper: Temper) -> Self {
        Self {
            temper,
            clients: BTreeMap::new(),
            connections: 0,
            history: HashMap::new(),
            lies: 0,
            published: 0,
        }
    }

    pub(super) fn temper(&self) -> &Temper {
        &self.temper
    }

    pub(super) fn set_temper(&mut self, temper: Temper) {
        self.temper = temper;
    }

    pub(super) fn lies(&self) -> usize {
        self.lies
    }

    pub(super) fn published(&self) -> usize {
        self.published
    }

    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// What to say instead of serving the next connection, if the temper is so.
    pub(super) fn next_babble(&mut self) -> Option<Babble> {
        let number = self.connections;
        self.connections += 1;
        match &self.temper {
            Temper::Babbles(kinds) if !kinds.is_empty() => Some(kinds[number % kinds.len()]),
            _ => None,
        }
    }

    pub(super) fn connect(&mut self, outbox: Outbox) -> usize {
        let id = self.clients.keys().last().map_or(0, |last| last + 1);
        self.clients.insert(id, Client { outbox, seats: HashMap::new() });
        id
    }

    pub(super) fn disconnect(&mut self, id: usize) {
        self.clients.remove(&id);
    }

    /// Ends all connections: their outboxes go.
    pub(super) fn hang_up(&mut self) {
        self.clients.clear();
    }

    pub(super) fn join(&mut self, id: usize, topic: Topic, side: Side) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.seats.insert(topic, side);
        tell(&client.outbox, ServerMessage::Joined { topic });
        let key = (topic, side.other());
        if let Some((new, older)) = self.history.get(&key).and_then(|offers| offers.split_last()) {
            let told = self.temper.tell(new, older, &self.elsewhere(topic));
            self.deliver(topic, side.other(), &told);
        }
    }

    pub(super) fn leave(&mut self, id: usize, topic: Topic) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.seats.remove(&topic);
        }
    }

    pub(super) fn publish(&mut self, id: usize, topic: Topic, sealed: Vec<u8>) {
        let Some(side) = self.clients.get(&id).and_then(|client| client.seats.get(&topic)).copied() else {
            return;
        };
        self.published += 1;
        let older = self.history.get(&(topic, side)).map_or(&[][..], Vec::as_slice);
        let told = self.temper.tell(&sealed, older, &self.elsewhere(topic));
        let kept = self.history.entry((topic, side)).or_default();
        kept.push(sealed);
        if kept.len() > REMEMBERED {
            kept.remove(0);
        }
        self.deliver(topic, side, &told);
    }

    pub(super) fn tell(&mut self, topic: Topic, reader: Side, sealed: Vec<u8>) {
        let told = Told { back: Vec::new(), on: vec![sealed], lies: 1 };
        self.deliver(topic, reader.other(), &told);
    }

    /// The last offers of all other topics.
    fn elsewhere(&self, topic: Topic) -> Vec<Vec<u8>> {
        let others = self.history.iter().filter(|((other, _), _)| *other != topic);
        others.filter_map(|(_, offers)| offers.last().cloned()).collect()
    }

    fn deliver(&mut self, topic: Topic, writer: Side, told: &Told) {
        self.lies += told.lies;
        for client in self.clients.values() {
            let Some(side) = client.seats.get(&topic) else { continue };
            let offers = if *side == writer { &told.back } else { &told.on };
            for sealed in offers {
                tell(&client.outbox, ServerMessage::Offer { topic, sealed: sealed.clone() });
            }
        }
    }
}

/// A client that is gone needs to be told nothing.
fn tell(outbox: &Outbox, message: ServerMessage) {
    let _ = outbox.send(message);
}
