//! All rendezvous servers of an interface, used together: the first answer wins, and one may be down.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
    // Ends the forwarding of events when it is dropped.
    _forwarders: JoinSet<()>,
}

struct Server {
    handle: Handle,
    standing: Standing,
}

/// How it stands with one server.
pub(super) enum Standing {
    Up { token: [u8; 16], stun: Vec<StunServer> },
    Down { why: String },
}

impl Servers {
    /// Connects to all, or shares the connections that there are.
    pub(super) fn open(pool: &Pool, fwmark: u32) -> (Self, mpsc::Receiver<ServerEvent>) {
        let (sender, receiver) = mpsc::channel(16);
        let mut forwarders = JoinSet::new();
        let all = pool.connect(fwmark).into_iter().enumerate().map(|(number, handle)| {
            let mut events = handle.subscribe();
            let sender = sender.clone();
            forwarders
                .spawn(async move { while sender.send((number, events.recv().await)).await.is_ok() {} });
            Server { handle, standing: Standing::Down { why: "connecting".to_owned() } }
        });
        let all = all.collect();
        (Self { all, _forwarders: forwarders }, receiver)
    }

    pub(super) fn url(&self, server: usize) -> &ServerUrl {
        self.all[server].handle.url()
    }

    /// The server of a URL.
    pub(super) fn number_of(&self, url: &str) -> Option<usize> {
        self.all.iter().position(|server| server.handle.url().to_string() == url)
    }

    /// Notes that a server is up; says whether it is the first.
    pub(super) fn up(&mut self, server: usize, token: [u8; 16], stun: Vec<StunServer>) -> bool {
        let first = !self.any_up();
        self.all[server].standing = Standing::Up { token, stun };
        first
    }

    /// Notes that a server is down; says why nothing is left if it was the last.
    pub(super) fn down(&mut self, server: usize, why: String) -> Option<String> {
        self.all[server].standing = Standing::Down { why: why.clone() };
        (!self.any_up()).then_some(why)
    }

    fn any_up(&self) -> bool {
        self.all.iter().any(|server| matches!(server.standing, Standing::Up { .. }))
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
        self.all[server].handle.allocate(topic, access);
    }

    pub(super) fn release(&self, server: usize, topic: Topic) {
        self.all[server].handle.release(topic);
    }

    pub(super) fn verify(&self, server: usize, id: u64, endpoint: Endpoint, nonce: [u8; 16]) {
        self.all[server].handle.verify(id, endpoint, nonce);
    }

    pub(super) fn new_id(&self, server: usize) -> u64 {
        self.all[server].handle.new_id()
    }

    pub(super) fn kick(&self) {
        for server in &self.all {
            server.handle.kick();
        }
    }

    /// All STUN servers that can be asked now.
    pub(super) fn stun(&self) -> Vec<StunServer> {
        self.up_ones().flat_map(|(_, _, stun)| stun).cloned().collect()
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

    /// Whether it is a server's second address, to which nothing must be sent while a probe is on its way.
    pub(super) fn is_secondary(&self, address: SocketAddr) -> bool {
        self.up_ones().any(|(_, _, stun)| stun.iter().any(|one| one.secondary == Some(address)))
    }

    /// Every server with its standing, in the order of the config.
    pub(super) fn standing(&self) -> impl Iterator<Item = (&ServerUrl, &Standing)> {
        self.all.iter().map(|server| (server.handle.url(), &server.standing))
    }

    fn up_ones(&self) -> impl Iterator<Item = (usize, &[u8; 16], &Vec<StunServer>)> {
        self.all.iter().enumerate().filter_map(|(number, server)| match &server.standing {
            Standing::Up { token, stun } => Some((number, token, stun)),
            Standing::Down { .. } => None,
        })
    }
}

/// The first address at which a server answers STUN in a family.
fn in_family(stun: &[StunServer], family: Family) -> Option<SocketAddr> {
    stun.iter().map(|server| server.primary).find(|primary| Family::of(primary.ip()) == family)
}
