//! Running daemons: runtime, signals, and the interfaces of a config side by side.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::agent::{self, AgentConfig, AgentError};
use crate::config::{Config, DEFAULT_PATH};
use crate::interface::InterfaceName;
use crate::rendezvous::Pool;
use crate::state::State;
use crate::{files, log};

/// How long a clean stop may take: strategies have 1.2 s, the device and the servers the rest.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the servers' connections may take to say good-bye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// The first pause before an interface is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest one: an interface that comes up is found within half a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Looks after all interfaces of the config.
#[derive(Debug, Parser)]
#[command(
    name = "wireplugd",
    version,
    about,
    after_help = "WIREPLUG_LOG sets what is logged; default \"info\"."
)]
pub struct Wireplugd {
    /// The config; without it /etc/wireplug/wireplug.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Wireplugd {
    /// Looks after the interfaces of the config until it is told to stop.
    ///
    /// # Errors
    /// Whatever keeps it from being done, in words that say what to do.
    pub fn run(self) -> anyhow::Result<()> {
        let config = Config::load(self.config.as_deref())?;
        if config.interfaces.is_empty() {
            let path = self.config.unwrap_or_else(|| DEFAULT_PATH.into());
            bail!("{} names no interface: add [interface.NAME], or run `wireplug NAME`", path.display());
        }
        all_interfaces(config)
    }
}

/// Looks after one interface until SIGTERM or SIGINT. Returns only then, or where it cannot work.
///
/// # Errors
/// Why it cannot, and what to do.
pub fn one_interface(interface: InterfaceName, config: Config) -> anyhow::Result<()> {
    block_on(config, |config, pool, stop| async move {
        let config = config.interface(&interface);
        Ok(agent::run(AgentConfig { interface, config, servers: pool, stop }).await?)
    })
}

/// Looks after all interfaces of a config until SIGTERM or SIGINT. One that is missing is waited for.
///
/// # Errors
/// Why an interface can never work, such as for want of permission, and what to do.
pub fn all_interfaces(config: Config) -> anyhow::Result<()> {
    block_on(config, |config, pool, stop| async move {
        let mut all: FuturesUnordered<_> = config
            .interfaces
            .into_iter()
            .map(|(interface, config)| {
                keep(AgentConfig { interface, config, servers: pool.clone(), stop: stop.clone() })
            })
            .collect();
        let mut failed = Ok(());
        while let Some((interface, result)) = all.next().await {
            if let Err(error) = result {
                // The others are stopped cleanly before this is told.
                stop.cancel();
                failed = failed.and(Err(error).with_context(|| format!("interface {interface}")));
            }
        }
        failed
    })
}

/// Looks after one interface, again and again until it is told to stop or can never work.
async fn keep(config: AgentConfig) -> (InterfaceName, Result<(), AgentError>) {
    let mut pause = FIRST_PAUSE;
    let mut said = BTreeSet::new();
    loop {
        match agent::run(config.clone()).await {
            Err(error) if !error.is_permanent() => {
                let interface = &config.interface;
                if said.insert(error.to_string()) {
                    warn!(%interface, %error, "cannot look after the interface; trying again until it works");
                } else {
                    debug!(%interface, %error, "still not");
                }
            }
            result => return (config.interface, result),
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = config.stop.cancelled() => return (config.interface, Ok(())),
        }
    }
}

/// Runs `work` with log, servers and signals. One thread is enough for a daemon that mostly waits, and a
/// second one would cost more memory than all of its state.
fn block_on<W, F>(config: Config, work: W) -> anyhow::Result<()>
where
    W: FnOnce(Config, Pool, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    log::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let seed = random_seed()?;
        if config.servers.is_empty() {
            warn!(
                "no server is configured: only configured endpoints can be tried. Add [[server]] with a url to the \
                 config, or --server wss://HOST"
            );
        }
        let state = Arc::new(State::open(&files::state_directory()));
        let pool = Pool::new(config.servers.clone(), state, seed);
        let signals = stop_on_signals(stop.clone())?;
        let work = work(config, pool.clone(), stop);
        let result = tokio::select! {
            result = work => result,
            error = signals => Err(error),
        };
        if timeout(GOODBYE_WITHIN, pool.finished()).await.is_err() {
            debug!("a server did not take our good-bye");
        }
        result
    });
    // Blocking calls that hang (a stuck userspace device) end with the process.
    runtime.shutdown_background();
    result
}

/// Cancels `stop` at the first SIGTERM, SIGINT or SIGHUP. Ends only where the stop takes too long, or a
/// second signal asks for an end at once.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<impl Future<Output = anyhow::Error>> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    Ok(async move {
        next().await;
        info!("stopping");
        stop.cancel();
        tokio::select! {
            () = next() => anyhow!("ended at once by a second signal; keepalives of ours may be left, see the next start"),
            () = sleep(STOP_WITHIN) => anyhow!("could not stop within {} s; ended", STOP_WITHIN.as_secs()),
        }
    })
}

fn random_seed() -> anyhow::Result<u64> {
    getrandom::u64().map_err(|error| anyhow!("the system has no random numbers: {error}"))
}
