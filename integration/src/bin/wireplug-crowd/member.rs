//! One member of the crowd: a daemon and a WireGuard, as far as the other side can tell. Without IO.
//!
//! It follows docs/PROTOCOL.md like a daemon on a public address: one offer with one candidate; checks to whatever the
//! interface offers or checks from, until one is answered; and it leaves the choice of a path, and the first
//! handshake, to the side with the lower key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use wireplug_core::{
    Endpoint, Mapping, Offer, OfferVersion, PrivateKey, PublicKey, Reach, RemoteCandidate, Tier,
    TransactionId,
};
use wireplug_lab::{LabError, Result};
use wireplug_proto::stun::{Incoming, classify};
use wireplug_proto::{Pair, Side};

/// Pauses between the checks of one path; after the last one it is given up.
const GAPS_MS: [u64; 14] = [50, 50, 100, 100, 200, 300, 500, 700, 1000, 1000, 1000, 1000, 1000, 1000];
/// How often WireGuard's timers are looked at.
const TICK: Duration = Duration::from_secs(1);
/// What a daemon sets where there is no keepalive, in seconds.
const KEEPALIVE: u16 = 25;
/// Room for any datagram of WireGuard's that carries nothing.
const SCRATCH: usize = 2048;

/// A member.
pub(crate) struct Member {
    pair: Pair,
    address: Endpoint,
    tunnel: Tunn,
    /// Where WireGuard sends to.
    remote: Option<SocketAddr>,
    connected: bool,
    paths: BTreeMap<Endpoint, Path>,
    heard: Option<OfferVersion>,
    next_tick: Instant,
    flood: Option<Flood>,
}

#[derive(Default)]
struct Path {
    sent: usize,
    next: Option<Instant>,
    asked: Vec<TransactionId>,
}

struct Flood {
    gap: Duration,
    next: Instant,
}

/// What follows of something that happened.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Datagrams to send.
    pub(crate) send: Vec<(SocketAddr, Vec<u8>)>,
    /// Genuine checks that came.
    pub(crate) checks: u64,
    /// Checks among what is to be sent.
    pub(crate) checked: u64,
}

impl Member {
    /// A member with this key, a peer of that interface, on a public address.
    pub(crate) fn new(private: &PrivateKey, of: &PublicKey, address: SocketAddr) -> Result<Self> {
        let unusable = |error: String| LabError::unexpected(format!("no member of the crowd: {error}"));
        let pair = Pair::derive(private, of).map_err(|error| unusable(error.to_string()))?;
        let address = Endpoint::new(address).map_err(|error| unusable(error.to_string()))?;
        let secret = x25519::StaticSecret::from(*private.expose());
        let index = u32::from_ne_bytes(wireplug_integration::random());
        let tunnel = Tunn::new(
            secret,
            x25519::PublicKey::from(*of.as_bytes()),
            None,
            Some(KEEPALIVE),
            index >> 8,
            None,
        );
        Ok(Self {
            pair,
            address,
            tunnel,
            remote: None,
            connected: false,
            paths: BTreeMap::new(),
            heard: None,
            next_tick: Instant::now() + TICK,
            flood: None,
        })
    }

    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Whether it has a session that both sides have.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Makes it send a genuine check every `gap`, as soon as it knows where to.
    pub(crate) fn flood(&mut self, gap: Duration) {
        self.flood = Some(Flood { gap, next: Instant::now() });
    }

    pub(crate) fn floods(&self) -> bool {
        self.flood.is_some()
    }

    /// Its offer, sealed.
    pub(crate) fn offer(&self) -> Vec<u8> {
        // A literal of the right form.
        let strategies = "direct".parse().into_iter();
        let candidates = strategies.map(|strategy| RemoteCandidate {
            endpoint: self.address,
            strategy,
            tier: Tier::Direct,
            reach: Reach::Open,
        });
        let instance = u64::from_ne_bytes(wireplug_integration::random());
        let version = OfferVersion { instance, generation: 1, revision: 1 };
        let offer =
            Offer { version, candidates: candidates.collect(), mapping: Mapping::None, doubts: false };
        self.pair.seal(&offer, wireplug_integration::random())
    }

    /// An offer came.
    pub(crate) fn offered(&mut self, now: Instant, sealed: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let Ok(offer) = self.pair.open(sealed) else { return outcome };
        let stale = self
            .heard
            .is_some_and(|heard| heard.instance == offer.version.instance && !offer.version.replaces(&heard));
        if stale {
            return outcome;
        }
        let elsewhere = self.heard.is_none_or(|heard| {
            (heard.instance, heard.generation) != (offer.version.instance, offer.version.generation)
        });
        self.heard = Some(offer.version);
        if elsewhere {
            self.paths.clear();
        }
        for candidate in &offer.candidates {
            let path = self.paths.entry(candidate.endpoint).or_default();
            if path.sent == 0 {
                path.next = Some(now);
            }
        }
        self.check(now, &mut outcome);
        outcome
    }

    /// A datagram came.
    pub(crate) fn received(&mut self, now: Instant, from: SocketAddr, payload: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let Ok(sender) = Endpoint::new(from) else { return outcome };
        match classify(payload) {
            Incoming::CheckRequest { transaction, .. } => {
                let Ok(request) = self.pair.open_check_request(payload) else { return outcome };
                outcome.checks += 1;
                outcome.send.push((from, self.pair.check_response(transaction, from)));
                let path = self.paths.entry(sender).or_default();
                if path.sent == 0 {
                    path.next = Some(now);
                }
                if request.nominate && self.pair.side() == Side::High {
                    self.remote.get_or_insert(from);
                }
                self.check(now, &mut outcome);
            }
            Incoming::Response { transaction } => {
                let Some(path) = self.paths.get_mut(&sender) else { return outcome };
                if path.asked.contains(&transaction) && self.pair.open_check_response(payload).is_ok() {
                    path.next = None;
                    self.proven(from, &mut outcome);
                }
            }
            Incoming::Probe { .. } => {}
            Incoming::Other => self.wireguard(from, payload, &mut outcome),
        }
        outcome
    }

    /// When [`Member::time_passed`] is to be called.
    pub(crate) fn next(&self) -> Instant {
        let checks = self.paths.values().filter_map(|path| path.next).min();
        let flood = self.flood.as_ref().filter(|_| !self.paths.is_empty()).map(|flood| flood.next);
        checks.into_iter().chain(flood).fold(self.next_tick, Instant::min)
    }

    /// Does what is due.
    pub(crate) fn time_passed(&mut self, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        self.check(now, &mut outcome);
        self.pour(now, &mut outcome);
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            let mut scratch = [0; SCRATCH];
            if let (TunnResult::WriteToNetwork(datagram), Some(to)) =
                (self.tunnel.update_timers(&mut scratch), self.remote)
            {
                outcome.send.push((to, datagram.to_vec()));
            }
        }
        outcome
    }

    /// Sends the checks that are due.
    fn check(&mut self, now: Instant, outcome: &mut Outcome) {
        for (endpoint, path) in
            self.paths.iter_mut().filter(|(_, path)| path.next.is_some_and(|at| at <= now))
        {
            let transaction = TransactionId::from_bytes(wireplug_integration::random());
            path.asked.push(transaction);
            path.next = GAPS_MS.get(path.sent).map(|gap| now + Duration::from_millis(*gap));
            path.sent += 1;
            outcome.send.push((endpoint.addr(), self.pair.check_request(transaction, Tier::Direct, false)));
            outcome.checked += 1;
        }
    }

    /// The flood's checks. What is late is sent at once, so that the rate holds.
    fn pour(&mut self, now: Instant, outcome: &mut Outcome) {
        let Some(flood) = &mut self.flood else { return };
        let Some(to) = self.paths.keys().next() else {
            flood.next = now;
            return;
        };
        while flood.next <= now {
            flood.next += flood.gap;
            let transaction = TransactionId::from_bytes(wireplug_integration::random());
            outcome.send.push((to.addr(), self.pair.check_request(transaction, Tier::Direct, false)));
            outcome.checked += 1;
        }
    }

    /// A path is proven: the side that chooses takes the first one, says so, and shakes hands over it.
    fn proven(&mut self, from: SocketAddr, outcome: &mut Outcome) {
        if self.pair.side() == Side::High || self.remote.is_some() {
            return;
        }
        self.remote = Some(from);
        let transaction = TransactionId::from_bytes(wireplug_integration::random());
        outcome.send.push((from, self.pair.check_request(transaction, Tier::Direct, true)));
        outcome.checked += 1;
        let mut scratch = [0; SCRATCH];
        if let TunnResult::WriteToNetwork(datagram) =
            self.tunnel.format_handshake_initiation(&mut scratch, false)
        {
            outcome.send.push((from, datagram.to_vec()));
        }
    }

    fn wireguard(&mut self, from: SocketAddr, payload: &[u8], outcome: &mut Outcome) {
        /// The types of messages that only a session's other end can make (whitepaper sections 5.4.3 and 5.4.6).
        const RESPONSE: u8 = 2;
        const DATA: u8 = 4;
        let mut scratch = [0; SCRATCH];
        let mut result = self.tunnel.decapsulate(Some(from.ip()), payload, &mut scratch);
        if matches!(result, TunnResult::Err(_)) {
            return;
        }
        // WireGuard roams to the source of what is authentic.
        self.remote = Some(from);
        self.connected |= payload.first().is_some_and(|kind| [RESPONSE, DATA].contains(kind));
        while let TunnResult::WriteToNetwork(datagram) = result {
            outcome.send.push((from, datagram.to_vec()));
            result = self.tunnel.decapsulate(None, &[], &mut scratch);
        }
    }
}
