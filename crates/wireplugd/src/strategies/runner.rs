//! The tasks of strategies: started, ended when asked, and started again when they fail.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wireplug_core::{PublicKey, StrategyName};
use wireplug_strategy::{
    Binding, BoxFuture, Connection, Context, Datagrams, Dial, Event, Failure, Host, Letters, Listen,
    MemoryError, Nearby, PortError, Registration, RelayWish, ResolveError, Resolved, Situation,
};

use super::lives::Lives;
use super::queue::EventQueue;

/// How long a strategy may take to end when it is asked to: what the plugin interface promises.
const END_WITHIN: Duration = Duration::from_secs(1);
/// How long [`Runner::stop`] takes at most.
const STOP_WITHIN: Duration = Duration::from_millis(1200);
/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a strategy that always fails costs next to nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A run that lasted so long was a good one: the pauses begin anew.
const GOOD: Duration = Duration::from_secs(60);

/// The running strategies of one interface. Dropped, it aborts them; [`Runner::stop`] lets them clean up.
pub struct Runner {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    running: BTreeMap<StrategyName, Running>,
    /// The ends of those that were asked to end: the next run of the same strategy waits for it.
    ending: BTreeMap<StrategyName, CancellationToken>,
    shared: Arc<Shared>,
}

/// One of them.
struct Running {
    table: toml::Table,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// What all of them have.
struct Shared {
    host: Arc<dyn Host>,
    events: EventQueue,
    lives: Lives,
    situation: watch::Receiver<Situation>,
}

impl Runner {
    /// Runs none yet. What strategies find goes to `events` (and not to `host.emit`), how it goes with them to `lives`;
    /// what they ask for goes to `host`.
    pub fn new(
        host: &Arc<dyn Host>,
        events: &EventQueue,
        lives: &Lives,
        situation: &watch::Receiver<Situation>,
    ) -> Self {
        let (host, events) = (Arc::clone(host), events.clone());
        let shared = Shared { host, events, lives: lives.clone(), situation: situation.clone() };
        Self {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            running: BTreeMap::new(),
            ending: BTreeMap::new(),
            shared: Arc::new(shared),
        }
    }

    /// Starts each strategy with its table as a task of its own; see [`Runner::new`]. Must be called within a tokio
    /// runtime.
    pub fn start(
        strategies: &[(&'static Registration, toml::Table)],
        host: &Arc<dyn Host>,
        events: &EventQueue,
        lives: &Lives,
        situation: &watch::Receiver<Situation>,
    ) -> Self {
        let mut runner = Self::new(host, events, lives, situation);
        runner.follow(strategies);
        runner
    }

    /// Runs these strategies with these tables from now on. One whose table is the same goes on; one with another table
    /// is started anew as soon as it has ended. Must be called within a tokio runtime.
    pub fn follow(&mut self, strategies: &[(&'static Registration, toml::Table)]) {
        while self.tasks.try_join_next().is_some() {}
        let wanted = |name: &StrategyName| strategies.iter().find(|(one, _)| one.name == name.as_str());
        self.ending.retain(|_, ended| !ended.is_cancelled());
        for (name, running) in std::mem::take(&mut self.running) {
            if wanted(&name).is_some_and(|(_, table)| *table == running.table) {
                self.running.insert(name, running);
            } else {
                running.stop.cancel();
                self.ending.insert(name, running.ended);
            }
        }
        for (registration, table) in strategies {
            let Ok(name) = registration.name.parse::<StrategyName>() else {
                warn!(
                    name = registration.name,
                    "a strategy's name must be 1 to 32 of a-z, 0-9 and \"-\": not run"
                );
                continue;
            };
            if self.running.contains_key(&name) {
                continue;
            }
            let (stop, ended) = (self.stop.child_token(), CancellationToken::new());
            let supervised = Supervised {
                registration,
                table: table.clone(),
                name: name.clone(),
                shared: Arc::clone(&self.shared),
                stop: stop.clone(),
            };
            let (before, end) = (self.ending.remove(&name), ended.clone().drop_guard());
            self.tasks.spawn(async move {
                let _end = end;
                if let Some(before) = before {
                    before.cancelled().await;
                }
                supervised.look_after().await;
            });
            self.running.insert(name, Running { table: table.clone(), stop, ended });
        }
    }

    /// Asks all strategies to take back what they left outside this host, and waits until they have ended,
    /// which takes 1.2 seconds at most.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = timeout(STOP_WITHIN, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            warn!("a strategy could not be ended; it goes with the process");
        }
    }
}

struct Supervised {
    registration: &'static Registration,
    table: toml::Table,
    name: StrategyName,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// How a run ended.
type Outcome = Result<Result<(), Failure>, JoinError>;

impl Supervised {
    async fn look_after(self) {
        self.run().await;
        // A strategy that is not enabled any more has nothing to say, and has not failed.
        self.shared.events.forget(&self.name);
        self.shared.lives.forget(&self.name);
    }

    /// Runs it until it is asked to end.
    async fn run(&self) {
        let mut pause = FIRST_PAUSE;
        if self.stop.is_cancelled() {
            return;
        }
        loop {
            let started = Instant::now();
            self.shared.lives.began(&self.name, started);
            let outcome = self.run_once().await;
            self.shared.events.retract(&self.name);
            if self.stop.is_cancelled() {
                return;
            }
            if started.elapsed() >= GOOD {
                pause = FIRST_PAUSE;
            }
            let why = why(outcome);
            warn!(strategy = %self.name, why, again_in_s = pause.as_secs(), "the strategy failed");
            let now = Instant::now();
            self.shared.lives.failed(&self.name, now, &why, now + pause);
            let generation = self.shared.situation.borrow().generation;
            self.shared.events.push(&self.name, generation, Event::Note(format!("failed: {why}")));
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs the strategy until it ends, or until it is asked to and has ended or was aborted.
    async fn run_once(&self) -> Option<Outcome> {
        let run = Arc::new(Run {
            host: Arc::clone(&self.shared.host),
            events: self.shared.events.clone(),
            over: false.into(),
        });
        // However this function ends, nothing more is heard of this run.
        let _over = Over(Arc::clone(&run));
        let (build, table) = (self.registration.build, self.table.clone());
        let context =
            Context::new(run, self.name.clone(), self.shared.situation.clone(), self.stop.child_token());
        // A set, because it aborts its task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(async move {
            let strategy = build(&table).map_err(|error| Failure(error.to_string()))?;
            strategy.run(context).await
        });
        tokio::select! {
            outcome = task.join_next() => outcome,
            () = self.stop.cancelled() => {
                if let Ok(outcome) = timeout(END_WITHIN, task.join_next()).await {
                    return outcome;
                }
                warn!(strategy = %self.name, "the strategy did not end within a second and is aborted");
                None
            }
        }
    }
}

fn why(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Ok(Ok(()))) | None => "it ended by itself".to_owned(),
        Some(Ok(Err(failure))) => failure.to_string(),
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => {
                let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
                let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
                format!("it panicked: {}", words.unwrap_or_default())
            }
            Err(_) => "it was aborted".to_owned(),
        },
    }
}

/// The daemon as one run of a strategy sees it. A run that is over may have left tasks behind; nobody hears
/// them.
struct Run {
    host: Arc<dyn Host>,
    events: EventQueue,
    over: AtomicBool,
}

struct Over(Arc<Run>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Host for Run {
    fn emit(&self, strategy: &StrategyName, generation: u32, event: Event) {
        if self.over.load(Ordering::Relaxed) {
            debug!(%strategy, "an event of a run that is over is dropped");
        } else {
            self.events.push(strategy, generation, event);
        }
    }

    fn binding(&self, server: SocketAddr) -> BoxFuture<'static, Result<Binding, PortError>> {
        if self.over.load(Ordering::Relaxed) {
            return Box::pin(async { Err(PortError::Closed) });
        }
        self.host.binding(server)
    }

    fn relay(&self, peer: PublicKey, server: &str, wish: Option<RelayWish>) {
        if !self.over.load(Ordering::Relaxed) {
            self.host.relay(peer, server, wish);
        }
    }

    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Resolved, ResolveError>> {
        self.host.resolve(name)
    }

    fn dial(&self, dial: &Dial) -> io::Result<Arc<dyn Datagrams>> {
        self.host.dial(dial)
    }

    fn listen(&self, listen: &Listen) -> io::Result<Arc<dyn Datagrams>> {
        self.host.listen(listen)
    }

    fn letters(&self, nearby: &Nearby) -> io::Result<Arc<dyn Letters>> {
        self.host.letters(nearby)
    }

    fn connect(
        &self,
        nearby: &Nearby,
        to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        self.host.connect(nearby, to)
    }

    fn remember(
        &self,
        strategy: &StrategyName,
        memory: Vec<u8>,
    ) -> BoxFuture<'static, Result<(), MemoryError>> {
        self.host.remember(strategy, memory)
    }

    fn recall(&self, strategy: &StrategyName) -> BoxFuture<'static, Option<Vec<u8>>> {
        self.host.recall(strategy)
    }
}
