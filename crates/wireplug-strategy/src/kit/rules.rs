//! The rules, one function each.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::Scenario;
use super::host::Standing;
use super::limits::{busy_hour, quiet_hour};
use super::place::{Nat, Place};
use super::run::{BadStop, Run};
use crate::event::Event;
use crate::registry::Registration;

/// What every strategy must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Its registration has a proper name, a line about it, and full documents of its options.
    DescribesItself,
    /// A key that it does not know is refused, by its name.
    RefusesUnknownKeys,
    /// A value of the wrong type is refused, by its key and with what is accepted.
    RefusesWrongTypes,
    /// It finds something within a minute, under its own name and for the right generation.
    Finds,
    /// It takes back what no longer holds, in the same generation.
    Retracts,
    /// After a change of the network it says what holds there, and nothing for the old one.
    FollowsTheNetwork,
    /// Answers that come after a change of the network are not taken for the new one's.
    IgnoresLateAnswers,
    /// While no peer wants it, nothing is sent from the WireGuard port, and names are hardly looked up.
    KeepsQuiet,
    /// It returns `Ok` within a second of being cancelled, whatever it waits for, and not before.
    Cancels,
    /// After its end no task, request, event or trace outside is left.
    LeavesNothing,
    /// It does not spin, and neither asks nor talks too much, also when nothing answers.
    Rests,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 11] = [
        Self::DescribesItself,
        Self::RefusesUnknownKeys,
        Self::RefusesWrongTypes,
        Self::Finds,
        Self::Retracts,
        Self::FollowsTheNetwork,
        Self::IgnoresLateAnswers,
        Self::KeepsQuiet,
        Self::Cancels,
        Self::LeavesNothing,
        Self::Rests,
    ];
}

/// A rule that is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?}: {how}")]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What was seen, and what should have been.
    pub how: String,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

struct Subject<'a> {
    registration: &'a Registration,
    table: &'a toml::Table,
    scenario: &'a Scenario,
}

type Outcome = Result<(), String>;

pub(super) async fn check(
    rule: Rule,
    registration: &Registration,
    table: &toml::Table,
    scenario: &Scenario,
) -> Result<(), Violation> {
    let subject = Subject { registration, table, scenario };
    let outcome = match rule {
        Rule::DescribesItself => subject.describes_itself(),
        Rule::RefusesUnknownKeys => subject.refuses_unknown_keys(),
        Rule::RefusesWrongTypes => subject.refuses_wrong_types(),
        Rule::Finds => paused(subject.finds()).await,
        Rule::Retracts => paused(subject.retracts()).await,
        Rule::FollowsTheNetwork => paused(subject.follows_the_network()).await,
        Rule::IgnoresLateAnswers => paused(subject.ignores_late_answers()).await,
        Rule::KeepsQuiet => paused(subject.keeps_quiet()).await,
        Rule::Cancels => paused(subject.cancels()).await,
        Rule::LeavesNothing => paused(subject.leaves_nothing()).await,
        Rule::Rests => paused(subject.rests()).await,
    };
    outcome.map_err(|how| Violation { rule, how })
}

/// Refuses to wait for hours of real time.
async fn paused(rule: impl Future<Output = Outcome>) -> Outcome {
    let start = std::time::Instant::now();
    sleep(3 * SECOND).await;
    if start.elapsed() > 2 * SECOND {
        return Err("time is not paused: use #[tokio::test(start_paused = true)]".to_owned());
    }
    rule.await
}

impl Subject<'_> {
    fn describes_itself(&self) -> Outcome {
        let Registration { name, about, options, .. } = self.registration;
        name.parse::<wireplug_core::StrategyName>().map_err(|bad| bad.to_string())?;
        ensure(!about.is_empty(), || "`about` is empty".to_owned())?;
        for option in *options {
            let key = option.key;
            let full = ![key, option.accepts, option.default, option.about].contains(&"");
            ensure(full, || format!("the document of option {key:?} is not complete"))?;
            let times = options.iter().filter(|other| other.key == key).count();
            ensure(times == 1, || format!("option {key:?} is documented {times} times"))?;
        }
        for (which, table) in [("an empty table", &toml::Table::new()), ("the given table", self.table)] {
            (self.registration.build)(table).map_err(|error| format!("{which} is refused: {error}"))?;
        }
        Ok(())
    }

    fn refuses_unknown_keys(&self) -> Outcome {
        self.refuses("no-such-key", &toml::Value::Integer(1))
    }

    fn refuses_wrong_types(&self) -> Outcome {
        for option in self.registration.options {
            // No option is a list of lists of lists.
            let list = |inner| toml::Value::Array(vec![inner]);
            self.refuses(option.key, &list(list(list(toml::Value::Boolean(true)))))?;
        }
        Ok(())
    }

    fn refuses(&self, key: &str, value: &toml::Value) -> Outcome {
        let mut table = self.table.clone();
        table.insert(key.to_owned(), value.clone());
        let Err(error) = (self.registration.build)(&table) else {
            return Err(format!("{key} = {value} was accepted"));
        };
        let named = error.key.as_deref() == Some(key) && error.message.contains(key);
        ensure(named, || format!("{key} = {value} was refused without its name: {error:?}"))
    }

    async fn finds(&self) -> Outcome {
        let run = self.start(&self.scenario.home)?;
        run.after(MINUTE).await;
        let standing = run.host.standing();
        ensure(!standing.is_empty(), || format!("nothing after a minute at home; {}", told(&run)))?;
        let own = self.registration.name;
        let candidates = standing.candidates.values().map(|candidate| &candidate.strategy);
        let suggestions = standing.suggestions.values().map(|candidate| &candidate.strategy);
        for strategy in candidates.chain(suggestions) {
            ensure(strategy.as_str() == own, || format!("a candidate says that {strategy} found it"))?;
        }
        for said in run.host.said() {
            ensure(said.generation == said.during, || format!("said for another generation: {said:?}"))?;
        }
        self.still_runs(&run)
    }

    async fn retracts(&self) -> Outcome {
        let run = self.at_home().await?;
        run.change(|place| *place = place.clone().emptied());
        run.after(10 * SECOND).await;
        let standing = run.host.standing();
        let empty = standing.is_empty();
        ensure(empty, || {
            format!("the interface went down, but this still stands: {:?}", standing.endpoints())
        })?;
        self.still_runs(&run)?;

        for (what, changed) in &self.scenario.changes {
            let run = self.at_home().await?;
            run.change(|place| *place = changed.clone());
            run.after(2 * HOUR).await;
            let expected = self.fresh(changed).await?;
            agree(what, &run, &expected)?;
        }
        Ok(())
    }

    async fn follows_the_network(&self) -> Outcome {
        let run = self.at_home().await?;
        run.change(|place| *place = self.scenario.away.clone());
        let before = run.host.said().len();
        run.after(SECOND).await;
        let late = run.host.said().split_off(before).len() + before;
        run.after(MINUTE).await;
        let expected = self.fresh(&self.scenario.away).await?;
        agree("the network changed", &run, &expected)?;
        let old = run.host.said().into_iter().skip(late).find(|said| said.generation != said.during);
        ensure(old.is_none(), || format!("said for the old network after a second: {old:?}"))?;

        // And with no network between.
        let run = self.at_home().await?;
        run.change(|place| {
            *place = place.clone().emptied();
            place.situation.generation = 2;
        });
        run.after(MINUTE).await;
        let standing = run.host.standing();
        ensure(standing.is_empty(), || format!("without a network: {:?}", standing.endpoints()))?;
        run.change(|place| {
            *place = self.scenario.home.clone();
            place.situation.generation = 3;
        });
        run.after(MINUTE).await;
        let expected = self.fresh(&self.scenario.home).await?;
        agree("the network came back", &run, &expected)?;
        self.still_runs(&run)
    }

    async fn ignores_late_answers(&self) -> Outcome {
        let slow = Place { latency: 2 * SECOND, ..self.scenario.home.clone() };
        let run = self.start(&slow)?;
        run.after(SECOND).await;
        run.change(|place| *place = self.scenario.away.clone());
        run.after(MINUTE).await;
        let expected = self.fresh(&self.scenario.away).await?;
        agree("the network changed while a question was under way", &run, &expected)?;
        let future = run.host.said().into_iter().find(|said| said.generation > said.during);
        ensure(future.is_none(), || format!("said for a generation to come: {future:?}"))
    }

    async fn keeps_quiet(&self) -> Outcome {
        let mut unwanted = self.scenario.home.clone();
        unwanted.situation.wanted = false;
        let run = self.start(&unwanted)?;
        quiet_hour("from the start", &run).await?;

        run.change(|place| place.situation.wanted = true);
        run.after(MINUTE).await;
        let found = !run.host.standing().is_empty();
        ensure(found, || format!("nothing a minute after it was wanted; {}", told(&run)))?;

        run.change(|place| place.situation.wanted = false);
        run.after(SECOND).await;
        quiet_hour("after work", &run).await?;
        self.still_runs(&run)
    }

    async fn cancels(&self) -> Outcome {
        let home = &self.scenario.home;
        let mut unwanted = home.clone();
        unwanted.situation.wanted = false;
        let cases = [
            ("before its first step", home.clone(), Duration::ZERO),
            ("while it asks", home.clone(), Duration::from_millis(10)),
            ("when it has found", home.clone(), MINUTE),
            ("in a later hour", home.clone(), 2 * HOUR),
            ("while every request hangs", Place { hangs: true, ..home.clone() }, MINUTE),
            ("while it is not wanted", unwanted, MINUTE),
            ("without a network", home.clone().emptied(), MINUTE),
        ];
        for (when, place, after) in cases {
            let run = self.start(&place)?;
            if !after.is_zero() {
                run.after(after).await;
            }
            self.still_runs(&run)?;
            run.stop(SECOND).await.map_err(|bad| format!("cancelled {when}: {bad}"))?;
        }
        Ok(())
    }

    async fn leaves_nothing(&self) -> Outcome {
        let before = Handle::current().metrics().num_alive_tasks();
        for (when, after) in [("while it asks", Duration::from_millis(10)), ("when it has found", MINUTE)] {
            let run = self.at_home().await?;
            run.change(|place| *place = self.scenario.away.clone());
            run.after(after).await;
            let host = run.host.clone();
            // How it ends is another rule's.
            if let Err(bad @ BadStop::TooLate(_)) = run.stop(10 * SECOND).await {
                return Err(format!("cancelled {when}: {bad}"));
            }
            sleep(SECOND).await;
            let tasks = Handle::current().metrics().num_alive_tasks().saturating_sub(before);
            ensure(tasks == 0, || format!("stopped {when}: {tasks} tasks still run"))?;
            let requests = host.in_flight();
            ensure(requests == 0, || format!("stopped {when}: {requests} requests are still under way"))?;
            let traces = (host.said().len(), host.asked().len());
            sleep(HOUR).await;
            let later = (host.said().len(), host.asked().len());
            ensure(traces == later, || {
                format!("stopped {when}: events, requests {traces:?} became {later:?}")
            })?;
            let left = (self.scenario.left_behind)();
            ensure(left.is_empty(), || format!("stopped {when}: it left behind {}", left.join(", ")))?;
        }
        Ok(())
    }

    async fn rests(&self) -> Outcome {
        let home = &self.scenario.home;
        let mut silent = Place { nat: Nat::Silent, nat6: Nat::Silent, ..home.clone() };
        silent.names.clear();
        let cases = [
            ("with answers", home.clone()),
            ("when nothing answers", silent),
            ("when every request hangs", Place { hangs: true, ..home.clone() }),
            ("without a network", home.clone().emptied()),
        ];
        for (when, place) in cases {
            let run = self.start(&place)?;
            run.after(MINUTE).await;
            let hour = busy_hour(when, &run).await;
            ensure(!run.is_spinning(), || format!("{when}: it loops without waiting"))?;
            hour?;
            self.still_runs(&run)?;
        }
        Ok(())
    }

    fn start(&self, place: &Place) -> Result<Run, String> {
        Run::start(self.registration, self.table, place.clone())
    }

    /// A run that has found what is to be found at home.
    async fn at_home(&self) -> Result<Run, String> {
        let run = self.start(&self.scenario.home)?;
        run.after(MINUTE).await;
        ensure(!run.host.standing().is_empty(), || {
            format!("nothing after a minute at home; {}", told(&run))
        })?;
        Ok(run)
    }

    /// What a run that starts in a place comes to say there.
    async fn fresh(&self, place: &Place) -> Result<Standing, String> {
        let run = self.start(place)?;
        run.after(MINUTE).await;
        Ok(run.host.standing())
    }

    fn still_runs(&self, run: &Run) -> Outcome {
        ensure(!run.has_ended(), || format!("{} ended before it was cancelled", self.registration.name))?;
        ensure(!run.is_spinning(), || format!("{} loops without waiting", self.registration.name))
    }
}

fn agree(what: &str, run: &Run, expected: &Standing) -> Outcome {
    let (standing, expected) = (run.host.standing().endpoints(), expected.endpoints());
    ensure(standing == expected, || {
        format!("{what}: it says {standing:?}, but a fresh start says {expected:?}; {}", told(run))
    })
}

/// What a run said last, for messages.
fn told(run: &Run) -> String {
    let said = run.host.said();
    let last: Vec<&Event> = said.iter().rev().take(4).map(|said| &said.event).collect();
    format!("last said, newest first: {last:?}")
}

fn ensure(holds: bool, how: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(how()) }
}
