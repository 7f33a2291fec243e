//! What is asked of every run, and how a failure is told.

use wireplug_core::scheduler::State;
use wireplug_sim::scenario::Scenario;
use wireplug_sim::world::{NOWHERE, World};
use wireplug_sim::{Time, secs};

use super::setting;

/// Runs a judgement over many seeds; a failure is run again with its trace and tells how to repeat it.
pub(crate) fn for_seeds(
    test: &str,
    default_cases: u64,
    draw: impl Fn(u64) -> Scenario,
    judge: impl Fn(&Scenario, &mut World) -> Result<(), String>,
) {
    let only = std::env::var("WIREPLUG_SIM_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..setting("WIREPLUG_SIM_CASES", default_cases),
    };
    let mut failures = Vec::new();
    for seed in seeds {
        let scenario = draw(seed);
        if only.is_some() && std::env::var("WIREPLUG_SIM_TRACE").is_ok() {
            let mut world = World::new(&scenario, true);
            let said = judge(&scenario, &mut world);
            println!("{scenario}{}{said:?}", world.trace());
        }
        if let Err(why) = judge(&scenario, &mut World::new(&scenario, false)) {
            failures.push((seed, why));
        }
    }
    let Some((seed, why)) = failures.first() else { return };
    let scenario = draw(*seed);
    let mut traced = World::new(&scenario, true);
    let again = judge(&scenario, &mut traced);
    let shown = usize::try_from(setting("WIREPLUG_SIM_LINES", 200)).unwrap_or(usize::MAX);
    let lines: Vec<_> = traced.trace().lines().take(shown).collect();
    let others: Vec<_> = failures.iter().map(|(seed, why)| format!("{seed}: {why}")).collect();
    panic!(
        "{why}\n{scenario}{}\nall {} failures:\n{}\n\nrepeat: WIREPLUG_SIM_SEED={seed} cargo nextest run -p wireplug-sim {test}{}",
        lines.join("\n"),
        others.len(),
        others.join("\n"),
        if again.err().is_some_and(|again| without_instants(&again) == without_instants(why)) {
            ""
        } else {
            " (NOT the same when repeated)"
        },
    );
}

/// What was said, without the moments of the machine's own clock, which are others every time.
pub(crate) fn without_instants(text: &str) -> String {
    let mut parts = text.split("Instant {");
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        said.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
    }
    said
}

/// Whether both daemons say connected, both devices have a session, and a ping was answered after that moment.
pub(crate) fn both_connected(world: &World) -> bool {
    (0..2).all(|i| world.status(i).is_some_and(|s| s.state == State::Connected))
}

/// Whether both daemons say that there is a session, whoever carries it.
pub(crate) fn both_up(world: &World) -> bool {
    let up = |state| matches!(state, State::Connected | State::Relayed);
    (0..2).all(|i| world.status(i).is_some_and(|s| up(s.state)))
}

/// Whether both daemons say that a server carries the session.
pub(crate) fn both_relayed(world: &World) -> bool {
    (0..2).all(|i| world.status(i).is_some_and(|s| s.state == State::Relayed))
}

/// Pings both ways until each is answered, at most until the limit.
pub(crate) fn carries_data(world: &mut World, patience: Time) -> Result<(), String> {
    for index in 0..2 {
        let limit = world.now() + patience;
        let mut answered = false;
        while !answered && world.now() < limit {
            let number = world.ping(index);
            let wait = world.now() + secs(1);
            answered = world.run(wait, |w| w.host(index).pongs().iter().any(|(_, n)| *n == number));
        }
        if !answered {
            return Err(format!("host {index}: no ping answered until {:?}", world.now()));
        }
    }
    Ok(())
}

/// Every endpoint that a daemon set had answered a check on this network before, but for the one exception: an
/// endpoint that the device had already, or, without a server, one that was kept of an earlier time, while there is no
/// session.
pub(crate) fn only_proven(world: &World) -> Result<(), String> {
    for applied in world.record().applications() {
        let own = applied.before == Some(applied.endpoint) || applied.endpoint == NOWHERE;
        let dead = applied.last_handshake.is_none_or(|at| at + secs(180) < applied.at);
        if applied.answered.is_none() && !((own || applied.remembered) && dead) {
            return Err(format!("unproven: {applied:?}"));
        }
    }
    Ok(())
}

/// After it settled, an endpoint moved once at most on each side.
pub(crate) fn is_calm(world: &World, since: Time) -> Result<(), String> {
    for index in 0..2 {
        let moved = world.record().moved_since(index, since);
        if moved > 1 {
            return Err(format!("host {index}: {moved} moves since {since:?}"));
        }
    }
    Ok(())
}
