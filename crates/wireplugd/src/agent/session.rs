//! One interface, for as long as it is the same device: the event loop that does what the scheduler decides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};
use wireplug_core::scheduler::{Command, Input, Ranking, Reason, Scheduler, SchedulerConfig, State, Verdict};
use wireplug_core::{Endpoint, Family, PublicKey, StrategyName, Tier, TransactionId};
use wireplug_net::{Device, DeviceError, DeviceState, Resolver};
use wireplug_proto::rendezvous::About;
use wireplug_proto::stun::{self, Incoming, binding};
use wireplug_strategy::{Binding, Event, Host, PeerSituation, PortError, Situation, StunServer};

use super::bindings::{Bindings, Due};
use super::device::{DeviceTask, Job, News};
use super::host::{AgentHost, Question};
use super::network::{DEBOUNCE, Network, Place};
use super::pairs::Pairs;
use super::port::{Port, sender};
use super::servers::{ServerEvent, Servers};
use super::verify::{Act, Fresh, Verifications};
use super::{AgentConfig, AgentError, report};
use crate::config::InterfaceConfig;
use crate::control::Request;
use crate::record::RecordFile;
use crate::rendezvous::Event as Said;
use crate::strategies::{EventQueue, Found, Runner};

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to stop.
    Stopped,
    /// The interface went away, or became another one under the same name.
    Gone(String),
}

/// Whose the answer of a STUN server is.
#[derive(Debug)]
enum Ticket {
    /// A strategy asked.
    Strategy(oneshot::Sender<Result<Binding, PortError>>),
    /// Verification must know which address is ours.
    Ownership { server: usize, family: Family },
}

/// A strategy's question that has to wait until no probe can be on its way.
struct Held {
    server: SocketAddr,
    answer: oneshot::Sender<Result<Binding, PortError>>,
}

pub(super) struct Session<'a> {
    config: &'a AgentConfig,
    state: DeviceState,
    scheduler: Scheduler,
    pairs: Pairs,
    port: Port,
    network: Network,
    place: Place,
    servers: Servers,
    bindings: Bindings<Ticket>,
    held: Vec<Held>,
    verifications: Verifications,
    situation: watch::Sender<Situation>,
    jobs: mpsc::Sender<Job>,
    notes: BTreeMap<StrategyName, String>,
    told: BTreeMap<PublicKey, (State, Option<Reason>)>,
    next_read: Instant,
    reading: bool,
    look_at: Option<Instant>,
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
    let (news_sender, mut news) = mpsc::channel(4);
    let device_task = tokio::spawn(task.run(queue_of_jobs, news_sender));

    let (situation, situations) = watch::channel(Situation::default());
    let events = EventQueue::default();
    let (questions_sender, mut questions) = mpsc::channel(64);
    let resolver = Arc::new(Resolver::new(state.fwmark));
    let host: Arc<dyn Host> = Arc::new(AgentHost::new(events.clone(), questions_sender, resolver));
    let (servers, mut server_events) = Servers::open(&config.servers, state.fwmark);

    let mut session = Session {
        scheduler: Scheduler::new(scheduler_config(&config.config, state.public_key)),
        pairs: Pairs::default(),
        port: Port::new(state.listen_port, state.fwmark),
        servers,
        bindings: Bindings::default(),
        held: Vec::new(),
        verifications: Verifications::default(),
        situation,
        jobs,
        notes: BTreeMap::new(),
        told: BTreeMap::new(),
        next_read: now(),
        reading: false,
        look_at: None,
        config,
        state,
        network,
        place,
    };
    session.follow_peers();
    session.scheduler.handle(now(), Input::Device(view));
    session.settle().await;
    let strategies = session.config.config.strategies.clone();
    let runner = Runner::start(strategies, &host, &events, &situations);

    let end = session.event_loop(&mut news, &events, &mut questions, &mut server_events, requests).await;

    runner.stop().await;
    session.servers.leave_all(&session.pairs);
    if matches!(end, End::Stopped) {
        session.jobs.send(Job::Finish).await.ok();
    }
    drop(session);
    if tokio::time::timeout(Duration::from_secs(2), device_task).await.is_err() {
        warn!("the device did not answer in time: our keepalives stay set");
    }
    Ok(end)
}

fn scheduler_config(interface: &InterfaceConfig, own: PublicKey) -> SchedulerConfig {
    let enabled: Vec<(StrategyName, Tier)> = interface
        .strategies
        .iter()
        .filter_map(|(registration, _)| Some((registration.name.parse().ok()?, registration.tier)))
        .collect();
    let ranking = |order: Vec<(StrategyName, Tier)>| {
        let known = wireplug_strategy::registered().into_iter().filter_map(|one| one.name.parse().ok());
        let refused = known.filter(|name: &StrategyName| order.iter().all(|(on, _)| on != name)).collect();
        Ranking::new(order, refused)
    };
    let peers = interface.peers.iter().filter_map(|(key, peer)| {
        let wanted = peer.strategies.as_ref()?;
        let order = wanted.iter().filter_map(|name| enabled.iter().find(|(on, _)| on == name).cloned());
        Some((*key, ranking(order.collect())))
    });
    let peers = peers.collect();
    SchedulerConfig {
        own,
        instance: u64::from_ne_bytes(random()),
        seed: random(),
        ranking: ranking(enabled.clone()),
        peers,
    }
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
    async fn event_loop(
        &mut self,
        news: &mut mpsc::Receiver<News>,
        events: &EventQueue,
        questions: &mut mpsc::Receiver<Question>,
        server_events: &mut mpsc::Receiver<ServerEvent>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> End {
        let stop = self.config.stop.clone();
        loop {
            let timer = tokio::time::sleep_until(self.next_timer().into());
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                Some(news) = news.recv() => if let Some(end) = self.device_news(news) { return end },
                datagram = self.port.recv() => match datagram {
                    Ok(datagram) => self.datagram(&datagram).await,
                    Err(error) => self.port.broken(&error),
                },
                Some((server, event)) = server_events.recv() => self.server_said(server, event),
                found = events.recv() => self.strategy_said(found),
                Some(question) = questions.recv() => self.question(question),
                Some(request) = requests.recv() => self.answer(request),
                () = self.network.changed() => self.look_at = Some(now() + DEBOUNCE),
                () = timer => self.time_passed().await,
            }
            self.settle().await;
        }
    }

    fn next_timer(&self) -> Instant {
        [
            self.scheduler.poll_timeout().map(|(at, _)| at),
            self.bindings.next(),
            self.verifications.next(),
            self.look_at,
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
        if self.look_at.is_some_and(|due| due <= at) {
            self.look_at = None;
            self.look_at_network().await;
        }
        if !self.reading && self.next_read <= at {
            self.reading = self.jobs.try_send(Job::Read).is_ok();
            self.next_read = at + self.scheduler.demand().device_poll;
        }
    }

    /// Does all that follows from what was just taken, until nothing more does.
    async fn settle(&mut self) {
        loop {
            let demand = self.scheduler.demand();
            self.port.need(demand.working || !self.bindings.is_empty() || !self.verifications.is_idle());
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
        self.tell_changes();
    }

    fn update_situation(&self) {
        let demand = self.scheduler.demand();
        let peers = self.state.peers.iter().map(|peer| PeerSituation {
            public_key: peer.public_key,
            endpoint: self.config.config.peers.get(&peer.public_key).and_then(|peer| peer.endpoint.clone()),
        });
        let next = Situation {
            generation: self.scheduler.generation(),
            interface: self.config.interface.to_string(),
            listen_port: self.port.number(),
            addresses: self.place.for_strategies(),
            servers: self.servers.stun(),
            peers: peers.collect(),
            wanted: demand.working,
            mapping_wanted: demand.mapping,
        };
        self.situation.send_if_modified(|now| {
            let changed = *now != next;
            if changed {
                *now = next;
            }
            changed
        });
    }

    /// Says once what changed for people.
    fn tell_changes(&mut self) {
        for status in self.scheduler.status() {
            let new = (status.state, status.reason.clone());
            let old = self.told.insert(status.peer, new.clone());
            if old.as_ref() == Some(&new) {
                continue;
            }
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
        let configured = self.config.config.peers.get(key).and_then(|peer| peer.name.clone());
        configured.unwrap_or_else(|| key.to_string())
    }

    async fn perform(&mut self, command: Command) {
        match command {
            Command::Check { peer, to, transaction, tier, nominate } => {
                let Some(pair) = self.pairs.get(&peer) else { return };
                let payload = pair.check_request(transaction, tier, nominate);
                if let Err(error) = self.port.send(&self.network.routes, to, payload).await {
                    debug!(%to, %error, "check not sent");
                    if let Some(why) = error.for_path() {
                        self.scheduler.handle(now(), Input::Unsendable { peer, to, why });
                    }
                }
            }
            Command::Answer { peer, to, transaction } => {
                let Some(pair) = self.pairs.get(&peer) else { return };
                let payload = pair.check_response(transaction, to.addr());
                if let Err(error) = self.port.send(&self.network.routes, to, payload).await {
                    debug!(%to, %error, "answer not sent");
                }
            }
            Command::Verify { generation, endpoint } => {
                let server = self.servers.first_up(endpoint.family());
                let fresh = &mut FreshFrom(&self.servers);
                self.verifications.begin(now(), generation, endpoint, server, fresh);
            }
            Command::Publish { peer, offer } => {
                let Some(pair) = self.pairs.get(&peer) else { return };
                debug!(peer = %self.peer_name(&peer), candidates = ?offer.candidates, mapping = ?offer.mapping, "offer sent");
                self.servers.publish(pair.topic(), &pair.seal(&offer, random()));
            }
            Command::Update { peer, endpoint, stimulus } => self.apply(peer, endpoint, stimulus).await,
        }
    }

    /// Has the device changed. The route is looked up again just before: a path through a tunnel loops it.
    async fn apply(
        &mut self,
        peer: PublicKey,
        endpoint: Option<Endpoint>,
        stimulus: wireplug_core::scheduler::Stimulus,
    ) {
        if let Some(to) = endpoint {
            let route = self.network.routes.lookup(to.ip(), self.state.fwmark).await;
            if route.is_ok_and(|route| route.tunnel) {
                warn!(peer = %self.peer_name(&peer), "an endpoint that is reached through a tunnel is not set");
                let why = wireplug_core::scheduler::Unsendable::ThroughTunnel;
                self.scheduler.handle(now(), Input::Unsendable { peer, to, why });
                return;
            }
            info!(peer = %self.peer_name(&peer), "endpoint set");
            debug!(peer = %self.peer_name(&peer), endpoint = %to, ?stimulus, "endpoint set to");
        }
        if self.jobs.send(Job::Update { peer, endpoint, stimulus }).await.is_err() {
            debug!("the device's task is gone");
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Own { server, address } => {
                let family = Family::of(address.ip());
                self.ask(address, Ticket::Ownership { server, family });
            }
            Act::Ask { server, id, endpoint, nonce } => {
                debug!(%endpoint, "asking the server for a probe");
                self.servers.verify(server, id, endpoint, nonce);
            }
            Act::Tell { generation, endpoint, verdict } => {
                match &verdict {
                    Verdict::Wrong { why } => info!(%why, "a candidate is not ours, and is not offered"),
                    verdict => debug!(%endpoint, ?verdict, "candidate verified"),
                }
                self.scheduler.handle(now(), Input::Verdict { generation, endpoint, verdict });
            }
        }
    }

    fn ask(&mut self, server: SocketAddr, ticket: Ticket) {
        let transaction = TransactionId::from_bytes(random());
        let at = now();
        if let Err(ticket) = self.bindings.begin(at, server, transaction, ticket) {
            self.give_up(ticket, PortError::Timeout { server, after: Duration::ZERO });
        }
    }

    async fn binding_due(&mut self, due: Due<Ticket>) {
        match due {
            Due::GivenUp(ticket, error) => self.give_up(ticket, error),
            Due::Send { server, transaction } => {
                let payload = binding::request(
                    transaction,
                    self.servers.token_of(server).as_ref(),
                    binding::Change::None,
                );
                let sent = match sender(server) {
                    Some(to) => self.port.send(&self.network.routes, to, payload).await,
                    None => return,
                };
                let Err(error) = sent else { return };
                if error.for_path().is_some() || !self.port.is_possible() {
                    let why = if self.port.is_possible() {
                        PortError::NoRoute { server, why: error.to_string() }
                    } else {
                        PortError::NotPermitted
                    };
                    if let Some(ticket) = self.bindings.fail(transaction) {
                        self.give_up(ticket, why);
                    }
                }
            }
        }
    }

    fn give_up(&mut self, ticket: Ticket, error: PortError) {
        match ticket {
            Ticket::Strategy(answer) => drop(answer.send(Err(error))),
            Ticket::Ownership { server, family } => {
                debug!(%error, "the server did not tell our address");
                self.verifications.not_owned(server, family);
            }
        }
    }

    /// Lets questions to servers' second addresses go once no probe can be on its way.
    fn release_held(&mut self) {
        let verifications = &self.verifications;
        let (go, stay) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held: &Held| !verifications.is_running(Family::of(held.server.ip())));
        self.held = stay;
        for held in go {
            self.ask(held.server, Ticket::Strategy(held.answer));
        }
    }

    fn question(&mut self, Question { server, answer }: Question) {
        if self.servers.is_secondary(server) && self.verifications.is_running(Family::of(server.ip())) {
            self.held.push(Held { server, answer });
        } else {
            self.ask(server, Ticket::Strategy(answer));
        }
    }

    fn strategy_said(&mut self, Found { strategy, generation, event }: Found) {
        let input = match event {
            Event::Found(candidate) => {
                debug!(%strategy, endpoint = %candidate.endpoint, evidence = candidate.evidence, "candidate found");
                Input::Found { generation, candidate }
            }
            Event::Lost(endpoint) => Input::Lost { generation, strategy, endpoint },
            Event::Suggested { peer, candidate } => Input::Suggested { generation, peer, candidate },
            Event::Withdrawn { peer, endpoint } => Input::Withdrawn { generation, peer, strategy, endpoint },
            Event::Mapping(mapping) => {
                debug!(%strategy, ?mapping, "the NAT's kind");
                Input::Mapping { generation, mapping }
            }
            Event::Note(words) => {
                debug!(%strategy, words, "note");
                self.notes.insert(strategy, words);
                return;
            }
        };
        self.scheduler.handle(now(), input);
    }

    fn device_news(&mut self, news: News) -> Option<End> {
        self.reading = false;
        match news {
            News::Unreadable(error @ DeviceError::NoSuchInterface(_)) => Some(End::Gone(error.to_string())),
            News::Unreadable(error) => {
                warn!(%error, "the device cannot be read now");
                None
            }
            News::Read(state, view) => {
                if state.public_key != self.state.public_key {
                    return Some(End::Gone("the interface has another private key".to_owned()));
                }
                if (state.ifindex, state.fwmark) != (self.state.ifindex, self.state.fwmark) {
                    return Some(End::Gone("the interface was made anew".to_owned()));
                }
                self.state = *state;
                self.port.renumber(self.state.listen_port);
                self.follow_peers();
                self.scheduler.handle(now(), Input::Device(view));
                None
            }
        }
    }

    fn follow_peers(&mut self) {
        let peers = self.state.peers.iter().map(|peer| peer.public_key);
        let (new, left) = self.pairs.follow(&self.state.private_key, peers);
        for key in new {
            if let Some(pair) = self.pairs.get(&key) {
                self.servers.join(pair);
            }
        }
        for topic in left {
            self.servers.leave(topic);
        }
    }

    fn server_said(&mut self, server: usize, event: Said) {
        let url = self.servers.url(server).to_string();
        match event {
            Said::Up { token, stun } => {
                info!(server = %url, "connected");
                self.verifications.forget_server(server);
                if self.servers.up(server, token, stun) {
                    self.scheduler.handle(now(), Input::ServerUp);
                }
            }
            Said::Down { why } => {
                self.verifications.forget_server(server);
                if let Some(why) = self.servers.down(server, why) {
                    self.scheduler.handle(now(), Input::ServerDown { why });
                }
            }
            Said::Offer { topic, sealed } => {
                let Some((peer, pair)) = self.pairs.of_topic(&topic) else { return };
                match pair.open(&sealed) {
                    Ok(offer) => {
                        debug!(peer = %self.peer_name(&peer), candidates = ?offer.candidates, mapping = ?offer.mapping, "offer received");
                        self.scheduler.handle(now(), Input::OfferArrived { peer, offer });
                    }
                    Err(error) => debug!(peer = %self.peer_name(&peer), %error, "an offer was refused"),
                }
            }
            Said::Probed { id } => self.verifications.sent(now(), server, id),
            Said::Refused { about: About::Verify(id), reason, detail, .. } => {
                debug!(server = %url, %detail, "the server sends no probe");
                self.verifications.refused(server, id, reason);
            }
            Said::Refused { about, detail, retry_after, .. } => {
                let retry_s = retry_after.map(|after| after.as_secs());
                warn!(server = %url, about = ?about_word(&about), %detail, retry_s, "the server refused");
            }
        }
    }

    async fn datagram(&mut self, datagram: &wireplug_net::Datagram) {
        let Some(from) = sender(datagram.from) else { return };
        match stun::classify(&datagram.payload) {
            Incoming::Other => {}
            Incoming::Probe { nonce } => self.verifications.arrived(&nonce),
            Incoming::Response { transaction } => self.response(from, transaction, &datagram.payload),
            Incoming::CheckRequest { transaction, tag } => {
                let Some((peer, pair)) = self.pairs.of_tag(tag) else { return };
                let Ok(request) = pair.open_check_request(&datagram.payload) else { return };
                // A check that came through a tunnel proves a path through it.
                if self.network.routes.is_tunnel(datagram.ifindex).await.unwrap_or(false) {
                    return;
                }
                debug!(peer = %self.peer_name(&peer), %from, nominated = request.nominate, "check received");
                let (tier, nominated) = (request.tier, request.nominate);
                self.scheduler
                    .handle(now(), Input::CheckRequested { peer, from, transaction, tier, nominated });
            }
        }
    }

    fn response(&mut self, from: Endpoint, transaction: TransactionId, payload: &[u8]) {
        if let Ok(answer) = binding::parse_response(payload)
            && let Some((ticket, binding)) =
                self.bindings.answered(now(), from.addr(), transaction, answer.mapped)
        {
            match ticket {
                Ticket::Strategy(answer) => drop(answer.send(Ok(binding))),
                Ticket::Ownership { server, .. } => {
                    let fresh = &mut FreshFrom(&self.servers);
                    self.verifications.owned_by(now(), server, binding, fresh);
                }
            }
            return;
        }
        // Which pair's check it answers is known to the scheduler by its transaction alone; the integrity tells
        // whether it is true.
        let Some(peer) = self.scheduler.asked(&transaction, from) else { return };
        let Some(pair) = self.pairs.get(&peer) else { return };
        if pair.open_check_response(payload).is_ok() {
            debug!(peer = %self.peer_name(&peer), %from, "path proven");
            self.scheduler.handle(now(), Input::CheckAnswered { peer, from, transaction });
        }
    }

    async fn look_at_network(&mut self) {
        let place = self.network.look(self.state.fwmark).await;
        if place == self.place {
            return;
        }
        info!("the network changed");
        self.place = place;
        self.verifications.forget_all();
        for (server, ticket) in self.bindings.drain().collect::<Vec<_>>() {
            let why = "the network changed".to_owned();
            self.give_up(ticket, PortError::NoRoute { server, why });
        }
        self.servers.kick();
        self.scheduler.handle(now(), Input::NetworkChanged);
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                let status = report::interface(
                    &self.config.interface,
                    self.port.number(),
                    &self.config.config,
                    &self.scheduler,
                    &self.servers,
                    &self.notes,
                    now(),
                );
                drop(answer.send(status));
            }
        }
    }
}

fn about_word(about: &About) -> &'static str {
    match about {
        About::Join(_) => "joining a topic",
        About::Publish(_) => "an offer",
        About::Verify(_) => "a probe",
        About::Connection => "the connection",
    }
}

/// For servers whose STUN addresses are grouped by family.
pub(super) fn in_family(stun: &[StunServer], family: Family) -> Option<SocketAddr> {
    stun.iter().map(|server| server.primary).find(|primary| Family::of(primary.ip()) == family)
}
