//! Names to addresses, asked by sockets that carry the device's mark.
//!
//! The system's resolver cannot mark its sockets, so behind a full tunnel that is dead it cannot find the server
//! that would revive it. This one reads /etc/resolv.conf and /etc/hosts itself.

mod files;
mod provider;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::Name;
use tokio::sync::Mutex;

use files::Loaded;

/// A resolver for one mark.
#[derive(Debug)]
pub struct Resolver {
    fwmark: u32,
    resolv_conf: PathBuf,
    hosts: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

/// What a name means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// At least one address, in the answer's order.
    pub addresses: Vec<IpAddr>,
    /// How long that holds; a day at most.
    pub ttl: Duration,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or has neither an IPv4 nor an IPv6 address.
    #[error("{0} has no address: is the name right?")]
    NoSuchName(String),
    /// The name is not one.
    #[error("{0:?} is not a host name")]
    BadName(String),
    /// There is nobody to ask.
    #[error("cannot resolve {host}: {} cannot be used: {reason}", .path.display())]
    NoServers {
        /// Which name.
        host: String,
        /// The file that should name the servers.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answered, or not usefully.
    #[error("cannot resolve {host}: {reason}")]
    Failed {
        /// Which name.
        host: String,
        /// What the last server or the network said.
        reason: String,
    },
}

/// The longest that an answer is held, in line with the name servers' own caches.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl Resolver {
    /// A resolver whose sockets carry this mark (0 for none). Reads nothing yet.
    pub fn new(fwmark: u32) -> Self {
        Self::with_files(fwmark, "/etc/resolv.conf", "/etc/hosts")
    }

    /// The same with other files than the system's.
    pub fn with_files(fwmark: u32, resolv_conf: impl Into<PathBuf>, hosts: impl Into<PathBuf>) -> Self {
        Self { fwmark, resolv_conf: resolv_conf.into(), hosts: hosts.into(), loaded: Mutex::new(None) }
    }

    /// The addresses of a host, IPv4 and IPv6. A literal address, in brackets too, is itself. The files are read again
    /// when they have changed.
    ///
    /// A mark leads around the tunnel. Where that finds no server (the only one is inside the tunnel), the question
    /// is asked once more without it.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn lookup(&self, host: &str) -> Result<Resolved, ResolveError> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse() {
            return Ok(Resolved { addresses: vec![ip], ttl: MAX_TTL });
        }
        let name = Name::from_utf8(host).map_err(|_| ResolveError::BadName(host.to_owned()))?;
        let loaded = self.current(host).await?;
        // As the system's resolver has it: a name that the file knows in one family is not asked for in the other.
        let known = loaded.known(name.clone());
        if !known.is_empty() {
            return Ok(Resolved { addresses: known, ttl: MAX_TTL });
        }
        match ask(&loaded.marked, name.clone(), host).await {
            Err(error @ ResolveError::Failed { .. }) => match &loaded.unmarked {
                Some(unmarked) => ask(unmarked, name, host).await.map_err(|_| error),
                None => Err(error),
            },
            done => done,
        }
    }

    async fn current(&self, host: &str) -> Result<Loaded, ResolveError> {
        let mut slot = self.loaded.lock().await;
        let stamp = files::stamp(&self.resolv_conf, &self.hosts).await;
        match &*slot {
            Some(loaded) if loaded.stamp == stamp => Ok(loaded.clone()),
            _ => {
                let loaded = files::load(&self.resolv_conf, &self.hosts, self.fwmark, stamp).await;
                let loaded = loaded.map_err(|reason| ResolveError::NoServers {
                    host: host.to_owned(),
                    path: self.resolv_conf.clone(),
                    reason,
                })?;
                Ok(slot.insert(loaded).clone())
            }
        }
    }
}

async fn ask(resolver: &files::Inner, name: Name, host: &str) -> Result<Resolved, ResolveError> {
    match resolver.lookup_ip(name).await {
        Ok(answer) => {
            let addresses: Vec<IpAddr> = answer.iter().collect();
            if addresses.is_empty() {
                return Err(ResolveError::NoSuchName(host.to_owned()));
            }
            let ttl = answer.valid_until().saturating_duration_since(Instant::now()).min(MAX_TTL);
            Ok(Resolved { addresses, ttl })
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
            Err(ResolveError::NoSuchName(host.to_owned()))
        }
        Err(error) => Err(ResolveError::Failed { host: host.to_owned(), reason: error.to_string() }),
    }
}
