//! Does what the ledger decides: calls the protocol, keeps the record, tells the daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ledger::{Job, Ledger};
use super::record::Record;
use super::{Ask, Checked, Grant, LONGEST_CALL, MapError, Protocol, Settings};
use crate::context::Context;
use crate::registry::{BoxFuture, Failure, Strategy};
use crate::situation::Gateway;

/// How long the disk may hold up a request. Without the record, a killed daemon leaves a mapping behind until its
/// lease ends; that is better than no mapping.
const DISK: Duration = Duration::from_millis(300);
/// How long taking everything back may take: a strategy has one second to end.
const LAST: Duration = Duration::from_millis(650);
/// After a router's notice, others are not listened to for so long: a flood costs no more.
const DEAF: Duration = Duration::from_secs(1);

/// What came of a job.
enum Done {
    Mapped(u64, Ask, Result<Grant, MapError>),
    Checked(u64, Result<Checked, MapError>),
    Unmapped(Ask, Result<(), MapError>),
}

/// A strategy that maps by a protocol, for [`crate::Registration::build`].
pub fn strategy(protocol: impl Protocol, settings: Settings) -> Box<dyn Strategy> {
    Box::new(Maps { protocol: Arc::new(protocol), settings })
}

struct Maps {
    protocol: Arc<dyn Protocol>,
    settings: Settings,
}

impl Strategy for Maps {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)
                .map_err(|error| Failure(format!("the system gives no randomness: {error}")))?;
            run(self.protocol, self.settings, seed, context).await
        })
    }
}

/// Maps until it is cancelled, and takes back what it mapped. A router that fails is said and asked again later.
/// `seed`: real randomness, for secrets, ports and jitter.
async fn run(
    protocol: Arc<dyn Protocol>,
    settings: Settings,
    seed: [u8; 32],
    mut context: Context,
) -> Result<(), Failure> {
    let ending = context.clone();
    let memory = tokio::select! {
        () = ending.cancelled() => return Ok(()),
        memory = timeout(DISK, ending.recall()) => memory.ok().flatten(),
    };
    let record = memory.map(|memory| Record::from_bytes(&memory)).unwrap_or_default();
    let mut ledger =
        Ledger::new(context.name().clone(), protocol.title(), protocol.epoch_rule(), settings, seed, record);
    let mut calls = FuturesUnordered::new();
    let mut ears = Ears::default();
    let situation = context.situation();
    ledger.situation(Instant::now(), &situation, protocol.sites(&situation));
    loop {
        keep(&mut ledger, &context).await;
        for (generation, event) in ledger.take_says() {
            context.emit(generation, event);
        }
        for job in ledger.take_jobs() {
            calls.push(call(&*protocol, &context, job, LONGEST_CALL));
        }
        ears.listen(&*protocol, &context, ledger.routers());
        let due = ledger.due();
        tokio::select! {
            biased;
            () = ending.cancelled() => break,
            () = context.changed() => {
                let situation = context.situation();
                ledger.situation(Instant::now(), &situation, protocol.sites(&situation));
            }
            Some(done) = calls.next() => take(&mut ledger, done),
            Some((gateway, told)) = ears.notices.next() => ledger.noticed(Instant::now(), &gateway, told),
            () = at(due) => ledger.handle_timeout(Instant::now()),
        }
    }
    drop(ears);
    drop(calls);
    let mut last: FuturesUnordered<_> =
        ledger.stop().into_iter().map(|job| call(&*protocol, &context, job, LAST)).collect();
    while let Some(done) = last.next().await {
        take(&mut ledger, done);
    }
    keep(&mut ledger, &context).await;
    Ok(())
}

fn take(ledger: &mut Ledger, done: Done) {
    let now = Instant::now();
    match done {
        Done::Mapped(id, ask, outcome) => ledger.mapped(now, id, &ask, outcome),
        Done::Checked(id, outcome) => ledger.checked(now, id, &outcome),
        Done::Unmapped(ask, outcome) => ledger.unmapped(&ask, &outcome),
    }
}

/// Puts on disk what has to be there before anything is sent.
async fn keep(ledger: &mut Ledger, context: &Context) {
    if let Some(memory) = ledger.take_record() {
        match timeout(DISK, context.remember(memory)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(strategy = %context.name(), %error, "mappings are not remembered");
            }
            Err(_) => {
                tracing::debug!(strategy = %context.name(), "the disk is slow, mappings may be forgotten");
            }
        }
    }
}

/// Makes a job's call, and ends it if the protocol does not.
fn call(protocol: &dyn Protocol, context: &Context, job: Job, within: Duration) -> BoxFuture<'static, Done> {
    let gone = |ask: &Ask, title| MapError::Silent { gateway: ask.site.gateway.ip, service: title };
    let title = protocol.title();
    match job {
        Job::Map { id, ask } => {
            let call = protocol.map(context.clone(), ask.clone());
            Box::pin(async move {
                let outcome = timeout(within, call).await.unwrap_or_else(|_| Err(gone(&ask, title)));
                Done::Mapped(id, ask, outcome)
            })
        }
        Job::Check { id, ask } => {
            let call = protocol.check(context.clone(), ask.clone());
            Box::pin(async move {
                Done::Checked(id, timeout(within, call).await.unwrap_or_else(|_| Err(gone(&ask, title))))
            })
        }
        Job::Unmap { ask } => {
            let call = protocol.unmap(context.clone(), ask.clone());
            Box::pin(async move {
                let outcome = timeout(within, call).await.unwrap_or_else(|_| Err(gone(&ask, title)));
                Done::Unmapped(ask, outcome)
            })
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Listens to the routers that hold a mapping.
#[derive(Default)]
struct Ears {
    routers: Vec<Gateway>,
    notices: FuturesUnordered<BoxFuture<'static, (Gateway, u32)>>,
}

impl Ears {
    fn listen(&mut self, protocol: &dyn Protocol, context: &Context, routers: Vec<Gateway>) {
        if self.routers != routers {
            self.notices.clear();
            for gateway in &routers {
                self.notices.push(notice(protocol, context, gateway.clone(), Duration::ZERO));
            }
            self.routers = routers;
        } else if self.notices.len() < routers.len() {
            // One was heard; it is listened to again.
            self.notices.clear();
            for gateway in routers {
                self.notices.push(notice(protocol, context, gateway, DEAF));
            }
        }
    }
}

fn notice(
    protocol: &dyn Protocol,
    context: &Context,
    gateway: Gateway,
    after: Duration,
) -> BoxFuture<'static, (Gateway, u32)> {
    let heard = protocol.notice(context.clone(), gateway.clone());
    Box::pin(async move {
        if !after.is_zero() {
            sleep(after).await;
        }
        (gateway, heard.await)
    })
}
