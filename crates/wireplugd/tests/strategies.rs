//! Strategies that behave badly hurt nobody else. Virtual time.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use wireplug_core::{Candidate, Endpoint, Evidence, Proof, PublicKey, StrategyName, Tier};
use wireplug_strategy::{
    Binding, BoxFuture, ConfigError, Context, Event, Failure, Host, PortError, Registration, RelayWish,
    ResolveError, Resolved, Situation, Strategy,
};
use wireplugd::strategies::{EventQueue, Found, Lives, Phase, Runner};

/// How the next strategy behaves.
#[derive(Clone, Copy)]
enum Kind {
    Good,
    Fails,
    Panics,
    Hangs,
    Floods,
    /// Fails, and leaves a task behind that goes on talking.
    LeavesATask,
}

struct Behaves(Kind);

static RUNS: AtomicU32 = AtomicU32::new(0);

fn candidate(port: u16) -> Candidate {
    Candidate {
        endpoint: endpoint(port),
        strategy: "x".parse().unwrap(),
        tier: Tier::Direct,
        proof: Proof::Server,
        lifetime: None,
        evidence: Evidence::default(),
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(SocketAddr::from(([203, 0, 113, 7], port))).unwrap()
}

impl Strategy for Behaves {
    fn run(self: Box<Self>, mut context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            RUNS.fetch_add(1, Ordering::Relaxed);
            let generation = context.situation().generation;
            context.found(generation, candidate(1));
            match self.0 {
                Kind::Good => {
                    context.cancelled().await;
                    context.lost(generation, endpoint(1));
                    Ok(())
                }
                Kind::Fails => {
                    sleep(Duration::from_millis(10)).await;
                    Err(Failure("no router at all".to_owned()))
                }
                Kind::Panics => {
                    sleep(Duration::from_millis(10)).await;
                    panic!("oh dear");
                }
                Kind::Hangs => std::future::pending().await,
                Kind::Floods => loop {
                    for port in 1..=1000 {
                        context.found(generation, candidate(port));
                    }
                    sleep(Duration::from_millis(1)).await;
                },
                Kind::LeavesATask => {
                    let left = context.clone();
                    tokio::spawn(async move {
                        loop {
                            left.found(0, candidate(2));
                            sleep(Duration::from_millis(10)).await;
                        }
                    });
                    sleep(Duration::from_millis(10)).await;
                    Err(Failure("leaves a task".to_owned()))
                }
            }
        })
    }
}

/// A registration for each kind: tests leak a few bytes for the `'static` that real ones have.
fn registration(name: &'static str, kind: Kind) -> (&'static Registration, toml::Table) {
    let build: fn(&toml::Table) -> Result<Box<dyn Strategy>, ConfigError> = match kind {
        Kind::Good => |_| Ok(Box::new(Behaves(Kind::Good))),
        Kind::Fails => |_| Ok(Box::new(Behaves(Kind::Fails))),
        Kind::Panics => |_| Ok(Box::new(Behaves(Kind::Panics))),
        Kind::Hangs => |_| Ok(Box::new(Behaves(Kind::Hangs))),
        Kind::Floods => |_| Ok(Box::new(Behaves(Kind::Floods))),
        Kind::LeavesATask => |_| Ok(Box::new(Behaves(Kind::LeavesATask))),
    };
    let registration = Registration { name, tier: Tier::Direct, about: "", options: &[], build };
    (Box::leak(Box::new(registration)), toml::Table::new())
}

struct NoHost;

impl Host for NoHost {
    fn emit(&self, _: &StrategyName, _: u32, _: Event) {
        panic!("events go to the queue");
    }
    fn binding(&self, _: SocketAddr) -> BoxFuture<'static, Result<Binding, PortError>> {
        Box::pin(async { Err(PortError::NotPermitted) })
    }
    fn relay(&self, _: PublicKey, _: &str, _: Option<RelayWish>) {}
    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Resolved, ResolveError>> {
        Box::pin(async { Err(ResolveError { name, why: String::new() }) })
    }
}

struct Bench {
    runner: Runner,
    events: EventQueue,
    lives: Lives,
    _situation: watch::Sender<Situation>,
}

fn start(strategies: &[(&'static str, Kind)]) -> Bench {
    let (sender, situation) = watch::channel(Situation::default());
    let events = EventQueue::default();
    let strategies: Vec<_> = strategies.iter().map(|(name, kind)| registration(name, *kind)).collect();
    let host: Arc<dyn Host> = Arc::new(NoHost);
    let lives = Lives::default();
    let runner = Runner::start(&strategies, &host, &events, &lives, &situation);
    Bench { runner, events, lives, _situation: sender }
}

async fn next(events: &EventQueue) -> Found {
    timeout(Duration::from_secs(600), events.recv()).await.expect("an event")
}

fn drain(events: &EventQueue) -> Vec<Found> {
    std::iter::from_fn(|| events.try_recv()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_good_one_finds_and_takes_back() {
    let bench = start(&[("good", Kind::Good)]);
    assert_eq!(next(&bench.events).await.event, Event::Found(candidate(1)));
    let began = Instant::now();
    bench.runner.stop().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(next(&bench.events).await.event, Event::Lost(endpoint(1)));
}

#[tokio::test(start_paused = true)]
async fn failing_takes_all_back_says_why_and_starts_again_with_growing_pauses() {
    for (kind, why) in [(Kind::Fails, "no router at all"), (Kind::Panics, "it panicked: oh dear")] {
        let bench = start(&[("bad", kind)]);
        let mut starts = Vec::new();
        for _ in 0..12 {
            assert_eq!(next(&bench.events).await.event, Event::Found(candidate(1)));
            starts.push(Instant::now());
            assert_eq!(next(&bench.events).await.event, Event::Lost(endpoint(1)));
            assert_eq!(next(&bench.events).await.event, Event::Note(format!("failed: {why}")));
        }
        let pauses: Vec<_> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        bench.runner.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_how_often_and_when_it_runs_again_is_known() {
    let bench = start(&[("fails", Kind::Fails), ("good", Kind::Good)]);
    let (fails, good) = ("fails".parse().unwrap(), "good".parse().unwrap());
    let began = Instant::now();
    // Two runs of 10 ms and a second between them; the second pause is two seconds.
    sleep(Duration::from_millis(1500)).await;
    let life = bench.lives.of(&fails).unwrap();
    assert_eq!((life.starts, life.failures), (2, 2));
    let second = began + Duration::from_millis(1020);
    assert_eq!(life.last_failure, Some(("no router at all".to_owned(), second)));
    assert_eq!(life.phase, Phase::Resting { until: second + Duration::from_secs(2) });
    let life = bench.lives.of(&good).unwrap();
    assert_eq!((life.starts, life.failures, life.phase), (1, 0, Phase::Running { since: began }));
    assert_eq!(bench.lives.of(&"other".parse().unwrap()), None);
    bench.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_aborted_and_does_not_delay_the_stop() {
    let bench = start(&[("hangs", Kind::Hangs), ("good", Kind::Good)]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(drain(&bench.events).len(), 2);
    let began = Instant::now();
    bench.runner.stop().await;
    assert!(began.elapsed() <= Duration::from_millis(1200), "{:?}", began.elapsed());
    let lost = drain(&bench.events);
    assert_eq!(lost.len(), 2, "both are taken back: {lost:?}");
    assert!(lost.iter().all(|found| found.event == Event::Lost(endpoint(1))));
}

#[tokio::test(start_paused = true)]
async fn only_those_that_changed_are_ended_and_started() {
    let all = ["same", "other", "gone"].map(|name| registration(name, Kind::Good));
    let mut bench = start(&[]);
    bench.runner.follow(&all);
    sleep(Duration::from_secs(5)).await;
    drain(&bench.events);
    let life = |name: &str| bench.lives.of(&name.parse().unwrap());
    let before = life("same");
    let with_options = (all[1].0, toml::toml! { lease = 60 });
    bench.runner.follow(&[with_options.clone(), registration("new", Kind::Good), all[0].clone()]);
    sleep(Duration::from_secs(5)).await;
    let said = drain(&bench.events);
    let of = |name: &str| {
        let events = said.iter().filter(|found| found.strategy.as_str() == name);
        events.map(|found| found.event.clone()).collect::<Vec<_>>()
    };
    let (found, lost) = (Event::Found(candidate(1)), Event::Lost(endpoint(1)));
    assert_eq!((of("same"), life("same")), (vec![], before));
    assert_eq!(of("gone"), std::slice::from_ref(&lost));
    assert_eq!(life("gone"), None, "it is off, and has not failed");
    assert_eq!(of("new"), std::slice::from_ref(&found));
    assert_eq!(of("other"), std::slice::from_ref(&found), "started anew, it says what it finds");
    assert!(life("other").unwrap().phase != life("same").unwrap().phase);
    bench.runner.follow(&[]);
    bench.runner.stop().await;
    let lost_by: Vec<_> =
        drain(&bench.events).into_iter().map(|found| (found.strategy.to_string(), found.event)).collect();
    assert_eq!(lost_by.len(), 3, "{lost_by:?}");
}

/// Its former run may still be at work when it is enabled again; both at once would undo each other's.
#[tokio::test(start_paused = true)]
async fn one_that_is_slow_to_end_is_not_run_twice() {
    let mut bench = start(&[]);
    let hangs = registration("hangs", Kind::Hangs);
    bench.runner.follow(std::slice::from_ref(&hangs));
    sleep(Duration::from_millis(1)).await;
    bench.runner.follow(&[]);
    bench.runner.follow(&[hangs]);
    drain(&bench.events);
    sleep(Duration::from_millis(990)).await;
    assert_eq!(drain(&bench.events), [], "it is given its second to end");
    sleep(Duration::from_millis(20)).await;
    let life = bench.lives.of(&"hangs".parse().unwrap()).unwrap();
    assert!(matches!(life.phase, Phase::Running { .. }));
    bench.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_floods_is_bounded_and_others_are_heard() {
    let bench = start(&[("floods", Kind::Floods), ("good", Kind::Good)]);
    sleep(Duration::from_secs(1)).await;
    let events = drain(&bench.events);
    let of = |name: &str| events.iter().filter(|found| found.strategy.as_str() == name).count();
    assert_eq!((of("floods"), of("good")), (16 + 1, 1));
    bench.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_left_behind_is_not_heard() {
    let bench = start(&[("leaves", Kind::LeavesATask)]);
    sleep(Duration::from_millis(500)).await;
    let heard = drain(&bench.events);
    assert!(matches!(&heard.last().unwrap().event, Event::Note(words) if words.contains("leaves a task")));
    sleep(Duration::from_millis(400)).await;
    assert_eq!(drain(&bench.events), []);
    bench.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_runner_ends_its_tasks() {
    let bench = start(&[("floods", Kind::Floods)]);
    sleep(Duration::from_millis(5)).await;
    drop(bench.runner);
    sleep(Duration::from_millis(5)).await;
    drain(&bench.events);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(drain(&bench.events), []);
}
