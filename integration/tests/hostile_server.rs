//! A server that means ill can delay a connection, and do nothing else: no endpoint is applied that the peer did not
//! prove, the daemons live, their memory is bounded, and with an honest server they connect.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use wireplug_core::{Endpoint, Mapping, Offer, OfferVersion, Reach, RemoteCandidate, Tier};
use wireplug_integration::secrets::{pair_of_keys, private_key};
use wireplug_integration::witness::{alive, applied, memory, only_the_truth, stays_unset, true_endpoint};
use wireplug_integration::{Attacker, Babble, Manner, Rogue, Temper};
use wireplug_lab::{Daemon, Nat, Pair, PairOptions, Peer, Result, WIREGUARD_PORT, wait_for, wireguard_at};
use wireplug_proto::stun::{Incoming, classify};

/// How long a hostile server is endured.
const ENDURED: Duration = Duration::from_secs(5);

/// How long daemons may take to find an honest server again and connect: they wait longer each time that they try.
const FORGIVEN: Duration = Duration::from_secs(60);

/// How long an attack may take to begin.
const BEGIN: Duration = Duration::from_secs(15);

/// How much a daemon may grow under a flood, in KiB.
const GROWTH: u64 = 8 * 1024;

fn with_pair(label: &str, nats: [Nat; 2], work: impl FnOnce(&Pair) -> Result<()>) {
    Pair::with(label, nats, &PairOptions::default(), work).unwrap();
}

/// With a server that has become honest the pair connects, and only ever to each other.
fn forgives(pair: &Pair, daemons: &[Daemon; 2]) -> Result<()> {
    pair.wait_for_ping(FORGIVEN)?;
    pair.check_direct(daemons)?;
    only_the_truth(pair, daemons)
}

#[test]
fn lies_about_our_address_lead_nowhere() {
    with_pair("rogue-lies", [Nat::PortPreserving, Nat::Fixed], |pair| {
        let attacker =
            Attacker::start(&pair.lab.site("c", Nat::None)?.host()?, WIREGUARD_PORT, Manner::Deceives)?;
        let rogue = Rogue::replace(pair, Temper::LiesInStun(attacker.address()))?;
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        // Both offer the attacker's address in good faith, and so both check it.
        wait_for("both peers to check the attacker", BEGIN, || {
            Ok((attacker.seen().victims.len() >= 2).then_some(()))
        })?;
        stays_unset(pair, &daemons, ENDURED)?;
        let seen = attacker.seen();
        assert!(seen.checks.len() > 5 && seen.answers > 0, "repeated checks were answered: {}", seen.answers);
        rogue.restart_as(Temper::Honest);
        forgives(pair, &daemons)
    });
}

/// The one way to have a false endpoint applied is to carry the proof: who is on the way of checks can do it, and
/// anyone who is on the way can swallow a tunnel. Then WireGuard's own handshake does not confirm the path.
#[test]
fn a_path_that_swallows_the_tunnel_costs_time_only() {
    with_pair("rogue-swallows", [Nat::PortPreserving, Nat::Fixed], |pair| {
        let host = pair.lab.site("c", Nat::None)?.host()?;
        let attacker = Attacker::start(&host, WIREGUARD_PORT, Manner::CarriesChecksOnly)?;
        let rogue = Rogue::replace(pair, Temper::LiesInStun(attacker.address()))?;
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        wait_for("WireGuard to try the attacker", BEGIN, || Ok((attacker.seen().others > 0).then_some(())))?;
        // So the other tests' witness would see a false endpoint, if there were one.
        let set = daemons.iter().flat_map(|daemon| applied(daemon.process()));
        assert!(set.into_iter().any(|endpoint| endpoint == attacker.address()));
        rogue.restart_as(Temper::Honest);
        let began = std::time::Instant::now();
        pair.wait_for_ping(FORGIVEN)?;
        println!("connected {:?} after the server became honest", began.elapsed());
        pair.check_direct(&daemons)
    });
}

#[test]
fn a_working_tunnel_outlives_a_server_that_goes_bad() {
    with_pair("rogue-turns", [Nat::PortPreserving, Nat::Fixed], |pair| {
        let host = pair.lab.site("c", Nat::None)?.host()?;
        let attacker = Attacker::start(&host, WIREGUARD_PORT, Manner::Deceives)?;
        let rogue = Rogue::replace(pair, Temper::Honest)?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        let tempers = [
            Temper::LiesInStun(attacker.address()),
            Temper::Forges(Vec::new()),
            Temper::Replays,
            Temper::Babbles(Babble::ALL.to_vec()),
        ];
        for (number, temper) in tempers.into_iter().enumerate() {
            let before = rogue.connections();
            rogue.restart_as(temper);
            // In a network that has changed all is found anew, with the server as bad as it is now.
            for (here, _) in pair.both_ways() {
                here.host.namespace().ip(&[format!("addr add 192.168.{}.9/24 dev eth0", 200 + number)])?;
            }
            wait_for("both daemons to come back", BEGIN, || {
                Ok((rogue.connections() >= before + 2).then_some(()))
            })?;
            pair.check_pings(300)?;
            only_the_truth(pair, &daemons)?;
        }
        pair.check_direct(&daemons)
    });
}

#[test]
fn forged_and_foreign_offers_are_refused_in_bounded_memory() {
    with_pair("rogue-forges", [Nat::PortPreserving, Nat::Fixed], |pair| {
        let attacker =
            Attacker::start(&pair.lab.site("c", Nat::None)?.host()?, WIREGUARD_PORT, Manner::Deceives)?;
        // The server is in league with a third peer, who has true keys of his own.
        let private = pair.a.host.run(&["wg", "genkey"])?;
        let public = pair.a.host.namespace().run_with(&["wg", "pubkey"], &private)?;
        let (mut foreign, mut tags) = (Vec::new(), Vec::new());
        for here in [&pair.a, &pair.b] {
            here.wireguard.peer(&Peer::new(public.trim(), "10.77.0.3/32"))?;
            let his = pair_of_keys(private.trim(), here.wireguard.public_key())?;
            foreign.push(his.seal(&offer_of(&attacker), [5; 24]));
            tags.push(his.tag_in());
        }
        let rogue = Rogue::replace(pair, Temper::Forges(foreign))?;
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        wait_for("a first flood", BEGIN, || Ok((rogue.lies() > 1000).then_some(())))?;
        let before = [memory(&daemons[0])?, memory(&daemons[1])?];
        stays_unset(pair, &daemons, ENDURED)?;
        for (daemon, before) in daemons.iter().zip(before) {
            let after = memory(daemon)?;
            println!("{} false offers: resident {before} KiB, then {after} KiB", rogue.lies());
            assert!(after < before + GROWTH, "{before} KiB before, {after} KiB after");
        }
        // His offers count for himself, where they were told on his own topics, and for nobody else.
        for check in attacker.seen().checks {
            let Incoming::CheckRequest { tag, .. } = classify(&check) else { continue };
            assert!(tags.contains(&tag), "an offer of another pair was believed");
        }
        rogue.restart_as(Temper::Honest);
        forgives(pair, &daemons)
    });
}

/// An offer of the attacker's own place.
fn offer_of(attacker: &Attacker) -> Offer {
    let candidate = RemoteCandidate {
        endpoint: Endpoint::new(attacker.address()).unwrap(),
        strategy: "direct".parse().unwrap(),
        tier: Tier::Direct,
        reach: Reach::Open,
    };
    let version = OfferVersion { instance: u64::MAX, generation: u32::MAX, revision: u32::MAX };
    Offer { version, candidates: vec![candidate], mapping: Mapping::None, doubts: false }
}

/// `b` moves to another network, and the attacker takes its former address.
#[test]
fn offers_of_a_former_place_do_not_lead_back_there() {
    with_pair("rogue-replays", [Nat::PortPreserving, Nat::None], |pair| {
        let rogue = Rogue::replace(pair, Temper::Honest)?;
        let former = true_endpoint(&pair.b)?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;

        for daemon in &daemons {
            daemon.process().kill();
        }
        let (private, key) = (private_key(&pair.b)?, pair.b.wireguard.public_key());
        pair.b.host.namespace().ip(&[format!("link del {}", pair.b.wireguard.device())])?;
        let attacker = wait_for("the port of the former place", BEGIN, || {
            Ok(Attacker::start(&pair.b.host, WIREGUARD_PORT, Manner::Deceives).ok())
        })?;
        let host = pair.lab.site("d", Nat::None)?.host()?;
        let moved = host.wireguard_with_keys(pair.b.wireguard.address(), &private, key)?;
        let allowed = format!("{}/32", pair.a.wireguard.address());
        moved.peer(&Peer::new(pair.a.wireguard.public_key(), &allowed))?;
        pair.a.forget_endpoint(&pair.b)?;

        rogue.become_a(Temper::Replays);
        let (before, truth) = (rogue.lies(), wireguard_at(host.addresses()[0]));
        let config = host.wireplug_config(&moved, &pair.server, "")?;
        let daemons = [pair.a.wireplug()?, host.wireplug(&moved, &config)?];
        daemons[0].process().wait_log("offer received", BEGIN)?;
        assert!(rogue.lies() > before, "nothing was repeated");
        // It may keep the peers apart, as it may by telling nothing; or they connect in spite of it.
        rogue.restart_as(Temper::Honest);
        pair.wait_for_ping(FORGIVEN)?;
        assert_eq!(pair.a.wireguard.endpoint(key)?, Some(truth));
        let set = applied(daemons[0].process());
        assert!(set.iter().all(|endpoint| *endpoint == truth), "{former} came back: {set:?}");
        let ours = true_endpoint(&pair.a)?;
        let set = applied(daemons[1].process());
        assert!(set.iter().all(|endpoint| *endpoint == ours), "{ours} was never elsewhere: {set:?}");
        println!("the attacker at the former place saw {} checks", attacker.seen().checks.len());
        alive(&daemons)
    });
}

#[test]
fn what_no_server_says_ends_a_connection_and_nothing_else() {
    with_pair("rogue-babbles", [Nat::PortPreserving, Nat::None], |pair| {
        let rogue = Rogue::replace(pair, Temper::Babbles(Babble::ALL.to_vec()))?;
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        // Each daemon ends most of these connections by itself, so the next one comes.
        wait_for("all but the last babbles to be heard", 2 * FORGIVEN, || {
            Ok((rogue.connections() >= Babble::ALL.len()).then_some(()))
        })?;
        stays_unset(pair, &daemons, Duration::from_millis(500))?;
        for daemon in &daemons {
            println!("after babbles: resident {} KiB", memory(daemon)?);
            assert!(memory(daemon)? < 40 * 1024);
            let log = daemon.process().log();
            let loud = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
            assert!(loud <= 2 * Babble::ALL.len(), "{loud} warnings: {}", &log[..log.len().min(10_000)]);
        }
        rogue.restart_as(Temper::Honest);
        forgives(pair, &daemons)
    });
}
