//! The session on invented time, without a connection.

use wireplug_core::{PrivateKey, PublicKey};
use wireplug_proto::Pair;
use wireplug_strategy::StunServer;

use super::*;

#[path = "session_tests/places.rs"]
mod places;

/// Curve25519's base point as the peer, whose private key does not matter here.
const PEER: PublicKey = {
    let mut bytes = [0; 32];
    bytes[0] = 9;
    PublicKey::from_bytes(bytes)
};

fn membership(number: u8) -> Membership {
    Membership::of(&Pair::derive(&PrivateKey::from_bytes([number; 32]), &PEER).unwrap())
}

fn hello() -> ServerMessage {
    let stun = vec!["[::]:3478".parse().unwrap()];
    ServerMessage::Hello { token: [1; 16], stun, offer_ttl: Duration::from_secs(120) }
}

fn server() -> Vec<IpAddr> {
    vec![[203, 0, 113, 7].into()]
}

fn endpoint() -> Endpoint {
    Endpoint::new(([198, 51, 100, 1], 9).into()).unwrap()
}

fn said(session: &mut Session, now: Instant) -> Vec<ClientMessage> {
    std::iter::from_fn(|| session.poll_send(now)).collect()
}

/// A session that is up, with one topic joined and an offer published.
fn up(now: Instant) -> (Session, Topic) {
    let mut session = Session::default();
    let topic = membership(1).topic();
    session.join(membership(1));
    session.publish(topic, vec![1]);
    session.opened(now, server());
    assert!(matches!(session.handle(now, hello()), Some(Event::Up { .. })));
    assert_eq!(said(&mut session, now).len(), 2);
    (session, topic)
}

fn refusal(about: About, reason: Reason, retry_after: Option<Duration>) -> ServerMessage {
    ServerMessage::Refused { about, reason, detail: "no".to_owned(), retry_after }
}

fn publish(topic: Topic, sealed: u8) -> ClientMessage {
    ClientMessage::Publish { topic, sealed: vec![sealed] }
}

#[test]
fn nothing_is_said_without_a_connection() {
    let now = Instant::now();
    let mut session = Session::default();
    session.join(membership(1));
    session.verify(1, endpoint(), [0; 16]);
    assert_eq!(said(&mut session, now), []);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn topics_are_joined_before_the_hello_to_save_a_round_trip() {
    let now = Instant::now();
    let mut session = Session::default();
    session.join(membership(1));
    session.opened(now, server());
    assert_eq!(said(&mut session, now), [membership(1).join()]);
}

#[test]
fn of_several_offers_only_the_latest_is_said() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    for sealed in 2..=5 {
        session.publish(topic, vec![sealed]);
    }
    assert_eq!(said(&mut session, now), [publish(topic, 5)]);
    assert_eq!(said(&mut session, now), []);
}

#[test]
fn a_reconnect_joins_and_publishes_all_again() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    session.join(membership(2));
    session.publish(topic, vec![2]);
    assert!(
        matches!(session.closed("gone".to_owned(), false), Some(Event::Down { why, moved: false }) if why == "gone")
    );
    session.publish(topic, vec![3]);
    session.opened(now, server());
    let again = said(&mut session, now);
    let of = |topic: Topic| {
        again.iter().filter(move |message| match message {
            ClientMessage::Join { topic: of, .. } | ClientMessage::Publish { topic: of, .. } => *of == topic,
            _ => false,
        })
    };
    assert_eq!(of(topic).collect::<Vec<_>>(), [&membership(1).join(), &publish(topic, 3)]);
    assert_eq!(of(membership(2).topic()).collect::<Vec<_>>(), [&membership(2).join()]);
    assert_eq!(again.len(), 3);
}

#[test]
fn what_was_left_is_not_joined_again() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    session.leave(topic);
    assert_eq!(said(&mut session, now), [ClientMessage::Leave { topic }]);
    session.closed(String::new(), false);
    session.opened(now, server());
    assert_eq!(said(&mut session, now), []);
}

#[test]
fn an_offer_for_a_topic_that_was_not_joined_goes_nowhere() {
    let now = Instant::now();
    let (mut session, _) = up(now);
    session.publish(membership(9).topic(), vec![1]);
    assert_eq!(said(&mut session, now), []);
    let stray = ServerMessage::Offer { topic: membership(9).topic(), sealed: vec![1] };
    assert_eq!(session.handle(now, stray), None, "nor is one from the server told");
}

#[test]
fn a_rate_limited_offer_is_said_again_when_it_may_be_and_then_the_latest() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    let wait = Duration::from_secs(3);
    session.handle(now, refusal(About::Publish(topic), Reason::RateLimited, Some(wait)));
    session.publish(topic, vec![2]);
    assert_eq!(said(&mut session, now), []);
    assert_eq!(session.poll_timeout().unwrap().0, now + wait);
    assert_eq!(said(&mut session, now + wait), [publish(topic, 2)]);
}

#[test]
fn a_join_refused_for_a_time_takes_its_offer_with_it() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    session.handle(now, refusal(About::Join(topic), Reason::Full, None));
    session.handle(now, refusal(About::Publish(topic), Reason::NotMember, None));
    assert_eq!(said(&mut session, now), []);
    assert_eq!(said(&mut session, now + RETRY), [membership(1).join(), publish(topic, 1)]);
}

#[test]
fn what_is_refused_for_good_is_not_said_again_on_this_connection() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    let event = session.handle(now, refusal(About::Join(topic), Reason::NotMember, None));
    assert!(matches!(event, Some(Event::Refused { reason: Reason::NotMember, .. })));
    assert_eq!(said(&mut session, now + 10 * RETRY), []);
}

#[test]
fn a_hostile_wait_is_bounded_both_ways() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    for (asked, taken) in [(Duration::ZERO, SHORTEST_RETRY), (Duration::from_secs(1 << 30), LONGEST_RETRY)] {
        session.handle(now, refusal(About::Publish(topic), Reason::RateLimited, Some(asked)));
        assert_eq!(said(&mut session, now + taken.mul_f64(0.99)), []);
        assert_eq!(said(&mut session, now + taken).len(), 1);
    }
}

#[test]
fn verifications_wait_for_the_hello_and_are_bounded() {
    let now = Instant::now();
    let (mut session, _) = up(now);
    for id in 0..200 {
        session.verify(id, endpoint(), [7; 16]);
    }
    let asked = said(&mut session, now);
    assert_eq!(asked.len(), MAX_VERIFIES);
    assert_eq!(asked.last(), Some(&ClientMessage::Verify { id: 199, endpoint: endpoint(), nonce: [7; 16] }));
    session.verify(1, endpoint(), [7; 16]);
    session.closed(String::new(), false);
    session.opened(now, server());
    session.verify(2, endpoint(), [7; 16]);
    assert!(!said(&mut session, now).iter().any(|message| matches!(message, ClientMessage::Verify { .. })));
}

#[test]
fn two_missed_pings_end_a_connection_and_an_answer_keeps_it() {
    let start = Instant::now();
    let (mut session, _) = up(start);
    let mut now = start;
    for _ in 0..10 {
        now = session.poll_timeout().unwrap().0;
        assert_eq!(session.handle_timeout(now), Ok(()));
        let [ClientMessage::Ping { id }] = said(&mut session, now)[..] else { panic!("no ping") };
        session.handle(now, ServerMessage::Pong { id });
    }
    assert_eq!(now, start + 10 * PING_EVERY);
    for missed in 1..=MISSED + 1 {
        now = session.poll_timeout().unwrap().0;
        assert_eq!(session.handle_timeout(now).is_err(), missed > MISSED, "{missed}");
        said(&mut session, now);
    }
    assert_eq!(now, start + 13 * PING_EVERY);
}

#[test]
fn a_kick_wants_an_answer_soon() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    session.kick(now);
    let [ClientMessage::Ping { id }] = said(&mut session, now)[..] else { panic!("no ping") };
    let late = now + ANSWER_WITHIN;
    assert_eq!(session.poll_timeout().unwrap().0, late);
    // What was on its way already proves nothing.
    session.handle(now, ServerMessage::Offer { topic, sealed: vec![] });
    session.handle(now, ServerMessage::Pong { id: id - 1 });
    assert_eq!(session.poll_timeout().unwrap().0, late);
    session.handle(now, ServerMessage::Pong { id });
    assert_eq!(session.handle_timeout(late), Ok(()));
    session.kick(now);
    assert!(session.handle_timeout(late).is_err());
}

#[test]
fn a_network_that_changes_again_and_again_saves_no_dead_connection() {
    let now = Instant::now();
    let (mut session, _) = up(now);
    for ms in (0..2000).step_by(500) {
        session.kick(now + Duration::from_millis(ms));
        assert!(matches!(said(&mut session, now)[..], [ClientMessage::Ping { .. }]));
    }
    assert!(session.handle_timeout(now + ANSWER_WITHIN).is_err());
}

#[test]
fn a_server_that_says_no_hello_is_given_up() {
    let now = Instant::now();
    let mut session = Session::default();
    session.opened(now, server());
    assert_eq!(session.poll_timeout().unwrap().0, now + HELLO_WITHIN);
    assert!(session.handle_timeout(now + HELLO_WITHIN).unwrap_err().contains("wireplug-serverd"));
}

#[test]
fn only_the_first_hello_counts() {
    let now = Instant::now();
    let (mut session, _) = up(now);
    assert_eq!(session.handle(now, hello()), None);
}

#[test]
fn the_same_reason_is_news_once() {
    let mut session = Session::default();
    assert!(session.closed("refused".to_owned(), false).is_some());
    assert!(session.closed("refused".to_owned(), false).is_none());
    assert!(session.closed("another".to_owned(), false).is_some());
}

#[test]
fn only_what_was_up_is_away_because_this_host_moved() {
    let now = Instant::now();
    let moved = |session: &mut Session, why: &str| {
        matches!(session.closed(why.to_owned(), true), Some(Event::Down { moved: true, .. }))
    };
    let (mut session, _) = up(now);
    assert!(moved(&mut session, "the network has changed"));
    assert!(moved(&mut session, "no route yet"), "it is still likely there");
    session.opened(now, server());
    assert!(!moved(&mut session, "it never said hello"));
    assert!(!moved(&mut Session::default(), "never reached"));
}

#[test]
fn a_kick_puts_the_connection_on_trial_until_it_is_answered() {
    let now = Instant::now();
    let (mut session, _) = up(now);
    assert!(!session.is_on_trial());
    session.kick(now);
    let [ClientMessage::Ping { id }] = said(&mut session, now)[..] else { panic!("no ping") };
    session.handle(now, ServerMessage::Pong { id: id - 1 });
    assert!(session.is_on_trial(), "an answer to an older ping came from the network of before");
    session.handle(now, ServerMessage::Pong { id });
    assert!(!session.is_on_trial());
}

#[test]
fn stun_servers_are_grouped_by_family_and_the_host_filled_in() {
    let addresses =
        |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let ips = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let show = |announced: &[&str], server: &[&str]| {
        let servers = stun_servers(&addresses(announced), &ips(server));
        let one = |one: &StunServer| (one.primary.to_string(), one.secondary.map(|place| place.to_string()));
        servers.iter().map(one).collect::<Vec<_>>()
    };
    let pair = |a: &str, b: Option<&str>| (a.to_owned(), b.map(str::to_owned));
    assert_eq!(
        show(&["5.6.7.8:3478", "5.6.7.9:3478", "[2a00::1]:3478"], &["5.6.7.8"]),
        [pair("[2a00::1]:3478", None), pair("5.6.7.8:3478", Some("5.6.7.9:3478"))]
    );
    assert_eq!(
        show(&["[::]:3478", "[::]:3479"], &["5.6.7.8", "2a00::1", "5.6.7.9"]),
        [pair("[2a00::1]:3478", Some("[2a00::1]:3479")), pair("5.6.7.8:3478", Some("5.6.7.8:3479"))]
    );
    assert_eq!(show(&["0.0.0.0:3478"], &["2a00::1"]), []);
    assert_eq!(show(&["0.0.0.0:3478", "0.0.0.0:3478"], &["5.6.7.8"]), [pair("5.6.7.8:3478", None)]);
}

mod any_order {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Join(u8),
        Leave(u8),
        Publish(u8, u8),
        Verify,
        Kick,
        Open,
        Close,
        Hear(ServerMessage),
        Wait(u64),
    }

    /// Topics of pairs are slow to derive: these few are made once.
    fn memberships() -> &'static [Membership] {
        static ALL: std::sync::OnceLock<Vec<Membership>> = std::sync::OnceLock::new();
        ALL.get_or_init(|| (1..=4).map(membership).collect())
    }

    fn topic(number: u8) -> Topic {
        memberships()[usize::from(number)].topic()
    }

    fn message() -> impl Strategy<Value = ServerMessage> {
        let about = prop_oneof![
            (0..4u8).prop_map(|number| About::Join(topic(number))),
            (0..4u8).prop_map(|number| About::Publish(topic(number))),
            Just(About::Verify(1)),
            Just(About::Connection),
        ];
        let reason = prop_oneof![Just(Reason::RateLimited), Just(Reason::NotMember), Just(Reason::Full)];
        let retry = prop::option::of((0..1_000_000u64).prop_map(Duration::from_millis));
        prop_oneof![
            3 => Just(hello()),
            4 => (about, reason, retry).prop_map(|(about, reason, retry)| refusal(about, reason, retry)),
            1 => (0..4u8).prop_map(|number| ServerMessage::Offer { topic: topic(number), sealed: vec![0] }),
            1 => (0..40u64).prop_map(|id| ServerMessage::Pong { id }),
            1 => Just(ServerMessage::Unknown),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4u8).prop_map(Step::Join),
            1 => (0..4u8).prop_map(Step::Leave),
            3 => (0..4u8, any::<u8>()).prop_map(|(number, sealed)| Step::Publish(number, sealed)),
            1 => Just(Step::Verify),
            1 => Just(Step::Kick),
            2 => Just(Step::Open),
            1 => Just(Step::Close),
            4 => message().prop_map(Step::Hear),
            3 => (0..120_000u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens, the session is never due again at once (which would be a busy loop), says a
        /// bounded number of things, and after a reconnect says all that is wanted, once, the latest.
        #[test]
        fn it_rests_and_forgets_nothing(steps in prop::collection::vec(step(), 0..60)) {
            let mut now = Instant::now();
            let mut session = Session::default();
            let mut wanted: BTreeMap<Topic, Option<Vec<u8>>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Join(number) => {
                        session.join(memberships()[usize::from(number)].clone());
                        wanted.entry(topic(number)).or_default();
                    }
                    Step::Leave(number) => {
                        session.leave(topic(number));
                        wanted.remove(&topic(number));
                    }
                    Step::Publish(number, sealed) => {
                        session.publish(topic(number), vec![sealed]);
                        wanted.entry(topic(number)).and_modify(|offer| *offer = Some(vec![sealed]));
                    }
                    Step::Verify => session.verify(1, endpoint(), [0; 16]),
                    Step::Kick => session.kick(now),
                    Step::Open => {
                        session.closed("again".to_owned(), false);
                        session.opened(now, server());
                    }
                    Step::Close => {
                        session.closed("gone".to_owned(), false);
                    }
                    Step::Hear(message) => {
                        session.handle(now, message);
                    }
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                }
                if session.handle_timeout(now).is_err() {
                    session.closed("dead".to_owned(), false);
                }
                prop_assert!(said(&mut session, now).len() <= 2 * wanted.len() + 4 + 2);
                if let Some((at, why)) = session.poll_timeout() {
                    prop_assert!(at > now, "due again at once: {}", why);
                }
            }
            session.closed("the end".to_owned(), false);
            session.opened(now, server());
            let mut heard: BTreeMap<Topic, Option<Vec<u8>>> = BTreeMap::new();
            for message in said(&mut session, now) {
                match message {
                    ClientMessage::Join { topic, .. } => prop_assert!(heard.insert(topic, None).is_none()),
                    ClientMessage::Publish { topic, sealed } => {
                        prop_assert_eq!(heard.insert(topic, Some(sealed)), Some(None));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(heard, wanted);
        }
    }
}
