//! Requests to bind over UDP: who may, and what is answered (docs/PROTOCOL.md, Relay).
//!
//! The order of the questions keeps a flood cheap: a credential that is not known costs a look-up; a MAC is computed
//! only for who has shown to receive at its source; the ledger's lock is taken only for who has the key.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wireplug_proto::relay::BindRefusal;
use wireplug_proto::stun::relay::{challenge, receive, refusal, success};

use super::counters::{Counts, Dropped, Event, Tally};
use super::state::{Binding, Relay, UdpBind};
use super::table::Path;
use crate::limits::{AddressKey, Bucket, Rate, RateTable};

/// Unproven answers to one address: all pairs of a household or office that come back at once.
const PER_SOURCE: Rate = Rate { burst: 256, every: Duration::from_millis(20) };
/// Addresses with a bucket of their own, on each thread.
const SOURCES: usize = 4096;
/// Challenges of one thread to sources whose credential is known.
const CHALLENGES: Rate = Rate { burst: 4096, every: Duration::from_micros(200) };
/// Answers of one thread to those whose credential is not known: a hint only, for after a restart.
const UNKNOWN: Rate = Rate { burst: 1024, every: Duration::from_micros(1000) };

/// Answers requests on one thread. Those with a credential and those without do not share their limits.
#[derive(Debug)]
pub(super) struct Answerer {
    challenged: RateTable<AddressKey>,
    challenges: Bucket,
    refused: RateTable<AddressKey>,
    refusals: Bucket,
}

/// A datagram that may be a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) source: SocketAddr,
    /// The address of the relay that it came to.
    pub(super) relay: SocketAddr,
    /// The number of the socket.
    pub(super) socket: u16,
    pub(super) payload: &'a [u8],
}

impl Answerer {
    pub(super) fn new() -> Self {
        Self {
            challenged: RateTable::new(PER_SOURCE, SOURCES),
            challenges: Bucket::default(),
            refused: RateTable::new(PER_SOURCE, SOURCES),
            refusals: Bucket::default(),
        }
    }

    /// What to answer, if anything. No answer is longer than its request.
    pub(super) fn answer(
        &mut self,
        relay: &Relay,
        counts: &Counts,
        now: Instant,
        request: Request<'_>,
    ) -> Option<Vec<u8>> {
        let Request { source, relay: at, socket, payload } = request;
        let Some(bind) = receive(payload).filter(|_| source.port() != 0) else {
            counts.dropped(Dropped::Shape, Tally { packets: 1, bytes: payload.len() as u64 });
            return None;
        };
        let address = AddressKey::of(source.ip());
        let Some(key) = relay.key(&bind.id) else {
            counts.event(Event::Unknown);
            let allowed = self.refused.take(address, now).is_ok() && self.refusals.take(UNKNOWN, now).is_ok();
            return allowed.then(|| refusal(bind.transaction, BindRefusal::Unknown));
        };
        if !bind.nonce.is_some_and(|nonce| relay.knows(&nonce, now, source, at)) {
            counts.event(Event::Challenged);
            let allowed =
                self.challenged.take(address, now).is_ok() && self.challenges.take(CHALLENGES, now).is_ok();
            return allowed.then(|| challenge(bind.transaction, &relay.nonce(now, source, at)));
        }
        if !bind.is_by(&key) {
            counts.event(Event::Forged);
            return None;
        }
        let asked = UdpBind { id: bind.id, order: bind.order, path: Path::new(source, at), socket };
        match relay.bind_udp(now, asked, counts) {
            Binding::Bound(bound) => Some(success(&key, bind.transaction, source, bound)),
            Binding::Refused(why) => Some(refusal(bind.transaction, why)),
            Binding::Replayed => None,
        }
    }
}
