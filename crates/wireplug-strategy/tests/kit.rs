//! The conformance kit can fail: each of these broken strategies is caught by the rule that is meant for it.

#![allow(clippy::expect_used, reason = "helpers of tests are tests too")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;
use wireplug_core::{Candidate, Endpoint, Proof, Tier};
use wireplug_strategy::kit::{Nat, Place, Rule, Scenario, address, check, check_all};
use wireplug_strategy::options::{OptionDoc, parse};
use wireplug_strategy::{
    BoxFuture, ConfigError, Context, Failure, Registration, Situation, Strategy, StunServer,
};

/// What is wrong with a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Defect {
    Nothing,
    FindsNothing,
    SaysAnothersName,
    EndsWhenItHasFound,
    PanicsOnAnotherNetwork,
    NeverRetracts,
    SpeaksForTheOldNetwork,
    TakesLateAnswers,
    SendsUnwanted,
    WaitsForRequestsWhenCancelled,
    StopsSlowly,
    FailsAtTheEnd,
    LeavesATask,
    Spins,
    Floods,
    AsksTooOften,
}

/// One candidate, as the first server sees it, asked for again every 20 s.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Example {
    defect: Defect,
}

impl Default for Example {
    fn default() -> Self {
        Self { defect: Defect::Nothing }
    }
}

const OPTIONS: &[OptionDoc] = &[OptionDoc {
    key: "defect",
    accepts: "a defect",
    default: "nothing",
    about: "what is wrong",
    secret: false,
}];

const EXAMPLE: Registration = Registration {
    name: "example",
    tier: Tier::Punched,
    about: "a strategy that may have a defect",
    options: OPTIONS,
    build: |table| Ok(Box::new(parse::<Example>(table, OPTIONS)?)),
};

fn scenario() -> Scenario {
    let place = |host, port| {
        let ip = |last| IpAddr::V4(Ipv4Addr::new(203, 0, 113, last));
        let situation = Situation {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            addresses: vec![address(IpAddr::V4(Ipv4Addr::new(192, 168, 1, host)), 24)],
            servers: vec![StunServer { primary: SocketAddr::new(ip(1), 3478), secondary: None }],
            ..Situation::default()
        };
        Place::new(situation).behind(Nat::Fixed(SocketAddr::new(ip(50), port)))
    };
    Scenario::new(place(5, 40_001), place(77, 40_002))
}

async fn violations(registration: &Registration, table: &toml::Table, scenario: &Scenario) -> Vec<Rule> {
    let mut broken = Vec::new();
    for rule in Rule::ALL {
        if let Err(violation) = check(rule, registration, table, scenario).await {
            println!("{violation}");
            assert_eq!(violation.rule, rule);
            broken.push(rule);
        }
    }
    broken
}

/// The rules that the example breaks with a defect.
async fn broken_by(defect: &str) -> Vec<Rule> {
    let table = toml::Table::from_iter([("defect".to_owned(), defect.into())]);
    violations(&EXAMPLE, &table, &scenario()).await
}

#[tokio::test(start_paused = true)]
async fn a_sound_strategy_keeps_all_rules() {
    check_all(&EXAMPLE, &toml::Table::new(), &scenario()).await;
}

/// One test for each defect: all the rules that it breaks, the one that is meant for it first.
macro_rules! caught {
    ($($test:ident: $defect:literal breaks $rule:ident $(and $other:ident)*;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                let mut expected = vec![Rule::$rule $(, Rule::$other)*];
                expected.sort_by_key(|rule| Rule::ALL.iter().position(|other| other == rule));
                assert_eq!(broken_by($defect).await, expected);
            }
        )*
    };
}

caught! {
    finding_nothing: "finds-nothing" breaks Finds
        and Retracts and FollowsTheNetwork and KeepsQuiet and LeavesNothing;
    another_strategys_name: "says-anothers-name" breaks Finds;
    ending_early: "ends-when-it-has-found" breaks Cancels
        and Finds and Retracts and FollowsTheNetwork and KeepsQuiet and Rests;
    a_panic: "panics-on-another-network" breaks FollowsTheNetwork;
    not_retracting: "never-retracts" breaks Retracts;
    speaking_for_the_old_network: "speaks-for-the-old-network" breaks FollowsTheNetwork;
    taking_late_answers: "takes-late-answers" breaks IgnoresLateAnswers;
    sending_unwanted: "sends-unwanted" breaks KeepsQuiet;
    waiting_for_requests: "waits-for-requests-when-cancelled" breaks Cancels;
    stopping_slowly: "stops-slowly" breaks Cancels;
    failing_at_the_end: "fails-at-the-end" breaks Cancels;
    leaving_a_task: "leaves-a-task" breaks LeavesNothing;
    spinning: "spins" breaks Rests
        and Finds and Retracts and FollowsTheNetwork and KeepsQuiet and Cancels and LeavesNothing;
    flooding: "floods" breaks Rests;
    asking_too_often: "asks-too-often" breaks Rests;
}

#[tokio::test(start_paused = true)]
async fn leaving_a_mapping_on_a_router() {
    let mut scenario = scenario();
    scenario.left_behind = Box::new(|| vec!["a mapping of port 51820".to_owned()]);
    let violation = check(Rule::LeavesNothing, &EXAMPLE, &toml::Table::new(), &scenario).await.unwrap_err();
    assert!(violation.to_string().contains("a mapping of port 51820"), "{violation}");
}

#[tokio::test(start_paused = true)]
async fn what_changes_without_the_network_must_be_noticed() {
    let noticed = scenario().changing("another mapping", |place| place.nat = Nat::Fixed(other_mapping()));
    let violation = check(Rule::Retracts, &EXAMPLE, &toml::Table::new(), &noticed).await.unwrap_err();
    assert!(
        violation.how.starts_with("another mapping: it says"),
        "the example forgets the old: {violation}"
    );
}

fn other_mapping() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 51)), 40_003)
}

#[tokio::test(start_paused = true)]
async fn taking_any_key() {
    let lenient = Registration { build: |_| Ok(Box::new(Example::default())), ..EXAMPLE };
    let expected = [Rule::RefusesUnknownKeys, Rule::RefusesWrongTypes];
    assert_eq!(violations(&lenient, &toml::Table::new(), &scenario()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn refusing_without_the_key() {
    let nameless = Registration {
        build: |table| {
            if table.is_empty() {
                return Ok(Box::new(Example::default()));
            }
            Err(ConfigError { key: None, message: "something is wrong".to_owned() })
        },
        ..EXAMPLE
    };
    let expected = [Rule::RefusesUnknownKeys, Rule::RefusesWrongTypes];
    assert_eq!(violations(&nameless, &toml::Table::new(), &scenario()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn describing_badly() {
    const UNDOCUMENTED: &[OptionDoc] = &[OptionDoc {
        key: "defect",
        accepts: "",
        default: "nothing",
        about: "what is wrong",
        secret: false,
    }];
    const TWICE: &[OptionDoc] = &[OPTIONS[0], OPTIONS[0]];
    for bad in [
        Registration { name: "No Name", ..EXAMPLE },
        Registration { about: "", ..EXAMPLE },
        Registration { options: UNDOCUMENTED, ..EXAMPLE },
        Registration { options: TWICE, ..EXAMPLE },
        Registration {
            build: |_| Err(ConfigError { key: None, message: "it needs a table".to_owned() }),
            ..EXAMPLE
        },
    ] {
        let outcome = check(Rule::DescribesItself, &bad, &toml::Table::new(), &scenario()).await;
        assert_eq!(outcome.map_err(|violation| violation.rule), Err(Rule::DescribesItself), "{bad:?}");
    }
}

#[tokio::test]
#[should_panic(expected = "time is not paused")]
async fn real_time_is_refused() {
    if let Err(violation) = check(Rule::Finds, &EXAMPLE, &toml::Table::new(), &scenario()).await {
        panic!("{violation}");
    }
}

impl Strategy for Example {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(run(self.defect, context))
    }
}

async fn run(defect: Defect, mut context: Context) -> Result<(), Failure> {
    let ending = context.clone();
    let mut said: Option<(u32, Endpoint)> = None;
    if defect == Defect::LeavesATask {
        tokio::spawn(sleep(Duration::from_hours(24)));
    }
    loop {
        let before = said.map(|(generation, _)| generation);
        let mut situation = context.situation();
        if before.is_some_and(|before| before != situation.generation) {
            assert!(defect != Defect::PanicsOnAnotherNetwork, "the defect");
            said = None;
        }
        let retracts = defect != Defect::NeverRetracts;
        if let Some((generation, endpoint)) = said.take_if(|_| retracts && situation.listen_port == 0) {
            context.lost(generation, endpoint);
        }

        let wanted = situation.wanted || defect == Defect::SendsUnwanted;
        if let Some(server) = situation.servers.first().filter(|_| wanted && situation.listen_port != 0) {
            let request = ending.binding(server.primary);
            let outcome = tokio::select! {
                biased;
                () = ending.cancelled(), if defect != Defect::WaitsForRequestsWhenCancelled => break,
                () = context.changed(), if defect != Defect::TakesLateAnswers => continue,
                outcome = request => outcome,
            };
            if defect == Defect::TakesLateAnswers {
                situation = context.situation();
            }
            let mapped = outcome.ok().and_then(|binding| Endpoint::new(binding.mapped).ok());
            let generation = match defect {
                Defect::SpeaksForTheOldNetwork => before.unwrap_or(situation.generation),
                _ => situation.generation,
            };
            let now = mapped.map(|endpoint| (generation, endpoint));
            if let Some((_, endpoint)) = now.filter(|_| said != now && defect != Defect::FindsNothing) {
                context.found(generation, candidate(defect, &context, endpoint));
                said = now;
            }
        }

        match defect {
            Defect::EndsWhenItHasFound if said.is_some() => return Ok(()),
            Defect::Spins if said.is_some() => loop {
                tokio::task::yield_now().await;
            },
            Defect::Floods => context.note(situation.generation, "still here"),
            _ => {}
        }
        let pause = match defect {
            Defect::AsksTooOften if wanted => Duration::from_secs(1),
            _ if wanted => Duration::from_secs(20),
            _ => Duration::from_mins(1),
        };
        tokio::select! {
            biased;
            () = ending.cancelled() => break,
            () = context.changed() => {}
            () = sleep(pause) => {}
        }
    }
    match defect {
        Defect::StopsSlowly => sleep(Duration::from_secs(2)).await,
        Defect::FailsAtTheEnd => return Err(Failure("no more".to_owned())),
        _ => {}
    }
    Ok(())
}

fn candidate(defect: Defect, context: &Context, endpoint: Endpoint) -> Candidate {
    let strategy = match defect {
        Defect::SaysAnothersName => "another".parse().expect("a name"),
        _ => context.name().clone(),
    };
    Candidate {
        endpoint,
        strategy,
        tier: Tier::Punched,
        proof: Proof::Server,
        lifetime: None,
        evidence: "an example".into(),
    }
}
