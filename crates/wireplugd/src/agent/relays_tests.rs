//! Places and binds on invented time, against the server's half of the codec.

use wireplug_proto::relay::{Bound, CredentialId, CredentialKey};
use wireplug_proto::stun::relay::{challenge, receive, refusal, success};

use super::*;

const PEER: PublicKey = PublicKey::from_bytes([7; 32]);
const ABOUT: About = (PEER, 0);
const NONCE: [u8; 16] = [5; 16];

fn id(number: u8) -> TransactionId {
    TransactionId::from_bytes([number; 12])
}

fn relay() -> Endpoint {
    Endpoint::new("203.0.113.1:3480".parse().unwrap()).unwrap()
}

fn credential(number: u8) -> Credential {
    Credential { id: CredentialId::from_bytes([number; 16]), key: CredentialKey::from_bytes([number; 32]) }
}

fn allocation(number: u8) -> Allocation {
    Allocation {
        credential: credential(number),
        relays: vec![relay().ip()],
        ports: 3479..=3482,
        lifetime: Duration::from_secs(300),
    }
}

fn open(now: Instant) -> Relays {
    let mut relays = Relays::default();
    assert!(relays.want(ABOUT, RelayWish::default()));
    relays.allocated(now, ABOUT, allocation(1));
    relays
}

fn bound(number: u8, transaction: TransactionId, other_side: bool) -> Vec<u8> {
    let bound = Bound { other_side, lifetime: Duration::from_secs(300) };
    success(&credential(number).key, transaction, "198.51.100.1:9".parse().unwrap(), bound)
}

fn standing(relays: &Relays) -> Option<LegStanding> {
    relays.for_strategies(|_| String::new())[0].legs.first().map(|leg| leg.standing)
}

/// Binds with the nonce that the relay asks for, as check 1.
fn bind(relays: &mut Relays, now: Instant) {
    relays.check(now, &PEER, relay(), id(1)).unwrap();
    let again = relays.answered(now, relay(), id(1), &challenge(id(1), &NONCE), id(2));
    assert!(matches!(again, Answered::Again { .. }));
    let proven = relays.answered(now, relay(), id(2), &bound(1, id(2), true), id(3));
    assert_eq!(proven, Answered::Proven { peer: PEER, transaction: id(1) });
}

#[test]
fn a_check_is_a_bind_that_is_repeated_with_the_nonce() {
    let now = Instant::now();
    let mut relays = open(now);
    let first = relays.check(now, &PEER, relay(), id(1)).unwrap();
    let request = receive(&first).unwrap();
    assert!(request.is_by(&credential(1).key) && request.id == credential(1).id && request.nonce.is_none());
    let again = relays.answered(now, relay(), id(1), &challenge(id(1), &NONCE), id(2));
    let Answered::Again { payload } = again else { panic!("{again:?}") };
    let repeated = receive(&payload).unwrap();
    assert_eq!((repeated.nonce, repeated.transaction), (Some(NONCE), id(2)));
    assert!(repeated.order > request.order);
    assert_eq!(
        relays.answered(now, relay(), id(2), &bound(1, id(2), true), id(3)),
        Answered::Proven { peer: PEER, transaction: id(1) }
    );
    assert_eq!(standing(&relays), Some(LegStanding::Bound));
    assert_eq!(receive(&relays.check(now, &PEER, relay(), id(4)).unwrap()).unwrap().nonce, Some(NONCE));
}

#[test]
fn one_side_alone_proves_nothing() {
    let now = Instant::now();
    let mut relays = open(now);
    relays.check(now, &PEER, relay(), id(1)).unwrap();
    assert_eq!(relays.answered(now, relay(), id(1), &bound(1, id(1), false), id(2)), Answered::Nothing);
    assert_eq!(standing(&relays), Some(LegStanding::Bound));
}

#[test]
fn answers_of_others_change_nothing() {
    let now = Instant::now();
    let mut relays = open(now);
    relays.check(now, &PEER, relay(), id(1)).unwrap();
    let elsewhere = Endpoint::new("203.0.113.2:3480".parse().unwrap()).unwrap();
    assert_eq!(relays.answered(now, elsewhere, id(1), &bound(1, id(1), true), id(2)), Answered::NotOurs);
    assert_eq!(relays.answered(now, relay(), id(9), &bound(1, id(9), true), id(2)), Answered::NotOurs);
    assert_eq!(relays.answered(now, relay(), id(1), &bound(8, id(1), true), id(2)), Answered::Nothing);
    assert_eq!(standing(&relays), Some(LegStanding::Asked));
    let true_one = relays.answered(now, relay(), id(1), &bound(1, id(1), true), id(2));
    assert_eq!(true_one, Answered::Proven { peer: PEER, transaction: id(1) });
}

#[test]
fn a_check_elsewhere_is_no_bind() {
    let now = Instant::now();
    let mut relays = open(now);
    for text in ["203.0.113.1:3483", "203.0.113.2:3480"] {
        let to = Endpoint::new(text.parse().unwrap()).unwrap();
        assert!(!relays.is_relay(&PEER, to));
        assert_eq!(relays.check(now, &PEER, to, id(1)), None);
    }
    assert!(!relays.is_relay(&PublicKey::from_bytes([8; 32]), relay()));
}

#[test]
fn challenges_come_to_an_end() {
    let now = Instant::now();
    let mut relays = open(now);
    relays.check(now, &PEER, relay(), id(1)).unwrap();
    let mut asked = 0;
    for number in 1..=20 {
        let answer =
            relays.answered(now, relay(), id(number), &challenge(id(number), &NONCE), id(number + 1));
        asked += u32::from(matches!(answer, Answered::Again { .. }));
    }
    assert_eq!(asked, 2);
}

#[test]
fn who_is_not_known_asks_the_server_but_once_a_second() {
    let now = Instant::now();
    let mut relays = open(now);
    let mut unknown = |at| {
        relays.check(at, &PEER, relay(), id(1)).unwrap();
        relays.answered(at, relay(), id(1), &refusal(id(1), BindRefusal::Unknown), id(2))
    };
    assert_eq!(unknown(now), Answered::Ask(ABOUT));
    assert_eq!(unknown(now + Duration::from_millis(500)), Answered::Nothing);
    assert_eq!(unknown(now + ASK_AGAIN), Answered::Ask(ABOUT));
}

#[test]
fn a_port_that_is_taken_or_full_is_told() {
    for (why, expected) in [(BindRefusal::Taken, LegStanding::Taken), (BindRefusal::Full, LegStanding::Full)]
    {
        let now = Instant::now();
        let mut relays = open(now);
        relays.check(now, &PEER, relay(), id(1)).unwrap();
        let before = relays.revision();
        assert_eq!(relays.answered(now, relay(), id(1), &refusal(id(1), why), id(2)), Answered::Nothing);
        assert_eq!(standing(&relays), Some(expected));
        assert!(relays.revision() > before);
    }
}

#[test]
fn three_unanswered_binds_and_a_while_are_silence() {
    let now = Instant::now();
    let mut relays = open(now);
    for number in 1..=2 {
        relays.check(now, &PEER, relay(), id(number)).unwrap();
    }
    assert_eq!(relays.next(), None, "two may be lost");
    relays.check(now, &PEER, relay(), id(3)).unwrap();
    let at = relays.next().unwrap();
    relays.handle_timeout(at);
    assert_eq!(standing(&relays), Some(LegStanding::Silent));
    assert_eq!(relays.next(), None);
    relays.answered(at, relay(), id(3), &bound(1, id(3), false), id(4));
    assert_eq!(standing(&relays), Some(LegStanding::Bound), "late is not never");
}

#[test]
fn what_was_bound_is_bound_anew_with_another_credential_and_not_for_ever() {
    let now = Instant::now();
    let mut relays = open(now);
    bind(&mut relays, now);
    assert_eq!(relays.poll_bind(now, || id(10)), None);
    relays.allocated(now, ABOUT, allocation(1));
    assert!(!relays.is_binding(), "the same credential");

    relays.allocated(now, ABOUT, allocation(2));
    assert!(relays.is_binding());
    let (mut at, mut sent) = (now, 0);
    while relays.is_binding() {
        at = relays.next().unwrap().max(at);
        relays.handle_timeout(at);
        if let Some((peer, to, payload)) = relays.poll_bind(at, || id(10)) {
            assert_eq!((peer, to), (PEER, relay()));
            assert!(receive(&payload).unwrap().is_by(&credential(2).key));
            sent += 1;
        }
    }
    assert_eq!(sent, 10);
    assert!(at - now >= Duration::from_secs(14), "longer than a server takes to start");

    assert_eq!(standing(&relays), Some(LegStanding::Silent));
    relays.allocated(at, ABOUT, allocation(3));
    relays.poll_bind(at, || id(12)).unwrap();
    relays.answered(at, relay(), id(12), &bound(3, id(12), true), id(13));
    assert!(!relays.is_binding(), "it is bound");
}

#[test]
fn a_limit_does_not_take_what_was_given_but_other_refusals_do() {
    let now = Instant::now();
    let mut relays = open(now);
    relays.refused(ABOUT, Reason::RateLimited, "slowly".to_owned(), None);
    assert!(relays.is_relay(&PEER, relay()));
    relays.refused(ABOUT, Reason::Denied, "private".to_owned(), None);
    assert!(!relays.is_relay(&PEER, relay()));
    let [place] = &relays.for_strategies(|_| String::new())[..] else { panic!() };
    assert!(matches!(place.standing, RelayStanding::Refused { why: RelayRefusal::Denied, .. }));
}

#[test]
fn what_is_released_or_has_no_peer_is_forgotten() {
    let now = Instant::now();
    let mut relays = open(now);
    assert!(!relays.want(ABOUT, RelayWish { tls: true, access: None }), "the server need not know");
    assert!(relays.release(ABOUT) && !relays.release(ABOUT));
    relays.allocated(now, ABOUT, allocation(1));
    assert!(!relays.is_relay(&PEER, relay()));
    let mut relays = open(now);
    relays.retain(|_| false);
    assert_eq!(relays.for_strategies(|_| String::new()), []);
}
