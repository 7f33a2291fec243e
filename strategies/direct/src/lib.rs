//! Strategy `direct`: the public addresses of this host, and the configured endpoints of peers.
//!
//! - Every global address of this host with WireGuard's port is a candidate. The server must reach it before
//!   it is offered, since a firewall may stand before it (module `addresses` says which ones, and why).
//! - Every peer with an `endpoint` in the config may be reached there: an address as it is, a name at what it
//!   resolves to. Names are resolved again as their time to live says, when the network changes, and when a
//!   peer is worked on again; hardly ever while nothing is wanted (module `names`).
//!
//! It sends nothing from the WireGuard port, and leaves nothing outside this host.

mod addresses;
mod names;
mod target;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};
use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError, Context, Failure, Registration, ResolveError, Strategy};

use addresses::OwnAddresses;
use names::{Answer, Names, Query};

/// How long a name may take to resolve, all servers and retransmissions together.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

const OPTIONS: &[OptionDoc] = &[];

inventory::submit! {
    Registration {
        name: "direct",
        tier: Tier::Direct,
        about: "public addresses of this host, and the configured names and addresses of peers",
        options: OPTIONS,
        build,
    }
}

/// Its table of the config: it has no options.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Direct {}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    Ok(Box::new(options::parse::<Direct>(table, OPTIONS)?))
}

impl Strategy for Direct {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(run(context))
    }
}

async fn run(mut context: Context) -> Result<(), Failure> {
    let ending = context.clone();
    let mut own = OwnAddresses::default();
    let mut names = Names::default();
    let mut answers = FuturesUnordered::new();
    let mut situation = context.situation();
    let mut is_new = true;
    loop {
        if is_new {
            own.update(&situation, &context);
            names.update(&situation, &context);
        }
        for query in names.queries(Instant::now()) {
            answers.push(ask(context.clone(), query));
        }
        let due = names.due();
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        is_new = false;
        tokio::select! {
            biased;
            () = ending.cancelled() => return Ok(()),
            () = context.changed() => {
                let now = context.situation();
                if now.generation != situation.generation {
                    answers.clear();
                }
                situation = now;
                is_new = true;
            }
            Some(answer) = answers.next() => names.answered(answer, Instant::now(), &context),
            () = wait => {}
        }
    }
}

async fn ask(context: Context, query: Query) -> Answer {
    let outcome = timeout(RESOLVE_LIMIT, context.resolve(&query.host)).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", RESOLVE_LIMIT.as_secs());
        Err(ResolveError { name: query.host.clone(), why })
    });
    Answer { query, outcome }
}
