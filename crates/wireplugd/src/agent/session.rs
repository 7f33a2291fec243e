//! One interface, for as long as it is the same device: the event loop that does what the scheduler decides.

mod inbound;
mod keep;
mod outbound;
mod relay;
mod reload;
mod situation;
mod stun;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};
use wireplug_core::scheduler::{Input, Scheduler, SchedulerConfig, State};
use wireplug_core::{Naps, PublicKey, StrategyName, Woken};
use wireplug_net::{Datagram, Device, DeviceState, PortError, Resolver, Sleeps, boottime, monotonic};
use wireplug_proto::rendezvous::Reason as Refusal;
use wireplug_strategy::{Host, Situation};

use super::bindings::Bindings;
use super::device::{DeviceTask, Job, News};
use super::host::{AgentHost, Question};
use super::legs::{Legs, LinkEvent};
use super::looks::Looks;
use super::network::{Network, Place};
use super::pairs::Pairs;
use super::port::Port;
use super::relays::Relays;
use super::servers::{ServerEvent, Servers};
use super::verify::{Fresh, Verifications};
use super::wishes::{Wish, Wishes};
use super::{AgentConfig, AgentError, report};
use crate::config::InterfaceConfig;
use crate::control::Request;
use crate::files;
use crate::kept::{self, Keeper, Writing};
use crate::memory::Memory;
use crate::record::RecordFile;
use crate::rendezvous::Event as Said;
use crate::strategies::{self, EventQueue, Found, Lives, Runner};
use keep::Whereabouts;
use situation::Shown;
use stun::{Held, Ticket};

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to stop.
    Stopped,
    /// The interface went away, or became another one under the same name.
    Gone(String),
}

/// One interface and all that is known of it.
pub(super) struct Session<'a> {
    config: &'a AgentConfig,
    /// What the config says of this interface, and where it is heard when it says something else.
    settings: Arc<InterfaceConfig>,
    configs: watch::Receiver<Arc<InterfaceConfig>>,
    state: DeviceState,
    scheduler: Scheduler,
    pairs: Pairs,
    port: Port,
    network: Network,
    place: Place,
    servers: Servers,
    relays: Relays,
    legs: Legs,
    bindings: Bindings<Ticket>,
    held: Vec<Held>,
    verifications: Verifications,
    situation: watch::Sender<Situation>,
    shown: Shown,
    /// Rises with every change of addresses, servers or peers.
    view: u64,
    jobs: mpsc::Sender<Job>,
    notes: BTreeMap<StrategyName, String>,
    events: EventQueue,
    lives: Lives,
    runner: Runner,
    /// What each server refused, by kind, since it came up: said once.
    refused: HashSet<(usize, &'static str, Refusal)>,
    next_read: Instant,
    reading: bool,
    /// Why the device could not be read last, if it could not: said once.
    unreadable: Option<String>,
    looks: Looks,
    sleeps: Sleeps,
    naps: Naps,
    keeper: Keeper,
    writings: mpsc::Sender<Writing>,
    whereabouts: Whereabouts,
}

/// One thing that happened.
enum Happened {
    Device(News),
    Datagram(Result<Datagram, PortError>),
    Server(usize, Said),
    Strategy(Found),
    Question(Question),
    Wish(Wish),
    Link(LinkEvent),
    Request(Request),
    /// The config may be another one.
    Config,
    /// The kernel told of a change of links, addresses, routes or rules.
    Network,
    Timer,
}

/// Where everything comes from that happens.
struct Sources<'a> {
    news: mpsc::Receiver<News>,
    events: EventQueue,
    questions: mpsc::Receiver<Question>,
    wishes: Wishes,
    server_events: mpsc::Receiver<ServerEvent>,
    link_events: mpsc::Receiver<LinkEvent>,
    requests: &'a mut mpsc::Receiver<Request>,
}

/// Randomness of the daemon, for ids and nonces.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without a source of randomness nothing can be sealed: the process ends rather than going on in the clear.
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the system gives no randomness: {error}");
    }
    bytes
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs one interface until it is told to stop or the device is another one.
///
/// # Errors
/// What cannot be worked without: netlink.
pub(super) async fn run(
    config: &AgentConfig,
    run_directory: &Path,
    device: Device,
    state: DeviceState,
    requests: &mut mpsc::Receiver<Request>,
) -> Result<End, AgentError> {
    let network = Network::open()?;
    let place = network.look(state.fwmark).await;
    let record = RecordFile::new(run_directory, &config.interface, state.ifindex);
    let task = DeviceTask::new(device, record, state.clone());
    let view = task.view();
    let (jobs, queue_of_jobs) = mpsc::channel(1024);
    let (news_sender, news) = mpsc::channel(4);
    let device_task = tokio::spawn(task.run(queue_of_jobs, news_sender));

    let (situation, situations) = watch::channel(Situation::default());
    let events = EventQueue::default();
    let (questions_sender, questions) = mpsc::channel(64);
    let resolver = Arc::new(Resolver::new(state.fwmark));
    let memory = Memory::new(&files::state_directory(), &config.interface);
    let wishes = Wishes::default();
    let host = AgentHost::new(events.clone(), questions_sender, wishes.clone(), resolver, memory);
    let host: Arc<dyn Host> = Arc::new(host);
    let lives = Lives::default();
    let runner = Runner::new(&host, &events, &lives, &situations);
    let mut configs = config.config.clone();
    let settings = Arc::clone(&configs.borrow_and_update());
    let (ranking, peers) = reload::rankings(&settings);
    let (servers, server_events) = Servers::open(&config.servers, state.fwmark);
    let (legs, link_events) = Legs::new(config.servers.clone(), state.fwmark);

    let (interface, own) = (config.interface.clone(), state.private_key.clone());
    let read = move || Keeper::open(&files::state_directory(), &interface, &own);
    let Ok(keeper) = tokio::task::spawn_blocking(read).await else { return Ok(End::Stopped) };
    let (writings, to_write) = mpsc::channel(4);
    let writer = tokio::spawn(kept::write_all(to_write, random));

    let mut session = Session {
        scheduler: Scheduler::new(SchedulerConfig {
            own: state.public_key,
            instance: u64::from_ne_bytes(random()),
            seed: random(),
            ranking,
            peers,
        }),
        pairs: Pairs::default(),
        port: Port::new(state.listen_port, state.fwmark),
        servers,
        relays: Relays::default(),
        legs,
        bindings: Bindings::default(),
        held: Vec::new(),
        verifications: Verifications::default(),
        situation,
        shown: Shown::default(),
        view: 0,
        jobs,
        notes: BTreeMap::new(),
        events: events.clone(),
        lives,
        runner,
        configs,
        settings,
        refused: HashSet::new(),
        next_read: now(),
        reading: false,
        unreadable: None,
        looks: Looks::default(),
        sleeps: Sleeps::new(boottime(), monotonic()),
        naps: Naps::default(),
        keeper,
        writings,
        whereabouts: Whereabouts::default(),
        config,
        state,
        network,
        place,
    };
    let peers = session.follow_peers();
    // A keepalive of the last run is that of this network.
    session.find_whereabouts().await;
    session.scheduler.handle(now(), Input::Device(view));
    session.recall_candidates(&peers);
    if let Some(why) = session.servers.why_none() {
        session.scheduler.handle(now(), Input::ServerDown { why });
    }
    session.settle().await;
    session.runner.follow(&session.settings.strategies);

    let sources = Sources { news, events, questions, wishes, server_events, link_events, requests };
    let end = session.event_loop(sources).await;

    session.keep_the_rest();
    let Session { runner, servers, pairs, relays, jobs, writings, .. } = session;
    drop(writings);
    // The disk may take so long and no longer.
    let written = tokio::time::timeout(Duration::from_secs(1), writer);
    drop(tokio::join!(runner.stop(), written));
    // To leave a topic gives its place at a relay back, which a tunnel may go on over while there is no daemon. So these
    // end with the connection.
    let stopped = matches!(end, End::Stopped);
    servers.leave_all(&pairs, |peer| stopped && relays.has_place(peer));
    if stopped {
        jobs.send(Job::Finish).await.ok();
    }
    drop(jobs);
    if tokio::time::timeout(Duration::from_secs(2), device_task).await.is_err() {
        warn!("the device did not answer in time: our keepalives stay set");
    }
    Ok(end)
}

/// Ids and nonces for verifications.
struct FreshFrom<'a>(&'a Servers);

impl Fresh for FreshFrom<'_> {
    fn id(&mut self, server: usize) -> u64 {
        self.0.new_id(server)
    }

    fn nonce(&mut self) -> [u8; 16] {
        random()
    }
}

impl Session<'_> {
    async fn event_loop(&mut self, sources: Sources<'_>) -> End {
        let Sources { mut news, events, mut questions, wishes, mut server_events, mut link_events, requests } =
            sources;
        let stop = self.config.stop.clone();
        loop {
            let timer = tokio::time::sleep_until(self.next_timer().into());
            let happened = tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                Some(news) = news.recv() => Happened::Device(news),
                datagram = self.port.recv() => Happened::Datagram(datagram),
                Some((server, event)) = server_events.recv() => Happened::Server(server, event),
                found = events.recv() => Happened::Strategy(found),
                Some(question) = questions.recv() => Happened::Question(question),
                wish = wishes.recv() => Happened::Wish(wish),
                Some(event) = link_events.recv() => Happened::Link(event),
                Some(request) = requests.recv() => Happened::Request(request),
                Ok(()) = self.configs.changed() => Happened::Config,
                () = self.network.changed() => Happened::Network,
                () = timer => Happened::Timer,
            };
            self.notice_sleep();
            match happened {
                Happened::Device(news) => {
                    if let Some(end) = self.device_news(news) {
                        return end;
                    }
                }
                Happened::Datagram(Ok(datagram)) => self.datagrams(datagram).await,
                Happened::Datagram(Err(error)) => self.port.broken(&error),
                Happened::Server(server, event) => self.server_said(server, event),
                Happened::Strategy(found) => self.strategy_said(found),
                Happened::Question(question) => self.question(question),
                Happened::Wish(wish) => self.wished(wish),
                Happened::Link(event) => self.link_said(event),
                Happened::Request(request) => self.answer(request),
                Happened::Config => self.follow_config(),
                Happened::Network => self.looks.noticed(now()),
                Happened::Timer => self.time_passed().await,
            }
            self.settle().await;
        }
    }

    fn next_timer(&self) -> Instant {
        [
            self.scheduler.poll_timeout().map(|(at, _)| at),
            self.bindings.next(),
            self.relays.next(),
            self.verifications.next(),
            self.looks.due(),
            self.shown.again,
            self.whereabouts.next(),
            self.keeper.due(),
            (!self.reading).then_some(self.next_read),
        ]
        .into_iter()
        .flatten()
        .min()
        // Everything above waits for something else: the answer to a read is such a thing.
        .unwrap_or_else(|| now() + Duration::from_secs(3600))
    }

    async fn time_passed(&mut self) {
        let at = now();
        if self.scheduler.poll_timeout().is_some_and(|(due, _)| due <= at) {
            self.scheduler.handle_timeout(at);
        }
        self.verifications.handle_timeout(at);
        self.relays.handle_timeout(at);
        if self.looks.due().is_some_and(|due| due <= at) {
            self.looks.look(at);
            self.look_at_network().await;
        }
        self.keep(at).await;
        if !self.reading && self.next_read <= at {
            self.reading = self.jobs.try_send(Job::Read).is_ok();
            self.next_read = at + self.scheduler.demand().device_poll;
        }
    }

    /// Before anything is concluded from what happened: the machine may have slept, and what was found before it is past
    /// its time.
    fn notice_sleep(&mut self) {
        let Some(slept) = self.sleeps.slept(boottime(), monotonic()) else { return };
        match self.naps.slept(now(), slept) {
            Woken::Older(time) => self.scheduler.handle(now(), Input::Slept(time)),
            Woken::Anew => {
                info!(slept_s = slept.as_secs(), "the machine slept: everything is found anew");
                self.looks.noticed(now());
                self.network_is_new();
            }
        }
    }

    /// Does all that follows from what was just taken, until nothing more does.
    async fn settle(&mut self) {
        loop {
            let demand = self.scheduler.demand();
            let own = !self.bindings.is_empty() || !self.verifications.is_idle() || self.relays.is_binding();
            self.port.need(demand.working || demand.listening || own);
            if !self.port.is_possible() {
                self.scheduler.handle(now(), Input::PortSharing(false));
            }
            let mut quiet = true;
            while let Some(command) = self.scheduler.poll_command() {
                quiet = false;
                self.perform(command).await;
            }
            for act in self.verifications.take_acts() {
                quiet = false;
                self.act(act);
            }
            quiet &= !self.bind_anew().await;
            self.release_held();
            while let Some(due) = self.bindings.poll(now()) {
                quiet = false;
                self.binding_due(due).await;
            }
            if quiet {
                break;
            }
        }
        let demand = self.scheduler.demand();
        self.next_read = self.next_read.min(now() + demand.device_poll);
        self.update_situation();
        self.keep_learnt();
        self.tell_changes();
    }

    /// Says once what changed for people.
    fn tell_changes(&mut self) {
        for status in self.scheduler.take_changed() {
            let peer = self.peer_name(&status.peer);
            let strategy = status.strategy.as_ref().map_or("none", StrategyName::as_str).to_owned();
            let rtt_ms = status.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0);
            match (&status.reason, status.state) {
                (Some(reason), state) => info!(%peer, %state, %reason, "peer"),
                (None, state @ (State::Connected | State::Relayed)) => {
                    info!(%peer, %state, strategy, rtt_ms, proven = status.proven, "peer");
                    debug!(%peer, endpoint = ?status.endpoint, "the endpoint in use");
                }
                (None, state) => info!(%peer, %state, "peer"),
            }
        }
    }

    fn peer_name(&self, key: &PublicKey) -> String {
        let configured = self.settings.peers.get(key).and_then(|peer| peer.name.clone());
        configured.unwrap_or_else(|| key.short())
    }

    fn answer(&mut self, request: Request) {
        // Whoever asks after a reload sees what it did.
        if self.configs.has_changed().unwrap_or(false) {
            self.follow_config();
        }
        match request {
            Request::Status(answer) => {
                let status = report::interface(
                    &self.config.interface,
                    self.port.number(),
                    &self.settings,
                    &self.scheduler,
                    &self.servers,
                    &self.notes,
                    now(),
                );
                drop(answer.send(status));
            }
            Request::Strategies(answer) => {
                let (name, config) = (&self.config.interface, &self.settings);
                let clock = strategies::Clock::read();
                let report =
                    strategies::report(name, config, &self.events, &self.lives, &self.scheduler, clock);
                drop(answer.send(report));
            }
            Request::Reload(answer) => self.config.pass_on(answer),
        }
    }
}
