//! Strategy `hole-punch`: the NAT's mapping of the WireGuard port, found by STUN from that very port.
//!
//! - While some peer is worked on, every server is asked at once for our address as it sees it. The first
//!   answer is a candidate straight away, so that the peers can start.
//! - Then each server's second address is asked. The same answer means a fixed mapping; another one means that
//!   the NAT maps each destination differently, and the candidate is taken back: no peer would find us there
//!   (module `picture` draws these conclusions).
//! - As long as a peer is worked on, a mapping that is offered is kept alive by asking again (module `survey`).
//!   Then there is silence: a tunnel that works keeps its own mapping.
//!
//! The only thing that it leaves outside this host is the NAT's mapping, which expires by itself.

mod picture;
mod survey;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep_until, timeout};
use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError, Context, Failure, PortError, Registration, Strategy};

use survey::{Answer, Question, Survey};

/// How often the mapping is asked for again. RFC 4787 section 4.3 (REQ-5) wants NATs to keep a UDP mapping for
/// two minutes at least, but many keep it for 30 s only. More often would be traffic for nothing.
const REFRESH: Duration = Duration::from_secs(20);
/// What may be chosen instead: from what the worst NATs need to what the best ones promise.
const REFRESH_BOUNDS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// How long an answer is waited for. The daemon may hold back a question to a second address until probes of
/// the first are done, but no longer than a mapping can wait for its refresh.
const PATIENCE: Duration = Duration::from_secs(10);

const OPTIONS: &[OptionDoc] = &[OptionDoc {
    key: "refresh",
    accepts: "a length of time from \"5s\" to \"5m\"",
    default: "20s",
    about: "how often the NAT's mapping is kept alive while a peer is worked on",
    secret: false,
}];

inventory::submit! {
    Registration {
        name: "hole-punch",
        tier: Tier::Punched,
        about: "the NAT's mapping of the WireGuard port, as STUN servers see it",
        options: OPTIONS,
        build,
    }
}

/// Its table of the config.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct HolePunch {
    #[serde(deserialize_with = "refresh")]
    refresh: Duration,
}

impl Default for HolePunch {
    fn default() -> Self {
        Self { refresh: REFRESH }
    }
}

fn refresh<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    options::duration_within(deserializer, REFRESH_BOUNDS.0..=REFRESH_BOUNDS.1)
}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    Ok(Box::new(options::parse::<HolePunch>(table, OPTIONS)?))
}

impl Strategy for HolePunch {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(run(Survey::new(self.refresh), context))
    }
}

async fn run(mut survey: Survey, mut context: Context) -> Result<(), Failure> {
    let ending = context.clone();
    let mut answers = FuturesUnordered::new();
    survey.update(&context.situation(), &context);
    loop {
        for question in survey.questions(Instant::now()) {
            answers.push(ask(context.clone(), question));
        }
        let due = survey.due();
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ending.cancelled() => return Ok(()),
            () = context.changed() => {
                survey.update(&context.situation(), &context);
                if !survey.is_asking() {
                    // What is still under way was asked for another situation.
                    answers.clear();
                }
            }
            Some(answer) = answers.next() => survey.answered(&answer, Instant::now(), &context),
            () = wait => {}
        }
    }
}

async fn ask(context: Context, question: Question) -> Answer {
    let Question { to: server, .. } = question;
    let outcome = timeout(PATIENCE, context.binding(server)).await;
    let outcome = outcome.unwrap_or(Err(PortError::Timeout { server, after: PATIENCE }));
    Answer { question, outcome }
}
