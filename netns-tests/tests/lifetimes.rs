//! A router whose mappings live for less than our keepalive: a real one, by its connection tracking's own timeouts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::thread;
use std::time::{Duration, Instant};

use wireplug_lab::{LabError, Nat, Pair, PairOptions, Ping, Result, wait_for};

/// How long the router keeps a mapping, in seconds.
const LIFETIME: u32 = 13;
/// How long nothing has gone through when somebody calls, so that the mapping is gone. What is longer than the keepalive
/// less the time that a doubt takes would be mended by the next keepalive before it is noticed.
const QUIET: Duration = Duration::from_secs(15);
/// Between two calls, so that they count as two.
const APART: Duration = Duration::from_secs(70);

/// Waits until nothing has gone through the tunnel for so long, but no longer than keepalives allow; says whether that was
/// so.
fn quiet(pair: &Pair, time: Duration) -> Result<bool> {
    let counters = || {
        let state = pair.a.wireguard.state(pair.b.wireguard.public_key())?;
        Ok::<_, LabError>((state.rx, state.tx))
    };
    let began = Instant::now();
    let (mut last, mut since) = (counters()?, Instant::now());
    while since.elapsed() < time {
        if began.elapsed() > Duration::from_secs(60) {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(200));
        let now = counters()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(true)
}

/// Pings from the public side, once a second until the first answer; says how many were sent in vain.
fn call(pair: &Pair) -> Result<u16> {
    let ping = Ping {
        to: pair.a.wireguard.address().into(),
        count: 12,
        interval: Duration::from_secs(1),
        linger: Duration::from_secs(1),
    };
    let pings = pair.b.host.ping(ping)?;
    Ok(pings.answers.iter().map(|answer| answer.sequence).min().unwrap_or(pings.sent))
}

fn keepalive(pair: &Pair) -> Result<Option<u16>> {
    Ok(pair.a.wireguard.state(pair.b.wireguard.public_key())?.keepalive)
}

#[test]
fn a_short_lifetime_is_learnt_from_two_deaths_and_known_after_a_restart() {
    Pair::with("lifetime", [Nat::PortPreserving, Nat::None], &PairOptions::default(), |pair| {
        pair.sites[0].mapping_timeouts(LIFETIME, LIFETIME)?;
        let [a, _b] = pair.connect()?;
        wait_for("our keepalive", Duration::from_secs(10), || {
            Ok(keepalive(pair)?.filter(|ours| *ours == 25))
        })?;
        let mut deaths = Vec::new();
        while deaths.len() < 4 && keepalive(pair)? == Some(25) {
            assert!(quiet(pair, QUIET)?, "a tunnel with a keepalive of 25 s is quiet for 15 s");
            let (called, in_vain) = (Instant::now(), call(pair)?);
            deaths.push(in_vain);
            thread::sleep(APART.saturating_sub(called.elapsed()));
        }
        assert_eq!(keepalive(pair)?, Some(12), "calls that were in vain: {deaths:?}; {}", a.process().log());
        assert!(deaths.iter().filter(|in_vain| **in_vain > 2).count() >= 2, "it was deaf: {deaths:?}");
        let theirs = pair.b.wireguard.state(pair.a.wireguard.public_key())?.keepalive;
        assert_eq!(theirs, Some(25), "nothing is wrong with the other side's network");
        assert!(!quiet(pair, QUIET)?, "now something goes through before the mapping is gone");
        assert_eq!(call(pair)?, 0, "and it is there");

        // What is ours is known as ours, and what was learnt is known, after the daemon was killed.
        a.process().kill();
        let again = pair.a.wireplug()?;
        again.wait_state(pair.b.wireguard.public_key(), "connected", Duration::from_secs(10))?;
        thread::sleep(Duration::from_secs(3));
        assert_eq!(keepalive(pair)?, Some(12));
        again.process().terminate();
        assert!(again.process().wait(Duration::from_secs(5))?.success());
        assert_eq!(keepalive(pair)?, None, "the person had set none");
        Ok(())
    })
    .unwrap();
}
