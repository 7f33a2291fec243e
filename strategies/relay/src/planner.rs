//! What to ask for and what to suggest, from the situation alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use wireplug_core::{Endpoint, Family, PublicKey, Reach, RemoteCandidate, StrategyName, Tier, is_link_local};
use wireplug_strategy::{LegStanding, RelayPlace, RelayStanding, RelayWish, Situation};

use crate::Relay;
use crate::note::note;
use crate::ports::Ports;

/// All that was asked for and said.
#[derive(Debug)]
pub(crate) struct Planner {
    config: Relay,
    name: StrategyName,
    generation: u32,
    ports: Ports,
    asked: BTreeMap<(PublicKey, String), Asked>,
    said: BTreeMap<(PublicKey, Endpoint), Tier>,
    note: String,
    /// What servers refused when a relay was wanted last, in words.
    refused: Option<String>,
}

#[derive(Debug)]
struct Asked {
    wish: RelayWish,
    /// Whether the daemon has shown the place since.
    seen: bool,
}

/// Something to say or to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A place is wanted, in this way.
    Want {
        /// For whom.
        peer: PublicKey,
        /// At which server.
        server: String,
        /// How.
        wish: RelayWish,
    },
    /// A place is not wanted any more.
    Release {
        /// For whom.
        peer: PublicKey,
        /// At which server.
        server: String,
    },
    /// A peer may be reached here.
    Suggest {
        /// Whom.
        peer: PublicKey,
        /// Where.
        candidate: RemoteCandidate,
    },
    /// A peer can no longer be reached here.
    Withdraw {
        /// Whom.
        peer: PublicKey,
        /// Where.
        endpoint: Endpoint,
    },
    /// How it goes.
    Note(String),
}

/// Where one place can be used.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// By UDP, and what each said last.
    pub(crate) udp: Vec<(Endpoint, LegStanding)>,
    /// Whether an address had no port left for this pair.
    pub(crate) crowded: bool,
}

impl Planner {
    pub(crate) fn new(config: Relay, name: StrategyName) -> Self {
        Self {
            config,
            name,
            generation: 0,
            ports: Ports::default(),
            asked: BTreeMap::new(),
            said: BTreeMap::new(),
            note: String::new(),
            refused: None,
        }
    }

    /// Takes the situation as it is now.
    pub(crate) fn update(&mut self, situation: &Situation) -> Vec<Act> {
        if situation.generation != self.generation {
            // What was said of the old network has gone with it.
            self.generation = situation.generation;
            self.said.clear();
            self.note.clear();
            self.refused = None;
        }
        let mut acts = Vec::new();
        let wanted = wanted(situation);
        self.release(situation, &wanted, &mut acts);
        self.forget_lost(situation);

        let mut standing = BTreeMap::new();
        let mut ways_of = Vec::new();
        for (peer, server) in &wanted {
            let places = &situation.relaying.places;
            let place = places.iter().find(|place| place.peer == *peer && place.server == *server);
            let ways = place.map(|place| self.ways(situation, place)).unwrap_or_default();
            self.want(*peer, server, place, &ways, &mut acts);
            for (endpoint, _) in &ways.udp {
                standing.insert((*peer, *endpoint), Tier::Relay);
            }
            if let Some(local) = place.and_then(|place| place.local) {
                standing.insert((*peer, local), Tier::RelayTls);
            }
            ways_of.push((*peer, server.as_str(), place, ways));
        }
        self.say(standing, &mut acts);
        let mut words = note(situation, &self.config, &ways_of);
        let any = |is: fn(&RelayStanding) -> bool| {
            ways_of.iter().any(|(_, _, place, _)| place.is_some_and(|place| is(&place.standing)))
        };
        if any(|standing| matches!(standing, RelayStanding::Refused { .. })) {
            self.refused = Some(words.clone());
        } else if any(|standing| matches!(standing, RelayStanding::Open { .. })) {
            self.refused = None;
        } else if ways_of.is_empty()
            && let Some(refused) = &self.refused
        {
            words = format!("{words}; when one last did: {refused}");
        }
        if words != self.note {
            self.note.clone_from(&words);
            acts.push(Act::Note(words));
        }
        acts
    }

    fn release(
        &mut self,
        situation: &Situation,
        wanted: &BTreeSet<(PublicKey, String)>,
        acts: &mut Vec<Act>,
    ) {
        let there = situation.relaying.places.iter().map(|place| (place.peer, place.server.clone()));
        let unwanted: BTreeSet<_> =
            there.chain(self.asked.keys().cloned()).filter(|about| !wanted.contains(about)).collect();
        for (peer, server) in unwanted {
            self.asked.remove(&(peer, server.clone()));
            acts.push(Act::Release { peer, server });
        }
        self.ports.retain(|peer, server| wanted.contains(&(*peer, server.to_owned())));
    }

    /// Forgets what the daemon had taken and lost: it is asked again.
    fn forget_lost(&mut self, situation: &Situation) {
        let places = &situation.relaying.places;
        self.asked.retain(|(peer, server), asked| {
            let there = places.iter().any(|place| place.peer == *peer && place.server == *server);
            let lost = asked.seen && !there;
            asked.seen = there;
            !lost
        });
    }

    /// Asks for a place where that has not been done in this way yet.
    fn want(
        &mut self,
        peer: PublicKey,
        server: &str,
        place: Option<&RelayPlace>,
        ways: &Ways,
        acts: &mut Vec<Act>,
    ) {
        let about = (peer, server.to_owned());
        let before = self.asked.get(&about).map(|asked| &asked.wish);
        // A leg over TLS that there is may be the one in use.
        let has_tls = before.is_some_and(|wish| wish.tls);
        let is_open = place.is_some_and(|place| matches!(place.standing, RelayStanding::Open { .. }));
        let tls = has_tls || (self.config.tls && is_open && ways.are_silent());
        let wish = RelayWish { access: self.config.token.clone(), tls };
        if before != Some(&wish) {
            acts.push(Act::Want { peer, server: about.1.clone(), wish: wish.clone() });
            self.asked.insert(about, Asked { wish, seen: place.is_some() });
        }
    }

    /// The UDP endpoints of a place: one for each family in which there is an address here and there.
    fn ways(&mut self, situation: &Situation, place: &RelayPlace) -> Ways {
        let mut ways = Ways::default();
        let RelayStanding::Open { addresses, ports } = &place.standing else { return ways };
        if !self.config.udp || !situation.relaying.udp {
            return ways;
        }
        let taken = place.legs.iter().filter(|leg| leg.standing == LegStanding::Taken);
        let taken: BTreeSet<_> = taken.map(|leg| leg.endpoint).collect();
        for family in [Family::V6, Family::V4] {
            let relay = addresses.iter().copied().find(|ip| Family::of(*ip) == family);
            let Some(address) = relay.filter(|_| has_family(situation, family)) else { continue };
            match self.ports.choose(place.peer, &place.server, address, ports, &taken) {
                Some(endpoint) => {
                    let leg = place.legs.iter().find(|leg| leg.endpoint == endpoint);
                    ways.udp.push((endpoint, leg.map_or(LegStanding::Asked, |leg| leg.standing)));
                }
                None => ways.crowded = true,
            }
        }
        ways
    }

    fn say(&mut self, standing: BTreeMap<(PublicKey, Endpoint), Tier>, acts: &mut Vec<Act>) {
        for (peer, endpoint) in self.said.keys().filter(|about| !standing.contains_key(about)) {
            acts.push(Act::Withdraw { peer: *peer, endpoint: *endpoint });
        }
        for ((peer, endpoint), tier) in &standing {
            if self.said.get(&(*peer, *endpoint)) != Some(tier) {
                let strategy = self.name.clone();
                let candidate =
                    RemoteCandidate { endpoint: *endpoint, strategy, tier: *tier, reach: Reach::Open };
                acts.push(Act::Suggest { peer: *peer, candidate });
            }
        }
        self.said = standing;
    }
}

impl Ways {
    /// Whether no relay port answers, nor may still.
    fn are_silent(&self) -> bool {
        self.udp.iter().all(|(_, standing)| matches!(standing, LegStanding::Silent | LegStanding::Full))
    }
}

/// The places that should be there: none without a port to relay to, or a network.
fn wanted(situation: &Situation) -> BTreeSet<(PublicKey, String)> {
    let can_be = situation.listen_port != 0 && !situation.addresses.is_empty();
    let relaying = &situation.relaying;
    let pairs = relaying.wanted.iter().flat_map(|peer| {
        let servers = relaying.servers.iter();
        servers.map(|server| (*peer, server.clone()))
    });
    pairs.filter(|_| can_be).collect()
}

/// Whether this host has an address of a family that reaches beyond its link.
fn has_family(situation: &Situation, family: Family) -> bool {
    let beyond = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !is_link_local(ip),
    };
    situation.addresses.iter().any(|own| Family::of(own.ip) == family && beyond(own.ip))
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
