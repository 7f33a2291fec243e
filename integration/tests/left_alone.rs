//! What is the person's stays the person's: through a connection, after it, and whenever the daemon is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::time::Duration;

use wireplug_integration::secrets::is_lower;
use wireplug_integration::witness::{alive, memory, only_the_truth};
use wireplug_lab::{End, LabError, Nat, Pair, PairOptions, Peer, Result, wait_for};

const NATS: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// How long a daemon may take to come to a step, or to connect.
const STEP: Duration = Duration::from_secs(20);

/// How long a daemon may take to stop.
const END: Duration = Duration::from_secs(6);

/// How long a pair may take until it is worked on no more.
const SETTLED: Duration = Duration::from_secs(30);

/// What a daemon at rest may hold in memory, in KiB.
const AT_REST: u64 = 15 * 1024;

/// The keepalive that the daemon sets, in seconds.
const OURS: u16 = 25;

/// What the daemon says on its way to a tunnel, in order: it is killed right after each.
const STEPS: [&str; 8] = [
    "looking after",
    "connected to the server",
    "candidate found",
    "offer sent",
    "offer received",
    "path proven",
    "endpoint set",
    "state=connected",
];

/// A daemon that is killed right after each of its steps: the next run goes on, the tunnel comes about, and the
/// keepalive is in the end what the person had set.
fn killed_at_every_step(label: &str, persons: Option<u16>) {
    // With a delay, the steps are apart from each other.
    let one_way_delay = Some(Duration::from_millis(20));
    let options = PairOptions { keepalive: persons, one_way_delay, ..PairOptions::default() };
    Pair::with(label, NATS, &options, |pair| {
        // With no session the lower key applies: that side takes all the steps.
        let lower = is_lower(pair.a.wireguard.public_key(), pair.b.wireguard.public_key());
        let (here, there) = if lower { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let key = there.wireguard.public_key();
        let keepalive = || Ok::<_, LabError>(here.wireguard.state(key)?.keepalive);
        let other = there.wireplug()?;
        let (mut reached, mut applied) = (BTreeSet::new(), false);
        for (index, step) in STEPS.iter().enumerate() {
            let daemon = here.wireplug()?;
            let process = daemon.process();
            // What the peer or a run before has begun may make it skip a step.
            let at = wait_for(step, STEP, || {
                alive(std::slice::from_ref(&daemon))?;
                let log = process.log();
                Ok((index..STEPS.len()).rev().find(|later| log.contains(STEPS[*later])))
            })?;
            process.kill();
            reached.insert(at);
            applied = process.log().contains("endpoint set") && at == STEPS.len() - 1;
        }
        let steps: Vec<_> = reached.iter().map(|at| STEPS[*at]).collect();
        println!("killed at {steps:?}");
        assert!(reached.len() >= 3, "the daemon says its steps otherwise: {steps:?}");

        // Nobody looks after the tunnel now, and it works; a keepalive of ours is still there.
        pair.wait_for_ping(STEP)?;
        pair.check_pings(20)?;
        let left = keepalive()?;
        assert!(left == persons || persons.is_none() && left == Some(OURS), "{left:?}");
        assert!(!applied || left.is_some(), "the last run had set one");

        let daemon = here.wireplug()?;
        daemon.wait_state(key, "connected", STEP)?;
        daemon.process().terminate();
        assert!(daemon.process().wait(END)?.success(), "{}", daemon.process().log());
        assert_eq!(keepalive()?, persons, "what the person had set is given back");
        pair.check_pings(20)?;
        assert_eq!(other.process().exited(), None);
        here.check_endpoint(there).map(drop)
    })
    .unwrap();
}

#[test]
fn killed_at_every_step_it_gives_its_keepalive_back() {
    killed_at_every_step("killed-ours", None);
}

#[test]
fn killed_at_every_step_it_leaves_the_persons_keepalive() {
    killed_at_every_step("killed-theirs", Some(25));
}

/// `wg showconf` without the lines that wireplug may change, and these lines.
fn configuration(end: &End) -> Result<(String, String)> {
    let text = end.host.run(&["wg", "showconf", end.wireguard.device()])?;
    let ours = |line: &&str| line.starts_with("Endpoint") || line.starts_with("PersistentKeepalive");
    let (mut changeable, mut fixed): (Vec<_>, Vec<_>) = text.lines().partition(ours);
    changeable.sort_unstable();
    // wireguard-go lists peers and AllowedIPs in no order.
    fixed.sort_unstable();
    Ok((fixed.join("\n"), changeable.join("\n")))
}

#[test]
fn nothing_but_the_endpoint_changes_and_at_rest_nothing_is_open() {
    Pair::with("untouched", NATS, &PairOptions::default(), |pair| {
        let preshared = pair.lab.dir().join("preshared.key");
        std::fs::write(&preshared, "h3aHCw7ZdtdtKy1lI7tFtWh8VZ4xMEXsLnyqxV8Y5m0=").unwrap();
        for (here, there) in pair.both_ways() {
            let key = there.wireguard.public_key();
            let allowed = format!("{}/32,192.0.2.128/25,fd00:77::/64", there.wireguard.address());
            here.wireguard.peer(&Peer::new(key, &allowed))?;
            here.wireguard.set(&[
                "fwmark",
                "0x77",
                "peer",
                key,
                "preshared-key",
                &preshared.display().to_string(),
            ])?;
            // Another peer, who is nowhere, with everything set by hand.
            let nobody = here.host.run(&["wg", "genkey"])?;
            let nobody = here.host.namespace().run_with(&["wg", "pubkey"], &nobody)?;
            here.wireguard.peer(&Peer { keepalive: Some(40), ..Peer::new(nobody.trim(), "10.77.0.9/32") })?;
        }
        let ends = [&pair.a, &pair.b];
        let before = [configuration(ends[0])?, configuration(ends[1])?];
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        for (end, before) in ends.iter().zip(&before) {
            assert_eq!(configuration(end)?.0, before.0);
        }

        // The other peer is nowhere, and is looked for less and less.
        for daemon in &daemons {
            wait_for("the raw socket to close", SETTLED, || Ok((!daemon.raw_socket_open()).then_some(())))?;
            println!("at rest: resident {} KiB", memory(daemon)?);
            // What is built for tests carries its debugging with it.
            assert!(cfg!(debug_assertions) || memory(daemon)? < AT_REST);
        }
        pair.check_pings(20)?;
        only_the_truth(pair, &daemons)?;

        for daemon in &daemons {
            daemon.process().terminate();
            assert!(daemon.process().wait(END)?.success(), "{}", daemon.process().log());
        }
        for ((here, there), before) in pair.both_ways().into_iter().zip(&before) {
            let after = configuration(here)?;
            assert_eq!(after.0, before.0);
            let endpoint = here.check_endpoint(there)?;
            assert_eq!(
                after.1,
                format!("Endpoint = {endpoint}\n{}", before.1),
                "keepalives are as they were"
            );
        }
        Ok(())
    })
    .unwrap();
}
