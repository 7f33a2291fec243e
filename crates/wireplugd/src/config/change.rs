//! What is another in a config that was read again, and so what is to be done. Nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};

use wireplug_core::PublicKey;

use super::{Config, InterfaceConfig, PeerConfig, ServerConfig};
use crate::interface::InterfaceName;

/// The difference between two configs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Of the servers, which all interfaces share.
    pub servers: Vec<ServerChange>,
    /// Of each interface that either config names.
    pub interfaces: BTreeMap<InterfaceName, InterfaceChange>,
}

/// What is another of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerChange {
    /// Connected to from now on, by URL.
    Added(String),
    /// Not any more.
    Removed(String),
    /// The same URL with another pin: connected to anew.
    Pin(String),
    /// The same ones in another order.
    Order,
}

/// What is another of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceChange {
    /// It is looked after from now on.
    Added,
    /// Not any more.
    Removed,
    /// It was looked after before, too.
    Kept(Vec<Difference>),
}

/// One thing that is another of an interface that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A strategy is started.
    Enabled(&'static str),
    /// A strategy is ended.
    Disabled(&'static str),
    /// A strategy's table is another: it is started anew.
    Options(&'static str),
    /// The strategies that stay rank otherwise.
    Ranked,
    /// What is said of a peer.
    Peer {
        /// Its name, or the beginning of its key.
        name: String,
        /// Which of its settings.
        settings: Vec<&'static str>,
    },
}

impl Change {
    /// What is another in `after`.
    pub fn between(before: &Config, after: &Config) -> Self {
        let names: BTreeSet<_> = before.interfaces.keys().chain(after.interfaces.keys()).collect();
        let interfaces = names.into_iter().filter_map(|name| {
            let change = match (before.interfaces.get(name), after.interfaces.get(name)) {
                (Some(before), Some(after)) => InterfaceChange::Kept(differences(before, after)),
                (None, Some(_)) => InterfaceChange::Added,
                (Some(_), None) => InterfaceChange::Removed,
                (None, None) => return None,
            };
            Some((name.clone(), change))
        });
        Self { servers: servers(&before.servers, &after.servers), interfaces: interfaces.collect() }
    }

    /// Whether all is as it was.
    pub fn is_nothing(&self) -> bool {
        let is_kept =
            |change: &InterfaceChange| matches!(change, InterfaceChange::Kept(list) if list.is_empty());
        self.servers.is_empty() && self.interfaces.values().all(is_kept)
    }

    /// What is another for one interface, in words, one for each thing.
    pub fn words(&self, interface: &InterfaceName) -> Vec<String> {
        match self.interfaces.get(interface) {
            None => Vec::new(),
            Some(InterfaceChange::Added) => vec!["looked after from now on".to_owned()],
            Some(InterfaceChange::Removed) => vec!["not looked after any more".to_owned()],
            Some(InterfaceChange::Kept(list)) => self
                .servers
                .iter()
                .map(ServerChange::words)
                .chain(list.iter().map(Difference::words))
                .collect(),
        }
    }
}

impl ServerChange {
    fn words(&self) -> String {
        match self {
            Self::Added(url) => format!("server {url} added"),
            Self::Removed(url) => format!("server {url} removed"),
            Self::Pin(url) => format!("server {url} has another pin"),
            Self::Order => "servers in another order".to_owned(),
        }
    }
}

impl Difference {
    fn words(&self) -> String {
        match self {
            Self::Enabled(strategy) => format!("strategy {strategy} enabled"),
            Self::Disabled(strategy) => format!("strategy {strategy} disabled"),
            Self::Options(strategy) => format!("strategy {strategy} started anew with other options"),
            Self::Ranked => "strategies ranked anew".to_owned(),
            Self::Peer { name, settings } => format!("peer {name}: {}", settings.join(", ")),
        }
    }
}

fn servers(before: &[ServerConfig], after: &[ServerConfig]) -> Vec<ServerChange> {
    let find = |list: &[ServerConfig], server: &ServerConfig| {
        list.iter().find(|one| one.url == server.url).map(|one| one.pin)
    };
    let gone = before.iter().filter(|one| find(after, one).is_none());
    let mut changes: Vec<_> = gone.map(|one| ServerChange::Removed(one.url.to_string())).collect();
    for one in after {
        match find(before, one) {
            None => changes.push(ServerChange::Added(one.url.to_string())),
            Some(pin) if pin != one.pin => changes.push(ServerChange::Pin(one.url.to_string())),
            Some(_) => {}
        }
    }
    if changes.is_empty() && before != after {
        changes.push(ServerChange::Order);
    }
    changes
}

fn differences(before: &InterfaceConfig, after: &InterfaceConfig) -> Vec<Difference> {
    let table = |of: &InterfaceConfig, name: &str| {
        of.strategies.iter().find(|(one, _)| one.name == name).map(|(_, table)| table.clone())
    };
    let names = |of: &InterfaceConfig, other: &InterfaceConfig| -> Vec<&'static str> {
        let both = of.strategies.iter().filter(|(one, _)| table(other, one.name).is_some());
        both.map(|(one, _)| one.name).collect()
    };
    let gone = before.strategies.iter().filter(|(one, _)| table(after, one.name).is_none());
    let mut list: Vec<_> = gone.map(|(one, _)| Difference::Disabled(one.name)).collect();
    for (one, options) in &after.strategies {
        match table(before, one.name) {
            None => list.push(Difference::Enabled(one.name)),
            Some(known) if known != *options => list.push(Difference::Options(one.name)),
            Some(_) => {}
        }
    }
    if names(before, after) != names(after, before) {
        list.push(Difference::Ranked);
    }
    let keys: BTreeSet<_> = before.peers.keys().chain(after.peers.keys()).collect();
    list.extend(keys.into_iter().filter_map(|key| peer(key, before.peers.get(key), after.peers.get(key))));
    list
}

fn peer(key: &PublicKey, before: Option<&PeerConfig>, after: Option<&PeerConfig>) -> Option<Difference> {
    let nothing = PeerConfig::default();
    let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
    let settings = [
        ("name", before.name != after.name),
        ("strategies", before.strategies != after.strategies),
        ("endpoint", before.endpoint != after.endpoint),
    ];
    let settings: Vec<_> = settings.iter().filter(|(_, other)| *other).map(|(name, _)| *name).collect();
    let name = after.name.as_ref().or(before.name.as_ref()).cloned().unwrap_or_else(|| key.short());
    (!settings.is_empty()).then_some(Difference::Peer { name, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
        [[server]]
        url = "wss://a.example"
        [[server]]
        url = "wss://b.example"
        [interface.wg0]
        strategies = ["direct", "hole-punch", "relay"]
        [interface.wg0.peer."BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="]
        name = "nas"
        endpoint = "home.example.org:51820"
        [interface.wg1]
    "#;

    fn read(text: &str) -> Config {
        Config::parse(text, "w.toml").unwrap()
    }

    /// What is another, by interface, when this is written in place of that.
    fn words(what: &str, by: &str) -> [Vec<String>; 2] {
        let after = BEFORE.replace(what, by);
        assert_ne!(after, BEFORE);
        let change = Change::between(&read(BEFORE), &read(&after));
        assert_eq!(change.is_nothing(), change == Change::between(&read(BEFORE), &read(BEFORE)));
        ["wg0", "wg1"].map(|name| change.words(&name.parse().unwrap()))
    }

    #[test]
    fn what_is_written_otherwise_and_means_the_same_is_no_change() {
        let [wg0, wg1] =
            words("[interface.wg1]", "# a remark\n[interface.wg1.strategy.pcp]\n[interface.wg1.peer]");
        assert!(wg0.is_empty() && wg1.is_empty());
    }

    #[test]
    fn each_thing_is_told_of_the_interface_that_it_concerns() {
        for (what, by, told) in [
            (r#", "relay""#, "", "strategy relay disabled"),
            (r#", "relay""#, r#", "relay", "pcp""#, "strategy pcp enabled"),
            (r#""direct", "hole-punch""#, r#""hole-punch", "direct""#, "strategies ranked anew"),
            (
                "[interface.wg1]",
                "[interface.wg0.strategy.relay]\nudp = false\n[interface.wg1]",
                "strategy relay started anew with other options",
            ),
            (r#""nas""#, r#""attic""#, "peer attic: name"),
            ("endpoint = ", r#"strategies = ["direct"] # "#, "peer nas: strategies, endpoint"),
        ] {
            let [wg0, wg1] = words(what, by);
            assert_eq!(wg0, [told], "{what} → {by}");
            assert!(wg1.is_empty());
        }
    }

    #[test]
    fn a_strategy_whose_rank_alone_is_another_is_not_started_anew() {
        let after = BEFORE.replace(r#""direct", "hole-punch", "relay""#, r#""relay", "pcp", "direct""#);
        let change = Change::between(&read(BEFORE), &read(&after));
        let expected =
            vec![Difference::Disabled("hole-punch"), Difference::Enabled("pcp"), Difference::Ranked];
        assert_eq!(change.interfaces[&"wg0".parse().unwrap()], InterfaceChange::Kept(expected));
    }

    #[test]
    fn servers_are_told_of_every_interface() {
        let pin = format!("url = \"wss://b.example\"\npin = \"sha256/{}=\"", "A".repeat(43));
        for (by, told) in [
            (
                "url = \"wss://c.example\"".to_owned(),
                vec!["server wss://b.example/ removed", "server wss://c.example/ added"],
            ),
            (pin, vec!["server wss://b.example/ has another pin"]),
        ] {
            let both = words("url = \"wss://b.example\"", &by);
            assert_eq!(both, [told.clone(), told]);
        }
        let mut after = read(BEFORE);
        after.servers.reverse();
        assert_eq!(Change::between(&read(BEFORE), &after).servers, [ServerChange::Order]);
    }

    #[test]
    fn interfaces_come_and_go() {
        let [wg0, wg1] = words("[interface.wg1]", "[interface.wg2]");
        assert!(wg0.is_empty());
        assert_eq!(wg1, ["not looked after any more"]);
        let change = Change::between(&read(BEFORE), &read(&BEFORE.replace("wg1", "wg2")));
        assert_eq!(change.words(&"wg2".parse().unwrap()), ["looked after from now on"]);
        assert!(!change.is_nothing());
    }
}
