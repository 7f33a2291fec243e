//! What `hole-punch` finds behind each kind of NAT, and what it sends for it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::SocketAddr;
use std::time::Duration;

use wireplug_core::{Mapping, Proof, Reach, Tier};
use wireplug_hole_punch as _;
use wireplug_strategy::kit::{Answers, Nat, Place, Question, Run, address};
use wireplug_strategy::{Event, Situation, StunServer, find};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

const FIRST: &str = "203.0.113.1:3478";
const SECOND_ADDRESS: &str = "203.0.113.2:3478";
const OTHER: &str = "198.51.100.1:3478";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn server(primary: &str, secondary: Option<&str>) -> StunServer {
    StunServer { primary: addr(primary), secondary: secondary.map(addr) }
}

/// A host at 192.168.1.5 with these servers, 20 ms away.
fn place(servers: &[StunServer], nat: Nat) -> Place {
    Place::new(Situation {
        generation: 1,
        interface: "wg0".to_owned(),
        listen_port: 51820,
        addresses: vec![address(addr("192.168.1.5:1").ip(), 24)],
        servers: servers.to_vec(),
        wanted: true,
        ..Situation::default()
    })
    .behind(nat)
}

fn start(place: Place) -> Run {
    start_with(place, &toml::Table::new())
}

fn start_with(place: Place, table: &toml::Table) -> Run {
    Run::start(find("hole-punch").unwrap(), table, place).unwrap()
}

fn fixed(text: &str) -> Nat {
    Nat::Fixed(addr(text))
}

fn found(run: &Run) -> Vec<String> {
    run.host.standing().candidates.keys().map(ToString::to_string).collect()
}

fn asked(run: &Run, whom: &str) -> usize {
    let question = Question::Binding(addr(whom));
    run.host.asked().iter().filter(|asked| asked.question == question).count()
}

fn mappings(run: &Run) -> Vec<Mapping> {
    let said = run.host.said().into_iter();
    said.filter_map(|said| if let Event::Mapping(kind) = said.event { Some(kind) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_is_a_candidate_and_the_second_proves_its_kind() {
    let run = start(place(&[server(FIRST, Some(SECOND_ADDRESS))], fixed("5.6.7.8:40001")));
    run.after(30 * MS).await;
    let standing = run.host.standing();
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
    assert_eq!(standing.mapping, Mapping::Unknown);
    let candidate = standing.candidates.values().next().unwrap();
    assert_eq!((candidate.tier, candidate.proof), (Tier::Punched, Proof::Done(Reach::Filtered)));
    assert_eq!(candidate.evidence.words(), "mapping 5.6.7.8:40001 seen by 203.0.113.1:3478");

    run.after(20 * MS).await;
    let standing = run.host.standing();
    assert_eq!(standing.mapping, Mapping::Fixed);
    let candidate = standing.candidates.values().next().unwrap();
    assert_eq!(
        candidate.evidence.words(),
        "mapping 5.6.7.8:40001 seen by 203.0.113.1:3478 and 203.0.113.2:3478"
    );
    assert!(run.host.notes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_destination_dependent_mapping_is_taken_back() {
    let servers = [server(FIRST, Some(SECOND_ADDRESS))];
    let run = start(place(&servers, Nat::DestinationDependent(addr("5.6.7.8:1000"))));
    run.after(30 * MS).await;
    assert_eq!(found(&run), ["5.6.7.8:1000"]);
    run.after(20 * MS).await;
    assert_eq!(run.host.standing().mapping, Mapping::DestinationDependent);
    assert!(found(&run).is_empty());
    let notes = run.host.notes();
    assert!(notes.len() == 1 && notes[0].contains("each destination differently"), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_dependent_is_not_offered_again_for_a_moment() {
    let servers = [server(FIRST, Some(SECOND_ADDRESS))];
    let run = start(place(&servers, Nat::DestinationDependent(addr("5.6.7.8:1000"))));
    run.after(MINUTE).await;
    let events = run.host.said().len();
    // The mappings expire, and the next ones have other ports.
    for port in [2000, 3000, 4000] {
        run.change(|place| {
            place.nat = Nat::DestinationDependent(SocketAddr::new(addr("5.6.7.8:1").ip(), port));
        });
        run.after(10 * MINUTE).await;
    }
    assert_eq!(run.host.said().len(), events, "{:?}", run.host.said());
    assert!(asked(&run, SECOND_ADDRESS) >= 4);
}

#[tokio::test(start_paused = true)]
async fn without_nat_there_is_no_second_candidate_for_an_own_address() {
    let run = start(place(&[server(FIRST, Some(SECOND_ADDRESS))], Nat::None));
    run.after(MINUTE).await;
    assert!(found(&run).is_empty());
    assert_eq!(mappings(&run), [Mapping::None]);
    assert_eq!(asked(&run, FIRST), 1, "there is no mapping to keep alive");
}

#[tokio::test(start_paused = true)]
async fn ipv6_says_nothing_of_the_nat_and_nothing_twice() {
    let mut at = place(&[server("[2001:db8::1]:3478", Some("[2001:db8::2]:3478"))], Nat::None);
    at.situation.addresses.push(address(addr("[2a00::5]:1").ip(), 64));
    let run = start(at.clone());
    run.after(MINUTE).await;
    assert!(run.host.said().is_empty(), "{:?}", run.host.said());

    // Prefix translation is worth a candidate, still without a word about IPv4's NAT.
    at.nat6 = fixed("[2a01::5]:51820");
    let run = start(at);
    run.after(MINUTE).await;
    assert_eq!(found(&run), ["[2a01::5]:51820"]);
    assert!(mappings(&run).is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_address_cannot_tell_the_kind() {
    let run = start(place(&[server(FIRST, None)], fixed("5.6.7.8:40001")));
    run.after(MINUTE).await;
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
    assert!(mappings(&run).is_empty());
    let notes = run.host.notes();
    assert!(notes.len() == 1 && notes[0].contains("has one address only"), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn two_servers_are_asked_at_once_and_compared() {
    let servers = [server(FIRST, None), server(OTHER, None)];
    let run = start(place(&servers, fixed("5.6.7.8:40001")));
    run.after(30 * MS).await;
    assert_eq!(run.host.standing().mapping, Mapping::Fixed);

    let run = start(place(&servers, Nat::DestinationDependent(addr("5.6.7.8:1000"))));
    run.after(30 * MS).await;
    assert_eq!(run.host.standing().mapping, Mapping::DestinationDependent);
    assert!(found(&run).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_does_not_hold_up_a_fast_one() {
    let mut at = place(&[server(FIRST, None), server(OTHER, None)], fixed("5.6.7.8:40001"));
    at.stun.insert(addr(FIRST), Answers::After(2 * SECOND));
    let run = start(at);
    run.after(30 * MS).await;
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
}

#[tokio::test(start_paused = true)]
async fn the_mapping_is_kept_alive_while_wanted_and_only_then() {
    let run = start(place(&[server(FIRST, Some(SECOND_ADDRESS))], fixed("5.6.7.8:40001")));
    run.after(5 * MINUTE).await;
    let kept = asked(&run, FIRST);
    assert!((14..=16).contains(&kept), "{kept}");
    assert_eq!(asked(&run, SECOND_ADDRESS), 1, "one comparison is enough");

    run.change(|place| place.situation.wanted = false);
    run.after(60 * MINUTE).await;
    assert_eq!(asked(&run, FIRST), kept);
    assert_eq!(found(&run), ["5.6.7.8:40001"], "it holds until something says otherwise");

    run.change(|place| {
        place.situation.wanted = true;
        place.nat = fixed("5.6.7.8:40002");
    });
    run.after(50 * MS).await;
    assert_eq!(found(&run), ["5.6.7.8:40002"]);
    assert_eq!(run.host.standing().mapping, Mapping::Fixed);
}

#[tokio::test(start_paused = true)]
async fn refresh_is_an_option_within_bounds() {
    let table = |text: &str| text.parse::<toml::Table>().unwrap();
    let nat = fixed("5.6.7.8:40001");
    let run = start_with(place(&[server(FIRST, None)], nat), &table("refresh = \"1m\""));
    run.after(270 * SECOND).await;
    assert_eq!(asked(&run, FIRST), 5);

    let build = find("hole-punch").unwrap().build;
    for bad in ["refresh = \"1s\"", "refresh = \"1h\"", "refresh = 20", "refresh = \"soon\""] {
        let error = build(&table(bad)).err().unwrap();
        assert_eq!(error.key.as_deref(), Some("refresh"), "{bad}");
        assert!(error.message.contains("from \"5s\" to \"5m\""), "{bad}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_mapping_is_noticed_and_told_once() {
    let servers = [server(FIRST, Some(SECOND_ADDRESS)), server(OTHER, None)];
    let run = start(place(&servers, fixed("5.6.7.8:40001")));
    run.after(MINUTE).await;
    let events = run.host.said().len();
    run.change(|place| place.nat = fixed("5.6.7.8:40002"));
    run.after(21 * SECOND).await;
    assert_eq!(found(&run), ["5.6.7.8:40002"]);
    assert_eq!(run.host.standing().mapping, Mapping::Fixed);
    let kinds = mappings(&run);
    assert!(!kinds.contains(&Mapping::DestinationDependent), "old and new were compared: {kinds:?}");
    let lost = run.host.said()[events..].iter().filter(|said| matches!(said.event, Event::Lost(_))).count();
    assert_eq!(lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_less_and_less_and_told_of_once() {
    let mut at = place(&[server(FIRST, None)], fixed("5.6.7.8:40001"));
    at.stun.insert(addr(FIRST), Answers::Never);
    let run = start(at);
    run.after(5 * MINUTE).await;
    let gaps: Vec<_> = run.host.asked().windows(2).map(|two| (two[1].at - two[0].at).as_secs() - 3).collect();
    assert_eq!(gaps[..7], [1, 2, 4, 8, 16, 30, 30]);
    let notes = run.host.notes();
    assert!(notes.len() == 1 && notes[0].contains("did not answer"), "{notes:?}");

    run.change(|place| place.stun.clear());
    run.after(MINUTE).await;
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_second_address_leaves_the_candidate() {
    let mut at = place(&[server(FIRST, Some(SECOND_ADDRESS))], fixed("5.6.7.8:40001"));
    at.stun.insert(addr(SECOND_ADDRESS), Answers::Never);
    let run = start(at);
    run.after(10 * MINUTE).await;
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
    assert_eq!(run.host.standing().mapping, Mapping::Unknown);
    assert_eq!(run.host.notes().len(), 1);

    run.change(|place| place.stun.clear());
    run.after(MINUTE).await;
    assert_eq!(run.host.standing().mapping, Mapping::Fixed);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_never_ends_does_not_let_the_mapping_expire() {
    let mut at = place(&[server(FIRST, Some(SECOND_ADDRESS))], fixed("5.6.7.8:40001"));
    at.stun.insert(addr(SECOND_ADDRESS), Answers::Hangs);
    let run = start(at);
    run.after(10 * MINUTE).await;
    let question = Question::Binding(addr(FIRST));
    let times: Vec<_> = run.host.asked().into_iter().filter(|asked| asked.question == question).collect();
    let longest = times.windows(2).map(|two| two[1].at - two[0].at).max();
    assert!(longest < Some(21 * SECOND), "{longest:?}");
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_outlives_its_server() {
    let run = start(place(&[server(FIRST, Some(SECOND_ADDRESS))], fixed("5.6.7.8:40001")));
    run.after(MINUTE).await;
    run.change(|place| place.situation.servers.clear());
    run.after(MINUTE).await;
    assert_eq!(found(&run), ["5.6.7.8:40001"]);
    assert_eq!(mappings(&run), [Mapping::Fixed]);

    // Until another one knows better.
    run.change(|place| {
        place.situation.servers.push(server(OTHER, None));
        place.nat = fixed("5.6.7.8:40002");
    });
    run.after(SECOND).await;
    assert_eq!(found(&run), ["5.6.7.8:40002"]);
    assert_eq!(mappings(&run), [Mapping::Fixed, Mapping::Unknown]);
}

#[tokio::test(start_paused = true)]
async fn a_lying_server_gets_no_candidate_for_nobody() {
    for nobody in ["127.0.0.1:9", "224.0.0.1:9", "0.0.0.0:0"] {
        let run = start(place(&[server(FIRST, None)], fixed(nobody)));
        run.after(MINUTE).await;
        assert!(found(&run).is_empty());
        let notes = run.host.notes();
        assert!(notes.len() == 1 && notes[0].contains("sees us elsewhere"), "{notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_port_or_a_server_nothing_happens() {
    let mut no_port = place(&[server(FIRST, None)], fixed("5.6.7.8:40001"));
    no_port.situation.listen_port = 0;
    for at in [no_port, place(&[], fixed("5.6.7.8:40001"))] {
        let run = start(at);
        run.after(MINUTE).await;
        assert!(run.host.said().is_empty() && run.host.asked().is_empty());
    }
}
