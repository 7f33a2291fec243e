//! What verification promises.

use super::*;

struct Counter(u8);

impl Fresh for Counter {
    fn id(&mut self, _: usize) -> u64 {
        self.0 += 1;
        u64::from(self.0)
    }

    fn nonce(&mut self) -> [u8; 16] {
        [self.0; 16]
    }
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}

fn seen_at(text: &str) -> Binding {
    Binding { mapped: text.parse().unwrap(), rtt: Duration::from_millis(30) }
}

fn told(acts: &[Act]) -> Vec<Verdict> {
    let verdict = |act: &Act| match act {
        Act::Tell { verdict, .. } => Some(verdict.clone()),
        Act::Own { .. } | Act::Ask { .. } => None,
    };
    acts.iter().filter_map(verdict).collect()
}

/// A verification of `candidate` whose probe the server says it sent.
fn probed(now: Instant, candidate: &str) -> Verifications {
    let mut verifications = Verifications::default();
    let stun = "203.0.113.1:3478".parse().unwrap();
    verifications.begin(now, 1, endpoint(candidate), Some((0, stun)), &mut Counter(0));
    assert_eq!(verifications.take_acts(), [Act::Own { server: 0, address: stun }]);
    verifications.owned_by(now, 0, seen_at("198.51.100.7:51820"), &mut Counter(0));
    let ask = Act::Ask { server: 0, id: 1, endpoint: endpoint(candidate), nonce: [1; 16] };
    assert_eq!(verifications.take_acts(), [ask]);
    verifications.sent(now, 0, 1);
    verifications
}

#[test]
fn a_probe_that_arrives_makes_it_open() {
    let mut verifications = probed(Instant::now(), "198.51.100.7:51820");
    verifications.arrived(&[9; 16]);
    assert!(verifications.is_running(Family::V4), "another nonce is nobody's");
    verifications.arrived(&[1; 16]);
    assert_eq!(told(&verifications.take_acts()), [Verdict::Open]);
    assert!(verifications.is_idle());
}

#[test]
fn a_probe_that_does_not_arrive_makes_it_filtered() {
    let now = Instant::now();
    let mut verifications = probed(now, "198.51.100.7:51820");
    let until = verifications.next().unwrap();
    assert!(until >= now + PROBE);
    verifications.handle_timeout(until);
    assert_eq!(told(&verifications.take_acts()), [Verdict::Filtered]);
}

#[test]
fn an_address_that_is_not_ours_is_wrong_and_never_probed() {
    let now = Instant::now();
    let mut verifications = Verifications::default();
    let stun = "203.0.113.1:3478".parse().unwrap();
    verifications.begin(now, 1, endpoint("198.51.100.8:51820"), Some((0, stun)), &mut Counter(0));
    verifications.take_acts();
    verifications.owned_by(now, 0, seen_at("198.51.100.7:51820"), &mut Counter(0));
    assert!(matches!(told(&verifications.take_acts())[..], [Verdict::Wrong { .. }]));
}

#[test]
fn a_server_that_goes_away_or_never_answers_leaves_it_unknown() {
    let now = Instant::now();
    let mut verifications = probed(now, "198.51.100.7:51820");
    verifications.forget_server(0);
    assert_eq!(told(&verifications.take_acts()), [Verdict::Unknown]);

    let mut verifications = Verifications::default();
    let stun = "203.0.113.1:3478".parse().unwrap();
    verifications.begin(now, 1, endpoint("198.51.100.7:51820"), Some((0, stun)), &mut Counter(0));
    verifications.take_acts();
    verifications.handle_timeout(now + ANSWER);
    assert_eq!(told(&verifications.take_acts()), [Verdict::Unknown]);

    verifications.begin(now, 1, endpoint("198.51.100.7:51820"), None, &mut Counter(0));
    assert_eq!(told(&verifications.take_acts()), [Verdict::Unknown]);
}

#[test]
fn a_refusal_ends_it_by_its_reason() {
    for (reason, wrong) in [(Reason::NotYours, true), (Reason::RateLimited, false)] {
        let mut verifications = probed(Instant::now(), "198.51.100.7:51820");
        verifications.refused(0, 1, reason);
        let told = told(&verifications.take_acts());
        assert_eq!(matches!(told[..], [Verdict::Wrong { .. }]), wrong, "{told:?}");
    }
}
