//! Places at relays: what they were asked for, and the binds to their ports. Without IO.
//!
//! A check towards a relay port is carried out as a bind. What the server gave is bound anew by itself when the server
//! gives another credential, as after its restart: a tunnel that is relayed must not wait for somebody to doubt it.

mod leg;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use wireplug_core::{Endpoint, PublicKey, TransactionId};
use wireplug_proto::relay::{BindRefusal, Credential};
use wireplug_proto::rendezvous::{Allocation, Reason};
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};
use wireplug_strategy::{LegStanding, RelayLeg, RelayPlace, RelayRefusal, RelayStanding, RelayWish};

use leg::{Asked, Leg};

/// How often at most the server is asked again because a relay does not know our credential: anybody on the way can
/// say so.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The most relay ports that one place remembers, besides those that are bound.
const MAX_LEGS: usize = 8;

/// A peer and the number of a server.
pub(super) type About = (PublicKey, usize);

/// All places of one interface.
#[derive(Debug, Default)]
pub(super) struct Relays {
    places: BTreeMap<About, Place>,
    revision: u64,
}

#[derive(Debug)]
struct Place {
    wish: RelayWish,
    standing: RelayStanding,
    credential: Option<Credential>,
    /// Of the last request with this credential.
    order: u64,
    legs: BTreeMap<Endpoint, Leg>,
    local: Option<Endpoint>,
    asked_again: Option<Instant>,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It answers nothing of ours.
    NotOurs,
    /// Nothing is to be done.
    Nothing,
    /// Both sides are bound: the path that this check was for is proven.
    Proven { peer: PublicKey, transaction: TransactionId },
    /// To be sent there at once.
    Again { payload: Vec<u8> },
    /// The server is to be asked for the place again.
    Ask(About),
}

impl Relays {
    /// Wants a place in this way. Says whether the server is to be asked for it.
    pub(super) fn want(&mut self, about: About, wish: RelayWish) -> bool {
        self.revision += 1;
        let Some(place) = self.places.get_mut(&about) else {
            self.places.insert(about, Place::new(wish));
            return true;
        };
        let other_token = place.wish.access != wish.access;
        place.wish = wish;
        other_token
    }

    /// Wants it no more. Says whether there was one.
    pub(super) fn release(&mut self, about: About) -> bool {
        self.revision += 1;
        self.places.remove(&about).is_some()
    }

    /// Forgets the places of peers that are no more.
    pub(super) fn retain(&mut self, is_peer: impl Fn(&PublicKey) -> bool) {
        let before = self.places.len();
        self.places.retain(|(peer, _), _| is_peer(peer));
        self.revision += u64::from(self.places.len() != before);
    }

    /// All places, whatever was asked or given.
    pub(super) fn all(&self) -> Vec<About> {
        self.places.keys().copied().collect()
    }

    /// What is wanted of a place, and what it is bound with.
    pub(super) fn wish(&self, about: About) -> Option<(&RelayWish, Option<&Credential>)> {
        self.places.get(&about).map(|place| (&place.wish, place.credential.as_ref()))
    }

    /// The leg over TLS of a place begins here, or there is none.
    pub(super) fn set_local(&mut self, about: About, local: Option<Endpoint>) {
        if let Some(place) = self.places.get_mut(&about)
            && place.local != local
        {
            place.local = local;
            self.revision += 1;
        }
    }

    /// The server has a place.
    pub(super) fn allocated(&mut self, now: Instant, about: About, allocation: Allocation) {
        let Some(place) = self.places.get_mut(&about) else { return };
        self.revision += 1;
        let Allocation { credential, relays, ports, lifetime: _ } = allocation;
        place.legs.retain(|endpoint, _| is_within(*endpoint, &relays, &ports));
        if place.credential.as_ref() != Some(&credential) {
            place.order = 0;
            for leg in place.legs.values_mut() {
                leg.bind_anew(now);
            }
        }
        place.credential = Some(credential);
        place.standing = RelayStanding::Open { addresses: relays, ports };
    }

    /// The server has none.
    pub(super) fn refused(
        &mut self,
        about: About,
        reason: Reason,
        detail: String,
        retry_after: Option<Duration>,
    ) {
        let Some(place) = self.places.get_mut(&about) else { return };
        let why = match reason {
            Reason::Unsupported => RelayRefusal::Off,
            Reason::Denied => RelayRefusal::Denied,
            Reason::RateLimited | Reason::Full => RelayRefusal::Limit,
            _ => RelayRefusal::Other,
        };
        // What was given before a reconnect may well hold still.
        if why != RelayRefusal::Limit || place.credential.is_none() {
            place.credential = None;
            place.legs.clear();
            place.standing = RelayStanding::Refused { why, detail, retry_after };
            self.revision += 1;
        }
    }

    /// The network is another one: nobody has heard of us from here.
    pub(super) fn network_changed(&mut self) {
        self.revision += 1;
        for leg in self.places.values_mut().flat_map(|place| place.legs.values_mut()) {
            leg.forget();
        }
    }

    /// Whether an endpoint of a peer is a relay port of one of its places.
    pub(super) fn is_relay(&self, peer: &PublicKey, to: Endpoint) -> bool {
        self.of_peer(peer).any(|(_, place)| place.has(to))
    }

    /// Whether a peer has a place that a server gave.
    pub(super) fn has_place(&self, peer: &PublicKey) -> bool {
        self.of_peer(peer).any(|(_, place)| place.credential.is_some())
    }

    /// The place of a peer whose leg over TLS begins at this endpoint.
    pub(super) fn over_tls(&self, peer: &PublicKey, to: Endpoint) -> Option<About> {
        self.of_peer(peer).find(|(_, place)| place.local == Some(to)).map(|(about, _)| *about)
    }

    /// The bind that carries out a check.
    pub(super) fn check(
        &mut self,
        now: Instant,
        peer: &PublicKey,
        to: Endpoint,
        transaction: TransactionId,
    ) -> Option<Vec<u8>> {
        let place = self.places.range_mut((*peer, 0)..=(*peer, usize::MAX)).map(|(_, place)| place);
        let place = place.into_iter().find(|place| place.has(to))?;
        place.make_room(to);
        place.legs.entry(to).or_default().asked(now, Asked::new(transaction, Some(transaction)));
        place.request(to, transaction)
    }

    /// A bind could not be sent.
    pub(super) fn unsendable(&mut self, peer: &PublicKey, to: Endpoint) {
        let mut legs = self.places.iter_mut().filter(|((of, _), _)| of == peer).map(|(_, place)| place);
        if let Some(leg) = legs.find_map(|place| place.legs.get_mut(&to)) {
            self.revision += u64::from(leg.stand(LegStanding::Silent));
        }
    }

    /// Takes what came from a relay port. `fresh` is a new transaction, for what may have to be sent again.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: Endpoint,
        transaction: TransactionId,
        payload: &[u8],
        fresh: TransactionId,
    ) -> Answered {
        let mut places = self.places.iter_mut();
        let asked = places.find_map(|(about, place)| {
            let asked = place.legs.get_mut(&from)?.take(transaction)?;
            Some((*about, place, asked))
        });
        let Some((about, place, asked)) = asked else { return Answered::NotOurs };
        let (Some(credential), Some(leg)) = (&place.credential, place.legs.get_mut(&from)) else {
            return Answered::Nothing;
        };
        let Ok((_, answer)) = parse_answer(payload, &credential.key) else {
            // Somebody else's: the true one may come yet.
            leg.put_back(asked);
            return Answered::Nothing;
        };
        match answer {
            BindAnswer::Bound { bound, .. } => {
                self.revision += u64::from(leg.bound());
                match asked.check.filter(|_| bound.other_side) {
                    Some(transaction) => Answered::Proven { peer: about.0, transaction },
                    None => Answered::Nothing,
                }
            }
            BindAnswer::Challenge { nonce } => {
                let Some(again) = asked.again(fresh) else { return Answered::Nothing };
                leg.challenged(now, nonce, again);
                place.request(from, fresh).map_or(Answered::Nothing, |payload| Answered::Again { payload })
            }
            BindAnswer::Refused(BindRefusal::Unknown) => place.ask_again(now, about),
            BindAnswer::Refused(BindRefusal::Taken) => {
                self.revision += u64::from(leg.stand(LegStanding::Taken));
                Answered::Nothing
            }
            BindAnswer::Refused(BindRefusal::Full) => {
                self.revision += u64::from(leg.stand(LegStanding::Full));
                Answered::Nothing
            }
        }
    }

    /// A relay said over TLS that it does not know the credential.
    pub(super) fn unknown_over_tls(&mut self, now: Instant, about: About) -> Answered {
        self.places.get_mut(&about).map_or(Answered::Nothing, |place| place.ask_again(now, about))
    }

    /// The next bind that is due by itself: whom it is for, where it goes, and what.
    pub(super) fn poll_bind(
        &mut self,
        now: Instant,
        fresh: impl FnOnce() -> TransactionId,
    ) -> Option<(PublicKey, Endpoint, Vec<u8>)> {
        let due = self.places.iter_mut().find_map(|((peer, _), place)| {
            let (to, leg) =
                place.legs.iter_mut().find(|(_, leg)| leg.next_bind().is_some_and(|at| at <= now))?;
            Some((*peer, *to, leg.take_bind(now)))
        });
        let (peer, to, is_due) = due?;
        if !is_due {
            return None;
        }
        let place = self.of_peer_mut(&peer).find(|place| place.has(to))?;
        let transaction = fresh();
        place.legs.get_mut(&to)?.asked(now, Asked::new(transaction, None));
        place.request(to, transaction).map(|payload| (peer, to, payload))
    }

    /// Notices who is silent.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for leg in self.places.values_mut().flat_map(|place| place.legs.values_mut()) {
            self.revision += u64::from(leg.handle_timeout(now));
        }
    }

    /// When [`Relays::poll_bind`] or [`Relays::handle_timeout`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.legs().filter_map(Leg::next).min()
    }

    /// Whether binds are under way that nobody else asked for.
    pub(super) fn is_binding(&self) -> bool {
        self.legs().any(|leg| leg.next_bind().is_some())
    }

    /// Rises with every change of what strategies see.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// All of it, as strategies see it.
    pub(super) fn for_strategies(&self, url: impl Fn(usize) -> String) -> Vec<RelayPlace> {
        let places = self.places.iter().map(|((peer, server), place)| RelayPlace {
            peer: *peer,
            server: url(*server),
            standing: place.standing.clone(),
            legs: place
                .legs
                .iter()
                .map(|(at, leg)| RelayLeg { endpoint: *at, standing: leg.standing() })
                .collect(),
            local: place.local,
        });
        places.collect()
    }

    fn of_peer(&self, peer: &PublicKey) -> impl Iterator<Item = (&About, &Place)> {
        self.places.range((*peer, 0)..=(*peer, usize::MAX))
    }

    fn of_peer_mut(&mut self, peer: &PublicKey) -> impl Iterator<Item = &mut Place> {
        self.places.range_mut((*peer, 0)..=(*peer, usize::MAX)).map(|(_, place)| place)
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.places.values().flat_map(|place| place.legs.values())
    }
}

impl Place {
    fn new(wish: RelayWish) -> Self {
        Self {
            wish,
            standing: RelayStanding::Asked,
            credential: None,
            order: 0,
            legs: BTreeMap::new(),
            local: None,
            asked_again: None,
        }
    }

    /// Whether this is one of its relay ports.
    fn has(&self, endpoint: Endpoint) -> bool {
        match &self.standing {
            RelayStanding::Open { addresses, ports } => is_within(endpoint, addresses, ports),
            RelayStanding::Asked | RelayStanding::Refused { .. } => false,
        }
    }

    /// The next request to one of its ports.
    fn request(&mut self, to: Endpoint, transaction: TransactionId) -> Option<Vec<u8>> {
        self.order += 1;
        let nonce = self.legs.get(&to).and_then(Leg::nonce);
        self.credential
            .as_ref()
            .map(|credential| request(credential, transaction, self.order, nonce.as_ref()))
    }

    fn ask_again(&mut self, now: Instant, about: About) -> Answered {
        if self.asked_again.is_some_and(|at| now < at + ASK_AGAIN) {
            return Answered::Nothing;
        }
        self.asked_again = Some(now);
        Answered::Ask(about)
    }

    fn make_room(&mut self, to: Endpoint) {
        if self.legs.len() >= MAX_LEGS && !self.legs.contains_key(&to) {
            self.legs.retain(|_, leg| leg.standing() == LegStanding::Bound);
        }
    }
}

fn is_within(endpoint: Endpoint, addresses: &[std::net::IpAddr], ports: &RangeInclusive<u16>) -> bool {
    addresses.contains(&endpoint.ip()) && ports.contains(&endpoint.port())
}

#[cfg(test)]
#[path = "relays_tests.rs"]
mod tests;
