//! Whom to ask for our mapping, when, and what to say of the answers.
//!
//! Time comes in with each call. [`Survey::questions`] hands out what is due, [`Survey::answered`] takes what
//! came of it, and [`Survey::due`] says when to ask for questions again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use wireplug_core::{Candidate, Endpoint, Family, Mapping, Proof, Reach, Tier};
use wireplug_strategy::{Binding, Context, PortError, Situation, StunServer};

use crate::picture::Picture;

/// The pause after the first failure; it doubles up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often a server is asked again where there is no mapping to keep alive: seldom, only so that a change
/// that no network event announces is found at all.
const IDLE_REFRESH: Duration = Duration::from_mins(5);

/// All that is known of the mappings of one WireGuard port in one network.
#[derive(Debug)]
pub(crate) struct Survey {
    refresh: Duration,
    situation: Situation,
    rounds: u64,
    /// By the servers' primary addresses.
    lines: BTreeMap<SocketAddr, Line>,
    /// What each asked address saw. It holds without the server, which may go away.
    views: BTreeMap<Family, BTreeMap<SocketAddr, Endpoint>>,
    /// What was said of each family in this generation.
    said: BTreeMap<Family, Picture>,
    /// Who did not answer last, and was complained of.
    failing: BTreeSet<SocketAddr>,
    noted: BTreeSet<String>,
}

/// A binding request to send now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// Whom to ask.
    pub(crate) to: SocketAddr,
    primary: SocketAddr,
    round: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) question: Question,
    pub(crate) outcome: Result<Binding, PortError>,
}

/// One server in one family.
#[derive(Debug)]
struct Line {
    server: StunServer,
    step: Step,
    /// When the primary address last answered: the mapping's age counts from there.
    heard: Option<Instant>,
    /// In a row, of the primary address.
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nobody wants to know.
    Sleeps,
    /// It is time to ask this address.
    Due(SocketAddr),
    /// A request of this round is under way.
    Asking(u64),
    /// Until the primary address is asked again.
    Rests(Instant),
}

impl Survey {
    /// One that knows nothing yet, and keeps mappings alive by asking this often.
    pub(crate) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            situation: Situation::default(),
            rounds: 0,
            lines: BTreeMap::new(),
            views: BTreeMap::new(),
            said: BTreeMap::new(),
            failing: BTreeSet::new(),
            noted: BTreeSet::new(),
        }
    }

    /// Takes a new situation.
    pub(crate) fn update(&mut self, situation: &Situation, context: &Context) {
        let before = std::mem::replace(&mut self.situation, situation.clone());
        if before.generation != situation.generation {
            self.lines.clear();
            self.views.clear();
            self.said.clear();
            self.failing.clear();
            self.noted.clear();
        }
        // Another port has other mappings, and without an address there are none.
        if before.listen_port != situation.listen_port || situation.addresses.is_empty() {
            self.lines.clear();
            self.views.clear();
        }
        let can_ask = situation.listen_port != 0 && !situation.addresses.is_empty();
        let servers: &[StunServer] = if can_ask { &situation.servers } else { &[] };
        self.lines.retain(|_, line| servers.contains(&line.server));
        for server in servers {
            let line = self.lines.entry(server.primary).or_insert_with(|| Line {
                server: server.clone(),
                step: Step::Sleeps,
                heard: None,
                failures: 0,
            });
            match line.step {
                Step::Sleeps if situation.wanted => line.step = Step::Due(server.primary),
                _ if !situation.wanted => line.step = Step::Sleeps,
                Step::Sleeps | Step::Due(_) | Step::Asking(_) | Step::Rests(_) => {}
            }
        }
        for family in [Family::V6, Family::V4] {
            self.conclude(family, context);
        }
    }

    /// The requests to send now.
    pub(crate) fn questions(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        for (primary, line) in &mut self.lines {
            let to = match line.step {
                Step::Due(to) => to,
                Step::Rests(until) if until <= now => *primary,
                Step::Sleeps | Step::Asking(_) | Step::Rests(_) => continue,
            };
            self.rounds += 1;
            line.step = Step::Asking(self.rounds);
            questions.push(Question { to, primary: *primary, round: self.rounds });
        }
        questions
    }

    /// When there will be questions again, if nothing else happens; call after [`Survey::questions`].
    pub(crate) fn due(&self) -> Option<Instant> {
        let ends = |line: &Line| if let Step::Rests(until) = line.step { Some(until) } else { None };
        self.lines.values().filter_map(ends).min()
    }

    /// Whether some answer is still awaited.
    pub(crate) fn is_asking(&self) -> bool {
        self.lines.values().any(|line| matches!(line.step, Step::Asking(_)))
    }

    /// Takes the outcome of a request. One that was overtaken by a change is ignored.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Instant, context: &Context) {
        let Question { to, primary, round } = answer.question;
        let Some(line) = self.lines.get(&primary) else { return };
        if line.step != Step::Asking(round) {
            return;
        }
        match seen(answer) {
            Ok(mapped) => self.saw(primary, to, mapped, now, context),
            Err(why) => self.failed(primary, to, why, now, context),
        }
    }

    fn saw(
        &mut self,
        primary: SocketAddr,
        by: SocketAddr,
        mapped: Endpoint,
        now: Instant,
        context: &Context,
    ) {
        let family = Family::of(by.ip());
        let views = self.views.entry(family).or_default();
        if views.get(&by).is_some_and(|before| *before != mapped) {
            // The NAT has given us another mapping: what others saw before cannot be compared with it.
            views.clear();
            for (other, line) in &mut self.lines {
                if Family::of(other.ip()) == family && matches!(line.step, Step::Rests(_)) {
                    line.step = Step::Due(*other);
                }
            }
        }
        self.failing.remove(&by);
        let is_listed = |at: &SocketAddr| {
            self.lines.values().any(|line| line.server.primary == *at || line.server.secondary == Some(*at))
        };
        let views = self.views.entry(family).or_default();
        // What a server that went away saw cannot be asked again, so it yields.
        views.retain(|at, seen| *seen == mapped || is_listed(at));
        views.insert(by, mapped);
        let secondary = self.lines.get(&primary).and_then(|line| line.server.secondary);
        let compare_with = secondary.filter(|secondary| !views.contains_key(secondary));
        self.conclude(family, context);

        let of_family = self.lines.keys().filter(|other| Family::of(other.ip()) == family).count();
        let is_alone = secondary.is_none() && of_family == 1;
        if is_alone && self.said.get(&family).is_some_and(Picture::is_first_look) {
            let words = format!("{primary} has one address only: the kind of our NAT cannot be told by it");
            self.note(words, context);
        }
        let pause = self.pause(family);
        let Some(line) = self.lines.get_mut(&primary) else { return };
        if by == primary {
            line.heard = Some(now);
            line.failures = 0;
        }
        line.step = compare_with.map_or(line.rest(now, pause), Step::Due);
    }

    fn failed(&mut self, primary: SocketAddr, to: SocketAddr, why: String, now: Instant, context: &Context) {
        let pause = self.pause(Family::of(primary.ip()));
        let Some(line) = self.lines.get_mut(&primary) else { return };
        if to == primary {
            let pause = (RETRY.0 * 2u32.saturating_pow(line.failures.min(8))).min(RETRY.1);
            line.failures = line.failures.saturating_add(1);
            line.step = Step::Rests(now + pause);
        } else {
            // The candidate stands without it; the comparison is tried again with the next refresh.
            line.step = line.rest(now, pause);
        }
        if self.failing.insert(to) {
            self.note(why, context);
        }
    }

    /// Says what differs from what was said before.
    fn conclude(&mut self, family: Family, context: &Context) {
        let Situation { generation, listen_port, .. } = self.situation;
        let own = self.situation.addresses.iter();
        let own: BTreeSet<Endpoint> =
            own.filter_map(|own| Endpoint::new((own.ip, listen_port).into()).ok()).collect();
        let picture = self.views.get(&family).map(|views| Picture::draw(views, &own)).unwrap_or_default();
        let before = self.said.get(&family).cloned().unwrap_or_default();

        if before.mapping == Mapping::DestinationDependent && picture.is_first_look() {
            // It would be taken back with the second answer, as it was before.
            return;
        }
        let (old, new) = (before.reachable.as_ref(), picture.reachable.as_ref());
        if let Some((endpoint, _)) = old
            && new.is_none_or(|(now, _)| now != endpoint)
        {
            context.lost(generation, *endpoint);
        }
        if let Some((endpoint, evidence)) = new
            && old != new
        {
            let candidate = Candidate {
                endpoint: *endpoint,
                strategy: context.name().clone(),
                tier: Tier::Punched,
                proof: Proof::Done(Reach::Filtered),
                lifetime: None,
                evidence: evidence.clone(),
            };
            context.found(generation, candidate);
        }
        if family == Family::V4 && before.mapping != picture.mapping {
            context.mapping(generation, picture.mapping);
            if picture.mapping == Mapping::DestinationDependent {
                let words =
                    "our NAT maps each destination differently: peers cannot send to what a server sees";
                self.note(words.to_owned(), context);
            }
        }
        self.said.insert(family, picture);
    }

    /// Only what is offered is kept alive.
    fn pause(&self, family: Family) -> Duration {
        let is_offered = self.said.get(&family).is_some_and(|picture| picture.reachable.is_some());
        if is_offered { self.refresh } else { IDLE_REFRESH }
    }

    /// Says it once in each generation.
    fn note(&mut self, words: String, context: &Context) {
        if self.noted.insert(words.clone()) {
            context.note(self.situation.generation, words);
        }
    }
}

impl Line {
    /// Until its mapping needs to be refreshed, if that is so long after the primary address last answered.
    fn rest(&self, now: Instant, pause: Duration) -> Step {
        Step::Rests(self.heard.unwrap_or(now) + pause)
    }
}

/// The mapping that an answer tells, if there is one.
fn seen(answer: &Answer) -> Result<Endpoint, String> {
    let binding = answer.outcome.as_ref().map_err(ToString::to_string)?;
    let server = answer.question.to;
    Endpoint::new(binding.mapped).map_err(|why| format!("{server} says that it sees us elsewhere: {why}"))
}
