//! The system's resolver files, and resolvers made from them.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::Hosts;
use hickory_resolver::config::{
    LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;

use super::provider::Marked;

pub(super) type Inner = hickory_resolver::Resolver<Marked>;

/// Where systemd-resolved names the servers behind its stub. The stub at 127.0.0.53 does not mark its questions.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// How long one server may take to answer one question, before the next is asked. Longer than any honest
/// answer takes; the system's 5 s would make a dead first server cost too much of a reconnection.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Modification times of both files, `None` for one that is missing.
pub(super) type Stamp = [Option<SystemTime>; 2];

/// Resolvers made from one state of the files.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) stamp: Stamp,
    hosts: Arc<Hosts>,
    pub(super) marked: Inner,
    /// The same without the mark, where there is one.
    pub(super) unmarked: Option<Inner>,
}

impl Loaded {
    /// The addresses that the hosts file has for a name.
    pub(super) fn known(&self, mut name: Name) -> Vec<IpAddr> {
        name.set_fqdn(true);
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)))
            .flat_map(|found| {
                found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
            })
            .collect()
    }
}

pub(super) async fn stamp(resolv_conf: &Path, hosts: &Path) -> Stamp {
    let mut stamp = [None; 2];
    for (slot, path) in stamp.iter_mut().zip([resolv_conf, hosts]) {
        *slot = tokio::fs::metadata(path).await.ok().and_then(|file| file.modified().ok());
    }
    stamp
}

/// Reads both files; the error is a reason in words.
pub(super) async fn load(
    resolv_conf: &Path,
    hosts: &Path,
    fwmark: u32,
    stamp: Stamp,
) -> Result<Loaded, String> {
    let text = tokio::fs::read(resolv_conf).await.map_err(|error| error.to_string())?;
    let (mut config, mut options) = parse_resolv_conf(text).map_err(|error| error.to_string())?;
    let stub_only = config.name_servers().iter().all(|server| server.ip.is_loopback());
    if stub_only && let Ok(text) = tokio::fs::read(BEHIND_STUB).await {
        for server in parse_resolv_conf(text).into_iter().flat_map(|(config, _)| config.into_parts().2) {
            config.add_name_server(server);
        }
    }
    options.timeout = SERVER_TIMEOUT;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.use_hosts_file = ResolveHosts::Never; // asked before, see `Loaded::known`
    let mut names = Hosts::default();
    match tokio::fs::read(hosts).await {
        Ok(text) => names.read_hosts_conf(&text[..]).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{}: {error}", hosts.display())),
    }
    Ok(Loaded {
        stamp,
        hosts: Arc::new(names),
        marked: build(&config, &options, fwmark)?,
        unmarked: (fwmark != 0).then(|| build(&config, &options, 0)).transpose()?,
    })
}

fn build(config: &ResolverConfig, options: &ResolverOpts, fwmark: u32) -> Result<Inner, String> {
    let builder = Inner::builder_with_config(config.clone(), Marked::new(fwmark));
    builder.with_options(options.clone()).build().map_err(|error| error.to_string())
}
