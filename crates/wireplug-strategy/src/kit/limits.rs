//! How much a strategy may ask, say and work when nothing changes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::host::Question;
use super::run::Run;

const HOUR: Duration = Duration::from_hours(1);

/// Fewest seconds between two requests to the same server, on average over an hour.
const SECONDS_PER_BINDING: usize = 5;
/// The same for a name, while something is wanted.
const SECONDS_PER_LOOKUP: usize = 25;
/// The same for a name, while nothing is wanted: a settled tunnel costs next to nothing.
const SECONDS_PER_QUIET_LOOKUP: usize = 290;
/// The most events in an hour in which nothing changes, after the first minute.
const EVENTS_PER_HOUR: usize = 60;
/// The most wakes in such an hour.
const WAKES_PER_HOUR: u64 = 3600 * 4;
/// The most wakes in an hour in which nothing is wanted.
const QUIET_WAKES_PER_HOUR: u64 = 120;

/// An hour in which nothing changes and something is wanted.
pub(super) async fn busy_hour(when: &str, run: &Run) -> Result<(), String> {
    let hour = Hour::of(run).await;
    hour.check(SECONDS_PER_LOOKUP, WAKES_PER_HOUR).map_err(|much| format!("{when}: {much}"))
}

/// An hour in which nothing is wanted.
pub(super) async fn quiet_hour(when: &str, run: &Run) -> Result<(), String> {
    let hour = Hour::of(run).await;
    if let Some(sent) = hour.asked.iter().find(|question| matches!(question, Question::Binding(_))) {
        return Err(format!("{when}: sent from the WireGuard port though not wanted: {sent:?}"));
    }
    hour.check(SECONDS_PER_QUIET_LOOKUP, QUIET_WAKES_PER_HOUR)
        .map_err(|much| format!("{when}, not wanted: {much}"))
}

/// What a strategy did in an hour.
struct Hour {
    said: usize,
    asked: Vec<Question>,
    wakes: u64,
}

impl Hour {
    async fn of(run: &Run) -> Self {
        let (said, asked, wakes) = (run.host.said().len(), run.host.asked().len(), run.wakes());
        run.after(HOUR).await;
        let questions = run.host.asked().split_off(asked).into_iter();
        Self {
            said: run.host.said().len() - said,
            asked: questions.map(|asked| asked.question).collect(),
            wakes: run.wakes() - wakes,
        }
    }

    fn check(&self, seconds_per_lookup: usize, most_wakes: u64) -> Result<(), String> {
        if self.said > EVENTS_PER_HOUR {
            return Err(format!("{} events in an hour without a change", self.said));
        }
        if self.wakes > most_wakes {
            return Err(format!("woken {} times in an hour", self.wakes));
        }
        let mut times: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for question in &self.asked {
            let (what, gap) = match question {
                Question::Binding(server) => (server.to_string(), SECONDS_PER_BINDING),
                Question::Name(name) => (name.clone(), seconds_per_lookup),
                Question::Relay(peer, server) => (format!("{server} for {peer:?}"), SECONDS_PER_BINDING),
            };
            times.entry(what).or_insert((0, gap)).0 += 1;
        }
        for (what, (times, gap)) in times {
            // One more: an hour may begin with a question.
            let most = 3600 / gap + 1;
            if times > most {
                return Err(format!("asked {what} {times} times in an hour, {most} would do"));
            }
        }
        Ok(())
    }
}
