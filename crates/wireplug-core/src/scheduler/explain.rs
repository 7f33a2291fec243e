//! What is said of a peer: its state, and why it is not better.

use super::effort::Effort;
use super::paths::Path;
use super::peer::Peer;
use super::status::{PeerStatus, Reason, State};
use super::tunnel::Tunnel;
use super::world::{Server, World};
use crate::scheduler::local::Local;
use crate::{Mapping, Reach, StrategyName};

impl Peer {
    /// The state in one word, as it is now.
    pub(super) fn current_state(&self) -> State {
        match (&self.tunnel, &self.effort) {
            (Tunnel::Up(_), _) if self.tier_in_use_is_relayed() => State::Relayed,
            (Tunnel::Up(_), _) => State::Connected,
            (Tunnel::Trying(_), _) => State::Checking,
            (Tunnel::Down, Effort::Round(_)) if self.failures == 0 && self.paths.is_empty() => {
                State::Gathering
            }
            (Tunnel::Down, Effort::Round(_)) if self.failures == 0 => State::Checking,
            // A round after one that failed changes nothing yet, unless the peer has news.
            (Tunnel::Down, Effort::Round(_) | Effort::Pause { .. }) if self.is_on_its_own() => State::Idle,
            (Tunnel::Down, Effort::Round(_) | Effort::Pause { .. }) => State::Unreachable,
            (Tunnel::Down, Effort::Rest) => State::Idle,
        }
    }

    /// Whether WireGuard has an endpoint for a peer that never spoke to us: nothing is wanted of us.
    fn is_on_its_own(&self) -> bool {
        !self.runs_wireplug() && self.view.as_ref().is_some_and(|view| view.endpoint.is_some())
    }

    pub(super) fn tier_in_use_is_relayed(&self) -> bool {
        self.endpoint().is_some_and(|endpoint| {
            self.relay.was_at(endpoint) || self.paths.get(endpoint).is_some_and(Path::is_relayed)
        })
    }

    pub(super) fn status(&self, local: &Local, server: &Server) -> PeerStatus {
        let endpoint = self.endpoint();
        let path = endpoint.and_then(|endpoint| self.paths.get(endpoint));
        let used = path.filter(|_| matches!(self.tunnel, Tunnel::Up(_) | Tunnel::Trying(_)));
        PeerStatus {
            peer: self.key,
            state: self.state.0,
            strategy: used.and_then(|path| self.strategy_of(path, local)).cloned(),
            endpoint,
            rtt: used.and_then(Path::proof).map(|proof| proof.rtt),
            since: self.state.1,
            proven: used.is_some_and(|path| path.proof().is_some()),
            by_hand: used.is_some() && self.is_set_by_hand(),
            trying: self.trying(local, server),
            reason: self.reason.clone(),
        }
    }

    /// By which strategy a path was found: the one that names it, or else one of ours that finds such paths.
    pub(super) fn strategy_of<'a>(&'a self, path: &'a Path, local: &'a Local) -> Option<&'a StrategyName> {
        let (name, tier) = path.kind()?;
        name.or_else(|| local.strategy_of(tier)).or_else(|| self.ranking.strategy_of(tier))
    }

    /// Why the round that ends now found no path.
    pub(super) fn explain(&self, world: &World<'_>) -> Reason {
        if !world.listening {
            return Reason::NoListenPort;
        }
        if let Some(reason @ (Reason::Unproven | Reason::NoHandshake)) = &self.reason {
            return reason.clone();
        }
        let Some(offer) = self.newest_offer() else {
            return match world.server {
                Server::Connecting => Reason::NoServer("not connected yet".to_owned()),
                Server::Down { why, .. } => Reason::NoServer(why.clone()),
                Server::Up { .. } => Reason::NoOffer,
            };
        };
        if !world.port_sharing {
            return Reason::NoPortSharing;
        }
        let dependent = Mapping::DestinationDependent;
        let they_are_open = offer.candidates.iter().any(|candidate| candidate.reach == Reach::Open);
        let we_are_open = world.local.offered(&self.ranking).iter().any(|own| own.reach == Reach::Open);
        match (world.local.mapping(), self.their_mapping()) {
            (ours, theirs) if ours == dependent && theirs == dependent => {
                return Reason::BothDestinationDependent;
            }
            (ours, _) if ours == dependent && !they_are_open => return Reason::OursDestinationDependent,
            (_, theirs) if theirs == dependent && !we_are_open => return Reason::TheirsDestinationDependent,
            _ => {}
        }
        let tried = self.paths.iter().filter(|(_, path)| path.sent() > 0).count();
        let unsendable = self.paths.iter().find_map(|(_, path)| path.unsendable());
        match (unsendable, tried) {
            (Some(why), ..=1) => Reason::CannotSend(why),
            (_, 0) => Reason::NoCandidates,
            (_, tried) => Reason::NoAnswer(tried),
        }
    }
}
