//! How it goes, in one line for status and log.

use std::collections::BTreeMap;

use wireplug_core::PublicKey;
use wireplug_strategy::{LegStanding, RelayPlace, RelayRefusal, RelayStanding, Situation};

use crate::Relay;
use crate::planner::Ways;

/// One wanted place: for whom, at which server, and what is known of it.
pub(crate) type Known<'a> = (PublicKey, &'a str, Option<&'a RelayPlace>, Ways);

/// The line.
pub(crate) fn note(situation: &Situation, config: &Relay, places: &[Known<'_>]) -> String {
    if situation.relaying.servers.is_empty() {
        return "no server is configured".to_owned();
    }
    if places.is_empty() {
        return "no peer needs a relay now".to_owned();
    }
    // Each thing that can be said of a server, and of how many peers it is true.
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for (_, server, place, ways) in places {
        let words = match place.map(|place| &place.standing) {
            None | Some(RelayStanding::Asked) => format!("{server} was asked for a place"),
            Some(RelayStanding::Refused { why, detail, .. }) => refusal(server, *why, detail, config),
            Some(RelayStanding::Open { .. }) => {
                open(server, ways, place.is_some_and(|place| place.local.is_some()))
            }
        };
        *said.entry(words).or_default() += 1;
    }
    let parts = said.into_iter().map(|(words, peers)| {
        let peers = if peers == 1 { String::new() } else { format!(" ({peers} peers)") };
        format!("{words}{peers}")
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn refusal(server: &str, why: RelayRefusal, detail: &str, config: &Relay) -> String {
    match why {
        RelayRefusal::Off => format!("{server} does not relay"),
        RelayRefusal::Denied if config.token.is_some() => {
            format!(
                "{server} relays for its own people only, and does not know our `token`: ask its operator"
            )
        }
        RelayRefusal::Denied => {
            format!("{server} relays for its own people only: set the `token` that its operator gave you")
        }
        RelayRefusal::Limit => format!("{server} has no place now, asking again: {detail}"),
        RelayRefusal::Other => format!("{server} refused a place: {detail}"),
    }
}

fn open(server: &str, ways: &Ways, tls: bool) -> String {
    let any = |standing| ways.udp.iter().any(|(_, of)| *of == standing);
    if any(LegStanding::Bound) {
        format!("ready at {server}")
    } else if tls && ways.udp.is_empty() {
        format!("ready at {server}, over TLS")
    } else if tls {
        format!("UDP to the relay at {server} is not answered: over TLS")
    } else if ways.crowded && ways.udp.is_empty() {
        format!("all UDP ports of the relay at {server} are used by other peers of this interface")
    } else if any(LegStanding::Full) {
        format!("the relay at {server} has no room")
    } else if any(LegStanding::Silent) {
        format!("UDP to the relay at {server} is not answered: blocked on the way?")
    } else {
        format!("has a place at {server}")
    }
}
