//! Running daemons: the interfaces of a config side by side, signals, and the config when it becomes another.
//!
//! | part | what |
//! |---|---|
//! | [`Source`] | the file, and what the command line says in its place |
//! | `file` | notices that the file is another one |
//! | `interfaces` | starts and ends looking after interfaces |
//! | `reload` | takes another config, or refuses it whole |

mod file;
mod interfaces;
mod reload;
mod source;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use source::{Source, SourceError};

use crate::agent::ReloadAsked;
use crate::config::Config;
use crate::rendezvous::Pool;
use crate::state::State;
use crate::{files, log};
use file::FileWatch;
use interfaces::Interfaces;

/// How long a clean stop may take: strategies have 1.2 s, the device and the servers the rest.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the servers' connections may take to say good-bye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Looks after the interfaces of a config until SIGTERM or SIGINT. SIGHUP, `wireplug reload` and a change of the file
/// have it read again.
///
/// # Errors
/// The config cannot be used, or why an interface can never work, such as for want of permission, and what to do.
pub fn run(source: Source) -> anyhow::Result<()> {
    let config = source.load()?;
    log::start();
    // One thread is enough for a daemon that mostly waits, and a second one would cost more memory than all of its state.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let hangups = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        let signals = stop_on_signals(stop.clone())?;
        let state = Arc::new(State::open(&files::state_directory()));
        let pool = Pool::new(config.servers.clone(), state, random_seed()?);
        say_if_no_server(&config);
        let daemon = Daemon::new(source, config, pool.clone(), stop);
        let result = tokio::select! {
            result = daemon.run(hangups) => result,
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

/// All that one process looks after.
struct Daemon {
    source: Arc<Source>,
    /// The config in force.
    config: Config,
    pool: Pool,
    interfaces: Interfaces,
    file: FileWatch,
    asked: mpsc::Receiver<ReloadAsked>,
}

impl Daemon {
    fn new(source: Source, config: Config, pool: Pool, stop: CancellationToken) -> Self {
        let (reloads, asked) = mpsc::channel(8);
        let file = FileWatch::new(source.path());
        let interfaces = Interfaces::new(pool.clone(), reloads, stop, source.only.is_some());
        Self { source: Arc::new(source), config, pool, interfaces, file, asked }
    }

    /// Works until all interfaces have ended.
    async fn run(mut self, mut hangups: Signal) -> anyhow::Result<()> {
        self.interfaces.begin(&self.config);
        let mut failed = Ok(());
        loop {
            tokio::select! {
                ended = self.interfaces.ended(&self.config) => match ended {
                    None => return failed,
                    // The others are stopped cleanly before this is told.
                    Some(Err(error)) => failed = failed.and(Err(error)),
                    Some(Ok(())) => {}
                },
                Some(()) = hangups.recv() => drop(self.reload("SIGHUP").await),
                () = self.file.changed() => drop(self.reload("the file changed").await),
                Some(answer) = self.asked.recv() => {
                    let report = self.reload("asked to").await;
                    // Who does not wait for the answer does not get it.
                    drop(answer.send(report));
                }
            }
        }
    }
}

fn say_if_no_server(config: &Config) {
    if config.servers.is_empty() {
        warn!(
            "no server is configured: only configured endpoints can be tried. Add [[server]] with a url to the \
             config, or --server wss://HOST"
        );
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT. Ends only where the stop takes too long, or a second signal asks for
/// an end at once.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<impl Future<Output = anyhow::Error>> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
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
