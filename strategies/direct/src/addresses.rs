//! Which addresses of this host are worth offering.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use wireplug_core::{Candidate, Endpoint, Evidence, Family, Proof, Tier, is_global};
use wireplug_strategy::{Context, HostAddress, Situation};

/// The most addresses of one family that are offered. An offer holds 16 candidates of all strategies, and
/// each of them costs the server a probe and the peer a check.
const MAX_PER_FAMILY: usize = 4;

/// What was said of this host's own addresses in the current generation.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    generation: u32,
    said: BTreeSet<Endpoint>,
    has_noted: bool,
}

impl OwnAddresses {
    /// Says what differs from what was said before.
    pub(crate) fn update(&mut self, situation: &Situation, context: &Context) {
        let generation = situation.generation;
        if self.generation != generation {
            self.generation = generation;
            self.said.clear();
        }
        let chosen = choose(situation);
        for endpoint in self.said.iter().filter(|said| !chosen.contains_key(*said)) {
            context.lost(generation, *endpoint);
        }
        for (endpoint, link) in chosen.iter().filter(|(endpoint, _)| !self.said.contains(endpoint)) {
            let candidate = Candidate {
                endpoint: *endpoint,
                strategy: context.name().clone(),
                tier: Tier::Direct,
                proof: Proof::Server,
                lifetime: None,
                evidence: Evidence::new(format!("address of {link}")).with("link", link),
            };
            context.found(generation, candidate);
        }
        self.said = chosen.into_keys().collect();
        self.note(situation, context);
    }

    /// Says once that there is nothing to offer, until there is.
    fn note(&mut self, situation: &Situation, context: &Context) {
        let has_only_private =
            self.said.is_empty() && situation.listen_port != 0 && !situation.addresses.is_empty();
        if has_only_private && !self.has_noted {
            context.note(
                situation.generation,
                "this host has only private addresses: nobody outside its network can send to it directly",
            );
        }
        self.has_noted = has_only_private;
    }
}

/// Global addresses that are not deprecated, with the names of their links.
///
/// Of several IPv6 addresses with one prefix on one link it takes the temporary ones if there are any: these
/// are what WireGuard sends from (RFC 6724 section 5 rule 7), so these are what a stateful firewall lets
/// the answers through to; and the stable one would tell who we are on every network.
fn choose(situation: &Situation) -> BTreeMap<Endpoint, &str> {
    let usable: Vec<&HostAddress> =
        situation.addresses.iter().filter(|address| !address.deprecated && is_global(address.ip)).collect();
    let mut chosen = BTreeMap::new();
    for family in [Family::V6, Family::V4] {
        let of_family = usable.iter().filter(|address| Family::of(address.ip) == family);
        let sent_from = of_family.filter(|address| {
            address.temporary
                || !usable.iter().any(|other| other.temporary && is_same_network(address, other))
        });
        let endpoints = sent_from.filter_map(|address| {
            let endpoint = Endpoint::new((address.ip, situation.listen_port).into()).ok()?;
            Some((endpoint, address.interface.as_str()))
        });
        chosen.extend(endpoints.take(MAX_PER_FAMILY));
    }
    chosen
}

/// Whether two IPv6 addresses are of one link and prefix.
fn is_same_network(one: &HostAddress, other: &HostAddress) -> bool {
    let (IpAddr::V6(a), IpAddr::V6(b)) = (one.ip, other.ip) else { return false };
    let bits = u32::from(one.prefix.min(128));
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    one.ifindex == other.ifindex && a.to_bits() & mask == b.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(addresses: &[(&str, u8, bool, bool)]) -> Vec<String> {
        let addresses = addresses.iter().map(|(ip, prefix, temporary, deprecated)| HostAddress {
            ip: ip.parse().unwrap(),
            prefix: *prefix,
            ifindex: 2,
            interface: "eth0".to_owned(),
            temporary: *temporary,
            deprecated: *deprecated,
        });
        let situation =
            Situation { listen_port: 51820, addresses: addresses.collect(), ..Situation::default() };
        choose(&situation).keys().map(ToString::to_string).collect()
    }

    #[test]
    fn only_global_addresses_are_chosen() {
        let addresses = [
            ("192.168.1.5", 24, false, false),
            ("100.64.0.5", 10, false, false),
            ("5.6.7.8", 24, false, false),
            ("fe80::5", 64, false, false),
            ("fd00::5", 64, false, false),
            ("2a00::5", 64, false, false),
        ];
        assert_eq!(chosen(&addresses), ["5.6.7.8:51820", "[2a00::5]:51820"]);
    }

    #[test]
    fn of_one_prefix_the_temporary_address_is_chosen() {
        let addresses = [
            ("2a00::5", 64, false, false),
            ("2a00::77aa", 64, true, false),
            ("2a00::66bb", 64, true, true),
            ("2a00:0:0:1::5", 64, false, false),
        ];
        assert_eq!(chosen(&addresses), ["[2a00::77aa]:51820", "[2a00:0:0:1::5]:51820"]);
    }

    #[test]
    fn a_deprecated_temporary_address_does_not_hide_the_stable_one() {
        let addresses = [("2a00::5", 64, false, false), ("2a00::66bb", 64, true, true)];
        assert_eq!(chosen(&addresses), ["[2a00::5]:51820"]);
    }

    #[test]
    fn at_most_four_of_a_family_are_chosen() {
        let many: Vec<_> = (1..=9).map(|n| format!("5.6.7.{n}")).collect();
        let addresses: Vec<_> = many.iter().map(|ip| (ip.as_str(), 24, false, false)).collect();
        assert_eq!(chosen(&addresses).len(), 4);
    }
}
