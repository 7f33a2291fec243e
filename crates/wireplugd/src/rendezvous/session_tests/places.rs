//! Places at relays: asked for, told, refused, and called to.

use super::*;

fn allocate(topic: Topic, access: &str) -> ClientMessage {
    ClientMessage::Allocate { topic, access: Some(token(access)) }
}

fn token(access: &str) -> AccessToken {
    AccessToken::new(access.to_owned()).unwrap()
}

fn allocation() -> Allocation {
    use wireplug_proto::relay::{Credential, CredentialId, CredentialKey};
    Allocation {
        credential: Credential {
            id: CredentialId::from_bytes([1; 16]),
            key: CredentialKey::from_bytes([2; 32]),
        },
        relays: vec!["0.0.0.0".parse().unwrap()],
        ports: 3479..=3510,
        lifetime: Duration::from_secs(300),
    }
}

#[test]
fn a_place_is_asked_for_after_the_join_and_on_every_connection() {
    let now = Instant::now();
    let mut session = Session::default();
    let topic = membership(1).topic();
    session.join(membership(1));
    session.allocate(topic, Some(token("t")));
    session.opened(now, server());
    assert_eq!(said(&mut session, now), [membership(1).join(), allocate(topic, "t")]);
    session.allocate(topic, Some(token("t")));
    assert_eq!(said(&mut session, now), [allocate(topic, "t")], "the server forgot it");
    session.closed("gone".to_owned(), false);
    session.opened(now, server());
    assert_eq!(said(&mut session, now), [membership(1).join(), allocate(topic, "t")]);
}

#[test]
fn a_place_is_told_with_the_host_for_an_unknown_address() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    let message = ServerMessage::Allocated { topic, allocation: allocation() };
    assert_eq!(session.handle(now, message.clone()), None, "nobody asked");
    session.allocate(topic, None);
    said(&mut session, now);
    let Some(Event::Allocated { allocation: told, .. }) = session.handle(now, message.clone()) else {
        panic!("no event");
    };
    assert_eq!(told, Allocation { relays: server(), ..allocation() });
    session.release(topic);
    assert_eq!(said(&mut session, now), [ClientMessage::Release { topic }]);
    assert_eq!(session.handle(now, message), None);
}

/// A peer that is given up and tried again must not make us ask more often than the server said.
#[test]
fn a_wait_for_a_place_holds_for_who_gives_it_up_and_wants_it_again() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    session.allocate(topic, Some(token("t")));
    said(&mut session, now);
    let wait = Duration::from_secs(50);
    session.handle(now, refusal(About::Allocate(topic), Reason::Full, Some(wait)));
    session.release(topic);
    assert_eq!(said(&mut session, now), [], "nothing was given that could be given back");
    session.allocate(topic, Some(token("t")));
    assert_eq!(said(&mut session, now), []);
    assert_eq!(said(&mut session, now + wait), [allocate(topic, "t")]);
}

#[test]
fn a_place_that_is_refused_for_a_time_is_asked_for_again() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    session.allocate(topic, Some(token("t")));
    said(&mut session, now);
    let wait = Duration::from_secs(5);
    session.handle(now, refusal(About::Allocate(topic), Reason::Full, Some(wait)));
    session.allocate(topic, Some(token("t")));
    assert_eq!(said(&mut session, now), [], "the wait holds");
    assert_eq!(session.poll_timeout().unwrap().0, now + wait);
    assert_eq!(said(&mut session, now + wait), [allocate(topic, "t")]);

    session.handle(now, refusal(About::Allocate(topic), Reason::Denied, None));
    assert_eq!(said(&mut session, now + Duration::from_secs(3600)), []);
    session.allocate(topic, Some(token("another")));
    assert_eq!(said(&mut session, now), [allocate(topic, "another")]);
}

#[test]
fn calls_to_the_relay_are_told_for_topics_of_ours() {
    let now = Instant::now();
    let (mut session, topic) = up(now);
    assert_eq!(session.handle(now, ServerMessage::RelayCalled { topic }), Some(Event::RelayCalled { topic }));
    let strange = membership(9).topic();
    assert_eq!(session.handle(now, ServerMessage::RelayCalled { topic: strange }), None);
}
