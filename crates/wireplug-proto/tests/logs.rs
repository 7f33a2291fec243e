//! No log line carries a key, even at trace level, and no datagram of a stranger makes a line at all.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};

use support::*;
use tracing_subscriber::fmt::format::FmtSpan;
use wireplug_core::{Mapping, Offer, OfferVersion, Tier};
use wireplug_proto::rendezvous::ClientMessage;
use wireplug_proto::stun::binding::{Change, Received, parse_response, receive, request};
use wireplug_proto::stun::classify;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged, at every level and with all spans, while `work` runs.
fn logged(work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        tracing::trace!("the canary is logged");
        work();
    });
    let text = lines.0.lock().unwrap().clone();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("the canary is logged"), "nothing is captured: {text}");
    text
}

fn exchange() {
    let (low, high) = (low(), high());
    let version = OfferVersion { instance: 1, generation: 1, revision: 1 };
    let offer = Offer { version, candidates: Vec::new(), mapping: Mapping::Fixed, doubts: false };
    let sealed = low.seal(&offer, [7; 24]);
    high.open(&sealed).unwrap();
    low.open(&sealed).unwrap_err();
    let check = low.check_request(transaction(), Tier::Direct, true);
    classify(&check);
    high.open_check_request(&check).unwrap();
    low.open_check_request(&check).unwrap_err();
    let answer = high.check_response(transaction(), "203.0.113.7:9".parse().unwrap());
    low.open_check_response(&answer).unwrap();
    stranger().open_check_response(&answer).unwrap_err();
    ClientMessage::decode(&ClientMessage::join(&low).encode()).unwrap();
    tracing::info!(pair = ?low, join = ?ClientMessage::join(&low), "as a careless caller might");
}

#[test]
fn no_key_is_logged() {
    let text = logged(exchange);
    for (name, secret) in SECRETS {
        let key = bytes(secret);
        for form in [
            secret.to_owned(),
            secret.to_uppercase(),
            list(&key),              // as Debug prints bytes
            list(secret.as_bytes()), // as it prints the bytes of a password in hex
            list(&key[..8]),
        ] {
            assert!(!text.contains(&form), "the {name} is in the log: {text}");
        }
    }
}

#[test]
fn strangers_cannot_fill_the_log() {
    let text = logged(|| {
        let check = low().check_request(transaction(), Tier::Direct, true);
        let binding = request(transaction(), None, Change::Port);
        for changed in mutations(&check).chain(mutations(&binding)) {
            classify(&changed);
            let _ = high().open_check_request(&changed);
            let _ = parse_response(&changed);
            if let Received::Request(request) = receive(&changed) {
                request.response("203.0.113.7:9".parse().unwrap(), None, None);
            }
        }
    });
    assert_eq!(text.lines().count(), 1, "only the canary: {}", &text[..text.len().min(2000)]);
}

fn list(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}
