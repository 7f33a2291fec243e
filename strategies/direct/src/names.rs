//! Where the peers of the config are, and when to look again.
//!
//! Time comes in with each call. [`Names::queries`] hands out what is due, [`Names::answered`] takes what
//! came of it, and [`Names::due`] says when to ask for queries again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use wireplug_core::{Endpoint, PublicKey, Reach, RemoteCandidate, Tier};
use wireplug_strategy::{Context, ResolveError, Resolved, Situation};

use crate::target::Target;

/// The shortest and longest time between two look-ups of a name that a peer is sought by. Below, a record
/// that says "never cache" would keep the resolver busy; above, a moved peer would be missed too long.
const TTL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));
/// The shortest time while no peer is sought: a few packets an hour, so that the right address is mostly
/// there already when it is needed.
const QUIET: Duration = Duration::from_mins(5);
/// The pause after the first failure; it doubles up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));
/// The most addresses of one name that are suggested: each one costs a check.
const MAX_ADDRESSES: usize = 4;

/// What is known of all configured endpoints.
#[derive(Debug, Default)]
pub(crate) struct Names {
    generation: u32,
    is_wanted: bool,
    rounds: u64,
    peers: BTreeMap<PublicKey, Peer>,
}

/// A name to resolve now.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// What.
    pub(crate) host: String,
    peer: PublicKey,
    round: u64,
}

/// What came of a query.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) query: Query,
    pub(crate) outcome: Result<Resolved, ResolveError>,
}

#[derive(Debug)]
struct Peer {
    text: String,
    /// Where it is, as far as was said.
    known: BTreeSet<Endpoint>,
    /// What to resolve, if its endpoint is a name.
    name: Option<Name>,
}

#[derive(Debug)]
struct Name {
    host: String,
    port: u16,
    look_up: LookUp,
}

/// How far a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookUp {
    /// It is time.
    Due,
    /// A query of this round is under way.
    Asking { round: u64, failures: u32 },
    /// There was an outcome at this time, which holds for so long.
    Rests { since: Instant, pause: Duration, failures: u32 },
}

impl Names {
    /// Takes a new situation.
    pub(crate) fn update(&mut self, situation: &Situation, context: &Context) {
        let generation = situation.generation;
        let has_moved = self.generation != generation;
        let is_wanted_now = situation.wanted && !self.is_wanted;
        self.generation = generation;
        self.is_wanted = situation.wanted;

        let configured: BTreeMap<PublicKey, &str> = situation
            .peers
            .iter()
            .filter_map(|peer| Some((peer.public_key, peer.endpoint.as_deref()?)))
            .collect();
        self.peers.retain(|key, peer| {
            let stays = configured.get(key).is_some_and(|text| **text == *peer.text);
            if !stays && !has_moved {
                peer.known.iter().for_each(|endpoint| context.withdraw(generation, *key, *endpoint));
            }
            stays
        });
        for (key, peer) in &mut self.peers {
            if has_moved {
                // It is the peer that a name belongs to, not our network: what was known is a good guess
                // until the next answer.
                peer.known.iter().for_each(|endpoint| suggest(context, generation, *key, *endpoint));
            }
            let Some(name) = &mut peer.name else { continue };
            match &mut name.look_up {
                look_up if has_moved => *look_up = LookUp::Due,
                LookUp::Rests { pause, .. } if is_wanted_now => *pause = (*pause).min(TTL.0),
                LookUp::Due | LookUp::Asking { .. } | LookUp::Rests { .. } => {}
            }
        }
        for (key, text) in configured {
            self.peers.entry(key).or_insert_with(|| Peer::new(text, generation, key, context));
        }
    }

    /// The names to resolve now.
    pub(crate) fn queries(&mut self, now: Instant) -> Vec<Query> {
        let mut queries = Vec::new();
        for (key, peer) in &mut self.peers {
            let Some(name) = &mut peer.name else { continue };
            let failures = match name.look_up {
                LookUp::Due => 0,
                LookUp::Rests { failures, .. } if name.rest_ends(self.is_wanted) <= Some(now) => failures,
                LookUp::Asking { .. } | LookUp::Rests { .. } => continue,
            };
            self.rounds += 1;
            name.look_up = LookUp::Asking { round: self.rounds, failures };
            queries.push(Query { host: name.host.clone(), peer: *key, round: self.rounds });
        }
        queries
    }

    /// When there will be queries again, if nothing else happens; call after [`Names::queries`].
    pub(crate) fn due(&self) -> Option<Instant> {
        let names = self.peers.values().filter_map(|peer| peer.name.as_ref());
        names.filter_map(|name| name.rest_ends(self.is_wanted)).min()
    }

    /// Takes the outcome of a query. One that was overtaken by a change is ignored.
    pub(crate) fn answered(&mut self, answer: Answer, now: Instant, context: &Context) {
        let key = answer.query.peer;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(name) = &mut peer.name else { return };
        let LookUp::Asking { round, failures } = name.look_up else { return };
        if round != answer.query.round {
            return;
        }
        let usable = answer.outcome.map_err(|error| error.to_string()).and_then(|resolved| {
            let endpoints = choose(&resolved.addresses, name.port);
            if endpoints.is_empty() {
                return Err(format!("{} resolves to no address that can be sent to", name.host));
            }
            Ok((endpoints, resolved.ttl))
        });
        match usable {
            Ok((endpoints, ttl)) => {
                let pause = ttl.clamp(TTL.0, TTL.1);
                name.look_up = LookUp::Rests { since: now, pause, failures: 0 };
                peer.moves(endpoints, self.generation, key, context);
            }
            Err(why) => {
                if failures == 0 {
                    let kept = if peer.known.is_empty() { "" } else { "; the last known addresses are kept" };
                    context.note(self.generation, format!("{why}{kept}"));
                }
                let pause = (RETRY.0 * 2u32.saturating_pow(failures.min(8))).min(RETRY.1);
                name.look_up = LookUp::Rests { since: now, pause, failures: failures.saturating_add(1) };
            }
        }
    }
}

impl Peer {
    fn new(text: &str, generation: u32, key: PublicKey, context: &Context) -> Self {
        let mut peer = Self { text: text.to_owned(), known: BTreeSet::new(), name: None };
        match Target::parse(text) {
            Ok(Target::Address(endpoint)) => {
                peer.moves(BTreeSet::from([endpoint]), generation, key, context);
            }
            Ok(Target::Name { host, port }) => {
                peer.name = Some(Name { host, port, look_up: LookUp::Due });
            }
            Err(bad) => context.note(generation, bad.to_string()),
        }
        peer
    }

    /// Says what differs from what was said before.
    fn moves(&mut self, to: BTreeSet<Endpoint>, generation: u32, key: PublicKey, context: &Context) {
        self.known.difference(&to).for_each(|gone| context.withdraw(generation, key, *gone));
        to.difference(&self.known).for_each(|new| suggest(context, generation, key, *new));
        self.known = to;
    }
}

impl Name {
    /// When its last outcome is too old; `None` where there is none.
    fn rest_ends(&self, is_wanted: bool) -> Option<Instant> {
        match self.look_up {
            LookUp::Due | LookUp::Asking { .. } => None,
            LookUp::Rests { since, pause, .. } => {
                Some(since + if is_wanted { pause } else { pause.max(QUIET) })
            }
        }
    }
}

fn suggest(context: &Context, generation: u32, peer: PublicKey, endpoint: Endpoint) {
    let candidate = RemoteCandidate {
        endpoint,
        strategy: context.name().clone(),
        tier: Tier::Direct,
        reach: Reach::Open,
    };
    context.suggest(generation, peer, candidate);
}

/// The endpoints of a name, of both families in turn, and the same ones in whatever order they are answered.
fn choose(addresses: &[IpAddr], port: u16) -> BTreeSet<Endpoint> {
    let usable: BTreeSet<Endpoint> =
        addresses.iter().filter_map(|ip| Endpoint::new((*ip, port).into()).ok()).collect();
    let (v6, v4): (Vec<Endpoint>, Vec<Endpoint>) =
        usable.into_iter().partition(|endpoint| endpoint.ip().is_ipv6());
    let longest = v6.len().max(v4.len());
    let in_turn = (0..longest).flat_map(|n| [v6.get(n), v4.get(n)]).flatten();
    in_turn.take(MAX_ADDRESSES).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_kept_of_many_addresses() {
        let addresses: Vec<IpAddr> = (1..=9)
            .flat_map(|n| [format!("5.6.7.{n}"), format!("2a00::{n}")])
            .map(|text| text.parse().unwrap())
            .collect();
        let chosen = choose(&addresses, 9);
        assert_eq!(chosen.len(), 4);
        assert_eq!(chosen.iter().filter(|endpoint| endpoint.ip().is_ipv6()).count(), 2);
        let turned: Vec<IpAddr> = addresses.iter().rev().copied().collect();
        assert_eq!(choose(&turned, 9), chosen);
    }

    #[test]
    fn one_family_alone_gets_all_places() {
        let addresses: Vec<IpAddr> = (1..=9).map(|n| format!("5.6.7.{n}").parse().unwrap()).collect();
        assert_eq!(choose(&addresses, 9).len(), 4);
        assert!(choose(&["127.0.0.1".parse().unwrap()], 9).is_empty());
    }
}
