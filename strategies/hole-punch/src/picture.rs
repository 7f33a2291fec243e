//! What several servers' views of the WireGuard port say together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use wireplug_core::{Endpoint, Evidence, Mapping, is_global};

/// What is concluded of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Picture {
    /// How the NAT maps.
    pub(crate) mapping: Mapping,
    /// Where we may be reached through it, and how that is known.
    pub(crate) reachable: Option<(Endpoint, Evidence)>,
}

impl Picture {
    /// Draws it from the views of one family: who was asked, and what it saw.
    ///
    /// Servers that see an own address have no NAT before us, and that address is not worth a second
    /// candidate. Where some servers see a private address (they stand behind the same carrier's NAT), those
    /// on the internet count.
    pub(crate) fn draw(views: &BTreeMap<SocketAddr, Endpoint>, own: &BTreeSet<Endpoint>) -> Self {
        let foreign = || views.iter().filter(|(_, mapped)| !own.contains(mapped));
        let on_internet = foreign().any(|(_, mapped)| is_global(mapped.ip()));
        let counting: Vec<(&SocketAddr, &Endpoint)> =
            foreign().filter(|(_, mapped)| !on_internet || is_global(mapped.ip())).collect();

        let Some((_, first)) = counting.first().copied() else {
            let mapping = if views.is_empty() { Mapping::Unknown } else { Mapping::None };
            return Self { mapping, reachable: None };
        };
        if counting.iter().any(|(_, mapped)| *mapped != first) {
            return Self { mapping: Mapping::DestinationDependent, reachable: None };
        }
        let servers: Vec<_> = counting.iter().map(|(server, _)| server.to_string()).collect();
        let evidence = Evidence::new(format!("mapping {first} seen by {}", servers.join(" and ")))
            .with("seen_by", servers.join(" "));
        let mapping = if counting.len() > 1 { Mapping::Fixed } else { Mapping::Unknown };
        Self { mapping, reachable: Some((*first, evidence)) }
    }

    /// Whether there is a mapping of which only one server address has told yet.
    pub(crate) fn is_first_look(&self) -> bool {
        self.mapping == Mapping::Unknown && self.reachable.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(views: &[(&str, &str)]) -> Picture {
        let endpoint = |text: &str| Endpoint::new(text.parse().unwrap()).unwrap();
        let views = views.iter().map(|(server, mapped)| (server.parse().unwrap(), endpoint(mapped)));
        Picture::draw(&views.collect(), &BTreeSet::from([endpoint("192.168.1.5:9"), endpoint("5.6.7.8:9")]))
    }

    #[test]
    fn one_view_is_worth_a_candidate_but_tells_no_kind() {
        let picture = draw(&[("203.0.113.1:1", "9.9.9.9:1000")]);
        assert_eq!(picture.mapping, Mapping::Unknown);
        let (endpoint, evidence) = picture.reachable.unwrap();
        assert_eq!(endpoint.to_string(), "9.9.9.9:1000");
        assert_eq!(evidence.words(), "mapping 9.9.9.9:1000 seen by 203.0.113.1:1");
    }

    #[test]
    fn equal_views_are_a_fixed_mapping() {
        let picture = draw(&[("203.0.113.1:1", "9.9.9.9:1000"), ("203.0.113.2:1", "9.9.9.9:1000")]);
        assert_eq!(picture.mapping, Mapping::Fixed);
        let (_, evidence) = picture.reachable.unwrap();
        assert_eq!(evidence.words(), "mapping 9.9.9.9:1000 seen by 203.0.113.1:1 and 203.0.113.2:1");
    }

    #[test]
    fn views_that_differ_in_port_or_address_are_worth_nothing() {
        for other in ["9.9.9.9:1001", "9.9.9.8:1000"] {
            let picture = draw(&[("203.0.113.1:1", "9.9.9.9:1000"), ("203.0.113.2:1", other)]);
            assert_eq!(picture.mapping, Mapping::DestinationDependent);
            assert_eq!(picture.reachable, None);
        }
    }

    #[test]
    fn own_addresses_mean_no_nat_and_no_candidate() {
        for own in ["192.168.1.5:9", "5.6.7.8:9"] {
            let picture = draw(&[("203.0.113.1:1", own)]);
            assert_eq!(picture, Picture { mapping: Mapping::None, reachable: None });
        }
        // The own address with another port: this host translates itself.
        assert!(draw(&[("203.0.113.1:1", "5.6.7.8:10")]).reachable.is_some());
    }

    #[test]
    fn servers_on_this_side_of_the_nat_do_not_count() {
        for inner in ["192.168.1.5:9", "100.64.3.3:9"] {
            let picture = draw(&[("10.0.0.1:1", inner), ("203.0.113.2:1", "9.9.9.9:1000")]);
            assert_eq!(picture.mapping, Mapping::Unknown, "{inner}");
            assert_eq!(picture.reachable.unwrap().0.to_string(), "9.9.9.9:1000");
        }
        assert_eq!(draw(&[("10.0.0.1:1", "100.64.3.3:9")]).reachable.unwrap().0.to_string(), "100.64.3.3:9");
    }

    #[test]
    fn no_view_says_nothing() {
        assert_eq!(draw(&[]), Picture { mapping: Mapping::Unknown, reachable: None });
    }
}
