//! From the text of a config to its types.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use toml::de::DeTable;
use wireplug_core::{Endpoint, PublicKey, StrategyName};
use wireplug_strategy::Registration;

use super::toml_file::{Item, Section, Source};
use super::{BadServer, Config, ConfigError, InterfaceConfig, PeerConfig, ServerConfig};
use crate::interface::InterfaceName;

/// The longest name of a peer, in characters: it has to fit into a table on a terminal.
const MAX_PEER_NAME: usize = 64;

pub(super) fn config(text: &str, file: &str) -> Result<Config, ConfigError> {
    let source = Source { file, text };
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.error(at, error.message().replace('\n', "; "))
    })?;
    let root = source.section(root.get_ref());
    root.refuse_unknown_keys("at the top", &["server", "interface"])?;
    let servers = root.get("server").map(servers).transpose()?.unwrap_or_default();
    let mut interfaces = BTreeMap::new();
    if let Some(item) = root.get("interface") {
        for (at, item) in item.section()?.entries() {
            let name: InterfaceName =
                item.key.parse().map_err(|error| source.error(at, format!("{error}")))?;
            let config = interface(&name, &item.section()?)?;
            interfaces.insert(name, config);
        }
    }
    Ok(Config { servers, interfaces })
}

fn servers(item: Item<'_>) -> Result<Vec<ServerConfig>, ConfigError> {
    let mut servers: Vec<ServerConfig> = Vec::new();
    for item in item.elements("[[server]] tables")? {
        let section = item.section()?;
        section.refuse_unknown_keys("in [[server]]", &["url", "pin"])?;
        let Some(url) = section.get("url") else {
            return Err(section.error("[[server]] has no url; expected url = \"wss://HOST[:PORT][/PATH]\""));
        };
        let pin = section.get("pin");
        let text = url.string("a string, \"wss://HOST[:PORT][/PATH]\"")?;
        let pin_text = pin.map(|pin| pin.string("a string, \"sha256/BASE64\"")).transpose()?;
        let server = ServerConfig::parse(text, pin_text).map_err(|error| match (&error, pin) {
            (BadServer::Pin(_), Some(pin)) => pin.error(error.to_string()),
            _ => url.error(error.to_string()),
        })?;
        if servers.iter().any(|other| other.url == server.url) {
            return Err(url.error(format!("{} is configured twice; keep one [[server]] of it", server.url)));
        }
        servers.push(server);
    }
    Ok(servers)
}

fn interface(name: &InterfaceName, section: &Section<'_>) -> Result<InterfaceConfig, ConfigError> {
    let place = format!("in [interface.{name}]");
    section.refuse_unknown_keys(&place, &["strategies", "strategy", "peer"])?;
    let mut options = section.get("strategy").map(options).transpose()?.unwrap_or_default();
    let order = match section.get("strategies") {
        Some(item) => strategy_list(&item)?,
        None => wireplug_strategy::registered(),
    };
    let strategies: Vec<_> =
        order.into_iter().map(|one| (one, options.remove(one.name).unwrap_or_default())).collect();
    let mut peers = BTreeMap::new();
    if let Some(item) = section.get("peer") {
        for (at, item) in item.section()?.entries() {
            let key: PublicKey =
                item.key.parse().map_err(|error| item.source.error(at, format!("peer {error}")))?;
            peers.insert(key, peer(&item.section()?, &strategies)?);
        }
    }
    Ok(InterfaceConfig { strategies, peers })
}

/// The tables of strategies, each tried by the strategy that it is for.
fn options(item: Item<'_>) -> Result<BTreeMap<&'static str, toml::Table>, ConfigError> {
    let mut tables = BTreeMap::new();
    for (at, item) in item.section()?.entries() {
        let registration = known_strategy(item.key).map_err(|error| item.source.error(at, error))?;
        let section = item.section()?;
        let table = section.to_table()?;
        if let Err(error) = (registration.build)(&table) {
            let message = format!("strategy {}: {}", registration.name, error.message);
            return Err(section.error_at(error.key.as_deref(), message));
        }
        tables.insert(registration.name, table);
    }
    Ok(tables)
}

fn strategy_list(item: &Item<'_>) -> Result<Vec<&'static Registration>, ConfigError> {
    const EXPECTED: &str = "a list of names of strategies, best first";
    let mut list: Vec<&'static Registration> = Vec::new();
    for element in item.elements(EXPECTED)? {
        let name = element.string(EXPECTED)?;
        let one = known_strategy(name).map_err(|error| element.error(error))?;
        if list.iter().any(|other| other.name == one.name) {
            return Err(
                element.error(format!("strategy {name:?} is in the list twice; its place is its rank"))
            );
        }
        list.push(one);
    }
    Ok(list)
}

fn known_strategy(name: &str) -> Result<&'static Registration, String> {
    wireplug_strategy::find(name).ok_or_else(|| {
        let known: Vec<_> = wireplug_strategy::registered().iter().map(|one| one.name).collect();
        format!("unknown strategy {name:?}; compiled in: {}", known.join(", "))
    })
}

fn peer(
    section: &Section<'_>,
    run: &[(&'static Registration, toml::Table)],
) -> Result<PeerConfig, ConfigError> {
    section.refuse_unknown_keys("of a peer", &["name", "strategies", "endpoint"])?;
    let name = section.get("name").map(|item| peer_name(&item)).transpose()?;
    let endpoint = section.get("endpoint").map(|item| peer_endpoint(&item)).transpose()?;
    let strategies = section.get("strategies").map(|item| peer_strategies(&item, run)).transpose()?;
    Ok(PeerConfig { name, strategies, endpoint })
}

fn peer_name(item: &Item<'_>) -> Result<String, ConfigError> {
    let text = item.string("a string")?;
    let fits = (1..=MAX_PEER_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(item.error(format!("name is not 1 to {MAX_PEER_NAME} printable characters")))
    }
}

fn peer_strategies(
    item: &Item<'_>,
    run: &[(&'static Registration, toml::Table)],
) -> Result<Vec<StrategyName>, ConfigError> {
    let list = strategy_list(item)?;
    if let Some(stray) = list.iter().find(|one| !run.iter().any(|(other, _)| other.name == one.name)) {
        let run: Vec<_> = run.iter().map(|(one, _)| one.name).collect();
        return Err(item.error(format!(
            "strategy {:?} is not run on this interface; its strategies are {}",
            stray.name,
            run.join(", ")
        )));
    }
    list.into_iter().map(|one| one.name.parse().map_err(|error| item.error(format!("{error}")))).collect()
}

fn peer_endpoint(item: &Item<'_>) -> Result<String, ConfigError> {
    const EXPECTED: &str = "expected \"NAME:PORT\", \"IPV4:PORT\" or \"[IPV6]:PORT\"";
    let text = item.string("a string, \"HOST:PORT\"")?;
    let bad = |why: &str| item.error(format!("endpoint {text:?} {why}; {EXPECTED}"));
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Endpoint::new(addr)
            .map(|_| text.to_owned())
            .map_err(|error| bad(&format!("is no use: {error}")));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(bad("has no port"));
    };
    if host.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() {
        return Err(bad("is an IPv6 address without brackets"));
    }
    if !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(bad("has a port that is not a number from 1 to 65535"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
        return Err(bad("has a host that is neither a name nor an address"));
    }
    Ok(text.to_owned())
}
