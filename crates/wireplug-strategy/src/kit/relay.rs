//! Relays that answer from a script.

use std::num::NonZeroU16;

use wireplug_core::{Endpoint, PublicKey, RemoteCandidate, Tier};

use super::place::Place;
use crate::relay::{RelayLeg, RelayPlace, RelayStanding, RelayWish};

/// The first port of this host that legs over TLS get; the others count up from it.
const FIRST_LOCAL: u16 = 40_000;

/// Changes the situation as the daemon would after this wish.
pub(super) fn asked(place: &mut Place, peer: PublicKey, server: &str, wish: Option<&RelayWish>) {
    let places = &mut place.situation.relaying.places;
    let known = places.iter().position(|known| known.peer == peer && known.server == server);
    let Some(wish) = wish else {
        if let Some(known) = known {
            places.remove(known);
        }
        return;
    };
    let index = known.unwrap_or_else(|| {
        let standing = place.relays.get(server).map_or(RelayStanding::Asked, |relay| relay.standing.clone());
        places.push(RelayPlace { peer, server: server.to_owned(), standing, legs: Vec::new(), local: None });
        places.len() - 1
    });
    let port = u16::try_from(index).ok().and_then(|index| NonZeroU16::new(FIRST_LOCAL.wrapping_add(index)));
    places[index].local = port.filter(|_| wish.tls).map(Endpoint::on_this_host);
}

/// Has a relay port answer that was suggested; says whether that changes the situation.
pub(super) fn suggested(place: &mut Place, peer: PublicKey, candidate: &RemoteCandidate) -> bool {
    let (places, relays) = (&mut place.situation.relaying.places, &place.relays);
    let endpoint = candidate.endpoint;
    let Some(at) = places.iter_mut().find(|at| match &at.standing {
        RelayStanding::Open { addresses, ports } => {
            at.peer == peer && addresses.contains(&endpoint.ip()) && ports.contains(&endpoint.port())
        }
        RelayStanding::Asked | RelayStanding::Refused { .. } => false,
    }) else {
        return false;
    };
    let Some(relay) = relays.get(&at.server).filter(|_| candidate.tier == Tier::Relay) else { return false };
    if at.legs.iter().any(|leg| leg.endpoint == endpoint) {
        return false;
    }
    at.legs.push(RelayLeg { endpoint, standing: relay.ports });
    true
}
