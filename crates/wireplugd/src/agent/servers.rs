//! All rendezvous servers of an interface, used together: the first answer wins, and one may be down.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use wireplug_core::{Endpoint, Family, PublicKey};
use wireplug_proto::rendezvous::AccessToken;
use wireplug_proto::{Pair, Topic};
use wireplug_strategy::StunServer;

use super::pairs::Pairs;
use crate::config::ServerUrl;
use crate::rendezvous::{Event, Handle, Membership, Pool};

/// What a server said, by its number.
pub(super) type ServerEvent = (usize, Event);

/// The servers, and which of them can be used.
pub(super) struct Servers {
    all: Vec<Server>,
    fwmark: u32,
    said: mpsc::Sender<ServerEvent>,
    // Ends the forwarding of events when it is dropped.
    forwarders: JoinSet<()>,
}

struct Server {
    handle: Handle,
    standing: Standing,
    forwarder: AbortHandle,
}

/// How it stands with one server.
pub(super) enum Standing {
    Up {
        token: [u8; 16],
        stun: Vec<StunServer>,
    },
    /// `kept` is where it answered STUN on this host's network of before, when it was up a moment ago.
    Down {
        why: String,
        kept: Vec<StunServer>,
    },
}

impl Servers {
    /// Connects to all, or shares the connections that there are.
    pub(super) fn open(pool: &Pool, fwmark: u32) -> (Self, mpsc::Receiver<ServerEvent>) {
        let (said, receiver) = mpsc::channel(16);
        let mut servers = Self { all: Vec::new(), fwmark, said, forwarders: JoinSet::new() };
        servers.follow(pool, &Pairs::default());
        (servers, receiver)
    }

    /// Makes the servers those of the pool. One that is new is told all that the others were; returns the numbers of
    /// those that are gone.
    pub(super) fn follow(&mut self, pool: &Pool, pairs: &Pairs) -> Vec<usize> {
        while self.forwarders.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut self.all);
        for handle in pool.connect(self.fwmark) {
            let number = handle.number();
            let known = before.iter().position(|server| server.handle.number() == number);
            let server = match known.map(|at| before.remove(at)) {
                Some(server) => server,
                None => self.introduce(handle, &before, pairs),
            };
            self.all.push(server);
        }
        let gone = before.iter().map(|server| {
            server.forwarder.abort();
            server.handle.number()
        });
        gone.collect()
    }

    /// Tells a server that is new all that the others know.
    fn introduce(&mut self, handle: Handle, before: &[Server], pairs: &Pairs) -> Server {
        for (_, pair) in pairs.iter() {
            handle.join(Membership::of(pair));
            let topic = pair.topic();
            let mut others = before.iter().chain(&self.all);
            if let Some(offer) = others.find_map(|server| server.handle.offer(topic)) {
                handle.publish(topic, offer);
            }
        }
        let (number, mut events, said) = (handle.number(), handle.subscribe(), self.said.clone());
        let forward = async move { while said.send((number, events.recv().await)).await.is_ok() {} };
        let forwarder = self.forwarders.spawn(forward);
        Server {
            handle,
            standing: Standing::Down { why: "connecting".to_owned(), kept: Vec::new() },
            forwarder,
        }
    }

    fn get(&self, server: usize) -> Option<&Server> {
        self.all.iter().find(|one| one.handle.number() == server)
    }

    /// The URL of a server that is still there.
    pub(super) fn url(&self, server: usize) -> Option<&ServerUrl> {
        self.get(server).map(|server| server.handle.url())
    }

    /// The server of a URL.
    pub(super) fn number_of(&self, url: &str) -> Option<usize> {
        let known = self.all.iter().find(|server| server.handle.url().to_string() == url);
        known.map(|server| server.handle.number())
    }

    /// Notes that a server is up; says whether it is the first.
    pub(super) fn up(&mut self, server: usize, token: [u8; 16], stun: Vec<StunServer>) -> bool {
        let first = !self.any_up();
        self.set(server, Standing::Up { token, stun });
        first
    }

    /// Notes that a server is down; says why nothing is left if it was the last. Where only this host `moved`, it is asked
    /// for our address meanwhile, so that the answer is there when the server is.
    pub(super) fn down(&mut self, server: usize, why: String, moved: bool) -> Option<String> {
        let kept = match self.get(server).map(|server| &server.standing) {
            Some(Standing::Up { stun, .. } | Standing::Down { kept: stun, .. }) if moved => stun.clone(),
            Some(Standing::Up { .. } | Standing::Down { .. }) | None => Vec::new(),
        };
        self.set(server, Standing::Down { why: why.clone(), kept });
        (!self.any_up()).then_some(why)
    }

    fn set(&mut self, server: usize, standing: Standing) {
        if let Some(server) = self.all.iter_mut().find(|one| one.handle.number() == server) {
            server.standing = standing;
        }
    }

    /// Whether any can be used.
    pub(super) fn any_up(&self) -> bool {
        self.all.iter().any(|server| matches!(server.standing, Standing::Up { .. }))
    }

    /// Why none will be up, if the config names none.
    pub(super) fn why_none(&self) -> Option<String> {
        self.all.is_empty().then(|| "no server is configured".to_owned())
    }

    pub(super) fn join(&self, pair: &Pair) {
        for server in &self.all {
            server.handle.join(Membership::of(pair));
        }
    }

    pub(super) fn leave(&self, topic: Topic) {
        for server in &self.all {
            server.handle.leave(topic);
        }
    }

    /// Leaves the topics of all pairs but those to keep.
    pub(super) fn leave_all(&self, pairs: &Pairs, keep: impl Fn(&PublicKey) -> bool) {
        for (_, pair) in pairs.iter().filter(|(peer, _)| !keep(peer)) {
            self.leave(pair.topic());
        }
    }

    pub(super) fn publish(&self, topic: Topic, sealed: &[u8]) {
        for server in &self.all {
            server.handle.publish(topic, sealed.to_vec());
        }
    }

    pub(super) fn allocate(&self, server: usize, topic: Topic, access: Option<AccessToken>) {
        if let Some(server) = self.get(server) {
            server.handle.allocate(topic, access);
        }
    }

    pub(super) fn release(&self, server: usize, topic: Topic) {
        if let Some(server) = self.get(server) {
            server.handle.release(topic);
        }
    }

    pub(super) fn verify(&self, server: usize, id: u64, endpoint: Endpoint, nonce: [u8; 16]) {
        if let Some(server) = self.get(server) {
            server.handle.verify(id, endpoint, nonce);
        }
    }

    pub(super) fn new_id(&self, server: usize) -> u64 {
        self.get(server).map_or(0, |server| server.handle.new_id())
    }

    pub(super) fn kick(&self) {
        for server in &self.all {
            server.handle.kick();
        }
    }

    /// All STUN servers that can be asked now, or likely.
    pub(super) fn stun(&self) -> Vec<StunServer> {
        let all = self.all.iter().flat_map(|server| match &server.standing {
            Standing::Up { stun, .. } | Standing::Down { kept: stun, .. } => stun,
        });
        all.cloned().collect()
    }

    /// The first server that is up and answers STUN in a family, with where it does.
    pub(super) fn first_up(&self, family: Family) -> Option<(usize, SocketAddr)> {
        self.up_ones().find_map(|(number, _, stun)| Some((number, in_family(stun, family)?)))
    }

    /// The token to show at this STUN address, if it is the first address of a server of ours.
    pub(super) fn token_of(&self, address: SocketAddr) -> Option<[u8; 16]> {
        let mut owners = self.up_ones().filter(|(_, _, stun)| stun.iter().any(|one| one.primary == address));
        owners.next().map(|(_, token, _)| *token)
    }

    /// Whether it is a server's second address to which nothing must be sent now: while it is `probing`, and while it is away
    /// and will be up again in a moment, when it may be asked for a probe.
    pub(super) fn holds_back(&self, address: SocketAddr, probing: bool) -> bool {
        self.all.iter().any(|server| {
            let (stun, holds) = match &server.standing {
                Standing::Up { stun, .. } => (stun, probing),
                Standing::Down { kept, .. } => (kept, true),
            };
            holds && stun.iter().any(|one| one.secondary == Some(address))
        })
    }

    /// Every server with its standing, in the order of the config.
    pub(super) fn standing(&self) -> impl Iterator<Item = (&ServerUrl, &Standing)> {
        self.all.iter().map(|server| (server.handle.url(), &server.standing))
    }

    fn up_ones(&self) -> impl Iterator<Item = (usize, &[u8; 16], &Vec<StunServer>)> {
        self.all.iter().filter_map(|server| match &server.standing {
            Standing::Up { token, stun } => Some((server.handle.number(), token, stun)),
            Standing::Down { .. } => None,
        })
    }
}

/// The first address at which a server answers STUN in a family.
fn in_family(stun: &[StunServer], family: Family) -> Option<SocketAddr> {
    stun.iter().map(|server| server.primary).find(|primary| Family::of(primary.ip()) == family)
}
