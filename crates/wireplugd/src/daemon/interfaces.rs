//! Interfaces side by side: each is looked after by a task of its own, begun and ended as the config names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::agent::{self, AgentConfig, AgentError, Missing, ReloadAsked};
use crate::config::{Config, InterfaceConfig};
use crate::interface::InterfaceName;
use crate::rendezvous::Pool;

/// The first pause before an interface is tried again that failed for a reason that may pass.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The interfaces that are looked after.
pub(super) struct Interfaces {
    pool: Pool,
    reloads: mpsc::Sender<ReloadAsked>,
    stop: CancellationToken,
    missing: Missing,
    running: BTreeMap<InterfaceName, Running>,
    /// Those that are ending because the config names them no more.
    ending: BTreeSet<InterfaceName>,
    tasks: JoinSet<(InterfaceName, Result<(), AgentError>)>,
}

struct Running {
    config: watch::Sender<Arc<InterfaceConfig>>,
    stop: CancellationToken,
    began: Began,
}

/// When an interface began to be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Began {
    /// With the daemon: if that can never work, the daemon ends and says so.
    AtStart,
    /// Later: the others are not ended for its sake.
    ByReload,
}

impl Interfaces {
    /// None yet. `only_one`: it was named on the command line, so it must be there at the start.
    pub(super) fn new(
        pool: Pool,
        reloads: mpsc::Sender<ReloadAsked>,
        stop: CancellationToken,
        only_one: bool,
    ) -> Self {
        let missing = if only_one { Missing::Refused } else { Missing::Awaited };
        let (running, ending) = (BTreeMap::new(), BTreeSet::new());
        Self { pool, reloads, stop, missing, running, ending, tasks: JoinSet::new() }
    }

    /// Begins with all that the config names.
    pub(super) fn begin(&mut self, config: &Config) {
        for (name, interface) in &config.interfaces {
            self.start(name, interface, Began::AtStart);
        }
    }

    /// Looks after what the config names from now on, as it says, and after nothing else.
    pub(super) fn follow(&mut self, config: &Config) {
        let names: Vec<_> = self.running.keys().cloned().collect();
        for name in names {
            match config.interfaces.get(&name) {
                // Also where it is the same: the servers may be others.
                Some(interface) => {
                    if let Some(running) = self.running.get(&name) {
                        running.config.send_replace(Arc::new(interface.clone()));
                    }
                }
                None => {
                    if let Some(running) = self.running.remove(&name) {
                        running.stop.cancel();
                        self.ending.insert(name);
                    }
                }
            }
        }
        for (name, interface) in &config.interfaces {
            if !self.running.contains_key(name) && !self.ending.contains(name) {
                self.start(name, interface, Began::ByReload);
            }
        }
    }

    fn start(&mut self, name: &InterfaceName, interface: &InterfaceConfig, began: Began) {
        let (config, configs) = watch::channel(Arc::new(interface.clone()));
        let stop = self.stop.child_token();
        let agent = AgentConfig {
            interface: name.clone(),
            config: configs,
            servers: self.pool.clone(),
            reloads: self.reloads.clone(),
            missing: self.missing,
            stop: stop.clone(),
        };
        self.tasks.spawn(keep(agent));
        self.running.insert(name.clone(), Running { config, stop, began });
    }

    /// Waits until one has ended; `None` if there is none left. An error ends the others. Cancel-safe.
    pub(super) async fn ended(&mut self, config: &Config) -> Option<anyhow::Result<()>> {
        let (name, result) = match self.tasks.join_next().await? {
            Ok(ended) => ended,
            Err(error) => return Some(Err(self.broken(error))),
        };
        if self.ending.remove(&name) {
            // It may have been named again meanwhile.
            if let Some(interface) = config.interfaces.get(&name).filter(|_| !self.stop.is_cancelled()) {
                self.start(&name, interface, Began::ByReload);
            }
            return Some(Ok(()));
        }
        let began = self.running.remove(&name).map(|running| running.began);
        let Err(error) = result else { return Some(Ok(())) };
        if began == Some(Began::ByReload) && !self.running.is_empty() {
            error!(interface = %name, %error, "the interface is not looked after; reload when that is mended");
            return Some(Ok(()));
        }
        self.stop.cancel();
        Some(Err(error).with_context(|| format!("interface {name}")))
    }

    fn broken(&mut self, error: JoinError) -> anyhow::Error {
        self.stop.cancel();
        anyhow::Error::from(error).context("looking after an interface broke off")
    }
}

/// Looks after one interface, again and again until it is told to stop or can never work.
async fn keep(config: AgentConfig) -> (InterfaceName, Result<(), AgentError>) {
    let mut pause = FIRST_PAUSE;
    let mut said = BTreeSet::new();
    loop {
        match agent::run(config.clone()).await {
            Err(error) if !error.is_permanent() && config.missing == Missing::Awaited => {
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
