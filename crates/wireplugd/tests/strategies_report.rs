//! What `wireplug strategies` shows of strategies that find, fail and keep secrets, as JSON and for people. Virtual time.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wireplug_core::scheduler::{Input, Ranking, Scheduler, SchedulerConfig, Verdict};
use wireplug_core::{Candidate, Endpoint, Evidence, Mapping, Proof, PublicKey, Reach, RemoteCandidate, Tier};
use wireplug_strategy::kit::{FakeHost, Place};
use wireplug_strategy::options::OptionDoc;
use wireplug_strategy::{BoxFuture, Context, Failure, Host, Registration, Situation, Strategy};
use wireplugd::config::{InterfaceConfig, PeerConfig};
use wireplugd::status::{StrategyInfo, interfaces_table, strategies_table};
use wireplugd::strategies::{Clock, EventQueue, Lives, Runner, report};

const OPTIONS: &[OptionDoc] = &[
    OptionDoc {
        key: "lease",
        accepts: "a length of time",
        default: "1h",
        about: "for how long",
        secret: false,
    },
    OptionDoc { key: "token", accepts: "a text", default: "none", about: "who we are", secret: true },
];
const FINDS: Registration = Registration {
    name: "finds",
    tier: Tier::Mapped,
    about: "It finds.",
    options: OPTIONS,
    build: |_| Ok(Box::new(Finds)),
};
const FAILS: Registration = Registration {
    name: "fails",
    tier: Tier::Lan,
    about: "It fails.",
    options: &[],
    build: |_| Ok(Box::new(Fails)),
};
/// The moment of the report on the wall clock.
const WALL: Duration = Duration::from_secs(1_700_000_000);

struct Finds;
struct Fails;

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}

fn peer() -> PublicKey {
    PublicKey::from_bytes([7; 32])
}

fn mapping(port: u16) -> Candidate {
    let words = format!("Fake 2: router 192.168.1.1 maps port {port}");
    let evidence = Evidence::new(words).with("gateway", "192.168.1.1").with("protocol", "Fake 2");
    Candidate {
        endpoint: endpoint(&format!("5.6.7.8:{port}")),
        strategy: "finds".parse().unwrap(),
        tier: Tier::Mapped,
        proof: Proof::Server,
        lifetime: Some(Duration::from_hours(1)),
        evidence,
    }
}

fn suggestion() -> RemoteCandidate {
    RemoteCandidate {
        endpoint: endpoint("10.0.0.9:51820"),
        strategy: "finds".parse().unwrap(),
        tier: Tier::Direct,
        reach: Reach::Filtered,
    }
}

impl Strategy for Finds {
    fn run(self: Box<Self>, mut context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            let generation = context.situation().generation;
            for port in [1000, 2000, 3000] {
                context.found(generation, mapping(port));
            }
            context.suggest(generation, peer(), suggestion());
            context.mapping(generation, Mapping::DestinationDependent);
            sleep(Duration::from_secs(10)).await;
            context.found(generation, mapping(1000));
            context.note(generation, "all is well\u{7}");
            context.cancelled().await;
            Ok(())
        })
    }
}

impl Strategy for Fails {
    fn run(self: Box<Self>, _: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async { Err(Failure("no router at all".to_owned())) })
    }
}

fn config() -> InterfaceConfig {
    let table = toml::toml! { token = "hush" };
    let own_list = PeerConfig {
        name: Some("nas".to_owned()),
        strategies: Some(vec!["fails".parse().unwrap()]),
        endpoint: None,
    };
    InterfaceConfig {
        strategies: vec![(&FINDS, table), (&FAILS, toml::Table::new())],
        peers: BTreeMap::from([(peer(), own_list)]),
    }
}

/// Two minutes of two strategies, and what is told then.
async fn told() -> Vec<StrategyInfo> {
    let config = config();
    let mut scheduler = Scheduler::new(SchedulerConfig {
        own: PublicKey::from_bytes([1; 32]),
        instance: 1,
        seed: [0; 32],
        ranking: Ranking::default(),
        peers: BTreeMap::new(),
    });
    let generation = scheduler.generation();
    let (_sender, situation) = watch::channel(Situation { generation, ..Situation::default() });
    let (events, lives) = (EventQueue::default(), Lives::default());
    let host: Arc<dyn Host> = Arc::new(FakeHost::new(Place::default()));
    let runner = Runner::start(&config.strategies, &host, &events, &lives, &situation);
    sleep(Duration::from_secs(100)).await;
    let now = Instant::now().into_std();
    for (port, verdict) in [
        (1000, Some(Verdict::Open)),
        (2000, Some(Verdict::Wrong { why: "the server sees us at 9.9.9.9".to_owned() })),
        (3000, None),
    ] {
        let candidate = mapping(port);
        let endpoint = candidate.endpoint;
        scheduler.handle(now, Input::Found { generation, candidate });
        if let Some(verdict) = verdict {
            scheduler.handle(now, Input::Verdict { generation, endpoint, verdict });
        }
    }
    let clock = Clock { now, wall: SystemTime::UNIX_EPOCH + WALL };
    let told = report(&"wg0".parse().unwrap(), &config, &events, &lives, &scheduler, clock);
    runner.stop().await;
    told
}

#[tokio::test(start_paused = true)]
async fn json_is_what_scripts_rely_on() {
    let told = told().await;
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(serde_json::from_value::<Vec<StrategyInfo>>(json.clone()).unwrap(), told);
    let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let found = |port: u16, left_s: u64, verdict: &str, why: Value| {
        json!({
            "endpoint": format!("5.6.7.8:{port}"), "since": "2023-11-14T22:11:40Z", "left_s": left_s,
            "verdict": verdict, "why": why,
            "evidence": format!("Fake 2: router 192.168.1.1 maps port {port}"),
            "facts": {"gateway": "192.168.1.1", "protocol": "Fake 2"}
        })
    };
    assert_eq!(
        json[0],
        json!({
            "name": "finds", "tier": "mapped", "about": "It finds.",
            "options": [
                {"key": "lease", "accepts": "a length of time", "default": "1h", "about": "for how long",
                 "secret": false},
                {"key": "token", "accepts": "a text", "default": "none", "about": "who we are", "secret": true}
            ],
            "interfaces": [{
                "interface": "wg0", "enabled": true, "rank": 1, "state": "running",
                "since": "2023-11-14T22:11:40Z", "again": null, "starts": 1, "failures": 0,
                "last_failure": null,
                "options": {"lease": "1h", "token": "***"}, "configured": ["token"],
                "peers": [{"public_key": key, "name": "nas", "enabled": false, "rank": null}],
                "note": {"text": "all is well ", "since": "2023-11-14T22:11:50Z"},
                "nat": "destination-dependent",
                "found": [
                    found(1000, 3510, "open", Value::Null),
                    found(2000, 3500, "wrong", json!("not ours: the server sees us at 9.9.9.9; not offered")),
                    found(3000, 3500, "pending", json!("no server could tell yet")),
                ],
                "suggested": [{
                    "public_key": key, "name": "nas", "endpoint": "10.0.0.9:51820",
                    "since": "2023-11-14T22:11:40Z"
                }]
            }]
        })
    );
    // After 0, 1, 3, 7, 15, 31 and 63 s it failed; the next pause is 64 s.
    assert_eq!(
        json[1]["interfaces"][0],
        json!({
            "interface": "wg0", "enabled": true, "rank": 2, "state": "failed", "since": null,
            "again": "2023-11-14T22:13:47Z", "starts": 7, "failures": 7,
            "last_failure": {"text": "no router at all", "since": "2023-11-14T22:12:43Z"},
            "options": {}, "configured": [],
            "peers": [{"public_key": key, "name": "nas", "enabled": true, "rank": 1}],
            "note": {"text": "failed: no router at all", "since": "2023-11-14T22:11:40Z"},
            "nat": null, "found": [], "suggested": []
        })
    );
    let direct = told.iter().find(|one| one.name == "direct").unwrap();
    assert_eq!(direct.interfaces[0].state, wireplugd::status::Activity::Off);
    assert!(!json.to_string().contains("hush"), "a secret was told");
}

#[tokio::test(start_paused = true)]
async fn people_read_a_block_for_each_interface() {
    let told: Vec<StrategyInfo> = told().await.into_iter().take(3).collect();
    let others = [&FINDS, &FAILS].map(StrategyInfo::of);
    assert_eq!(
        strategies_table(&others),
        "STRATEGY  WHAT IT DOES\nfinds     It finds.\nfails     It fails.\n"
    );
    let text = interfaces_table(&told, SystemTime::UNIX_EPOCH + WALL);
    assert_eq!(
        text,
        "wg0\n\
        \x20  1  finds     runs for 1 min\n\
        \x20       5.6.7.8:1000 open, for 1 min, 58 min left: Fake 2: router 192.168.1.1 maps port 1000\n\
        \x20       5.6.7.8:2000 wrong (not ours: the server sees us at 9.9.9.9; not offered), for 1 min, 58 min \
         left: Fake 2: router 192.168.1.1 maps port 2000\n\
        \x20       5.6.7.8:3000 not proven (no server could tell yet), for 1 min, 58 min left: Fake 2: router \
         192.168.1.1 maps port 3000\n\
        \x20       nas may be at 10.0.0.9:51820, for 1 min\n\
        \x20       NAT: another mapping for each destination, which cannot be punched\n\
        \x20       all is well  (1 min ago)\n\
        \x20       config: token = \"***\"\n\
        \x20       for nas: not enabled\n\
        \x20  2  fails     failed 7 times, starts again in 27 s: no router at all\n\
        \x20       for nas: rank 1\n\
        \x20  -  lan-mdns  not enabled\n"
    );
}
