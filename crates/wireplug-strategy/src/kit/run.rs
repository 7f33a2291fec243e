//! One run of a strategy on a fake host.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::host::FakeHost;
use super::place::Place;
use crate::context::Context;
use crate::registry::{BoxFuture, Failure, Registration};
use crate::situation::Situation;

/// How often a strategy may be woken within one instant of virtual time. More is a loop that never waits,
/// and it is not woken again: virtual time would stand still for ever.
const WAKES_PER_INSTANT: u64 = 1_000;

/// A strategy that runs, until it is dropped. Use it on paused time: waiting costs nothing there.
#[derive(Debug)]
pub struct Run {
    /// What it told and asked.
    pub host: FakeHost,
    situation: watch::Sender<Situation>,
    cancelled: CancellationToken,
    task: AbortOnDropHandle<Result<(), Failure>>,
    meter: Arc<Meter>,
}

/// Why a strategy did not stop as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStop {
    /// It went on.
    #[error("it was still running {} ms after it was cancelled", .0.as_millis())]
    TooLate(Duration),
    /// It said that it could not go on.
    #[error("it stopped with the failure {:?} instead of Ok", .0.0)]
    Failed(Failure),
    /// It panicked.
    #[error("it panicked: {0}")]
    Panicked(String),
}

impl Run {
    /// Starts a strategy with this table of the config in a place.
    ///
    /// # Errors
    /// What the strategy has against the table, or that its name is none.
    pub fn start(registration: &Registration, table: &toml::Table, place: Place) -> Result<Self, String> {
        let name = registration.name.parse().map_err(|bad| format!("{bad}"))?;
        let strategy = (registration.build)(table).map_err(|error| error.to_string())?;
        let (situation, seen) = watch::channel(place.situation.clone());
        let host = FakeHost::new(place);
        host.announce_to(situation.clone());
        let cancelled = CancellationToken::new();
        let meter = Arc::new(Meter::default());
        let context = Context::new(Arc::new(host.clone()), name, seen, cancelled.clone());
        let metered = Metered { inner: strategy.run(context), meter: meter.clone(), instant: None };
        Ok(Self { host, situation, cancelled, task: AbortOnDropHandle::new(tokio::spawn(metered)), meter })
    }

    /// Changes the place, and announces the new situation if that is another one.
    pub fn change(&self, change: impl FnOnce(&mut Place)) {
        let situation = self.host.change(|place| {
            change(place);
            place.situation.clone()
        });
        self.situation.send_if_modified(|last| {
            let differs = *last != situation;
            *last = situation;
            differs
        });
    }

    /// Lets virtual time pass.
    pub async fn after(&self, time: Duration) {
        sleep(time).await;
    }

    /// How often the strategy was woken.
    pub fn wakes(&self) -> u64 {
        self.meter.wakes.load(Ordering::Relaxed)
    }

    /// Whether it was caught in a loop that never waits.
    pub fn is_spinning(&self) -> bool {
        self.meter.spinning.load(Ordering::Relaxed)
    }

    /// Whether it ended by itself.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Cancels it and waits for its end, at most so long.
    ///
    /// # Errors
    /// [`BadStop`] says what it did instead of returning `Ok` in time.
    pub async fn stop(self, within: Duration) -> Result<(), BadStop> {
        self.cancelled.cancel();
        let mut task = self.task;
        match timeout(within, &mut task).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(failure))) => Err(BadStop::Failed(failure)),
            Ok(Err(panic)) => Err(BadStop::Panicked(panic.to_string())),
            Err(_) => Err(BadStop::TooLate(within)),
        }
    }
}

#[derive(Debug, Default)]
struct Meter {
    wakes: AtomicU64,
    spinning: AtomicBool,
}

/// Counts how often a strategy is woken, and catches one that never waits.
struct Metered {
    inner: BoxFuture<'static, Result<(), Failure>>,
    meter: Arc<Meter>,
    instant: Option<(Instant, u64)>,
}

impl Future for Metered {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let now = Instant::now();
        let wakes = match self.instant {
            Some((instant, wakes)) if instant == now => wakes + 1,
            _ => 1,
        };
        self.instant = Some((now, wakes));
        self.meter.wakes.fetch_add(1, Ordering::Relaxed);
        if wakes > WAKES_PER_INSTANT {
            self.meter.spinning.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        Poll::Ready(ready!(self.inner.as_mut().poll(cx)))
    }
}
