//! Far away, and over bad lines: the same scenarios with wireguard-go and with the kernel's module, which differ most
//! where packets take time.
//!
//! All but plain delay needs netem. Where the kernel has none, those tests are ignored, and said to be.

use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use wireplug_lab::{Daemon, LabError, Line, Nat, Pair, PairOptions, Ping, Result, SETTLE, has_netem};

/// Half a round trip between cities of one continent.
const FAR: Duration = Duration::from_millis(25);

/// The first ping may take so long at [`FAR`]. Initiations that cross cost 5 s, on a fast machine and on a slow one.
const NOT_CROSSED: Duration = Duration::from_millis(4500);

/// How long a pair may take to be direct over a bad line, where checks are lost.
const DIRECT_LIMIT: Duration = Duration::from_secs(45);

/// How long a line stays bad.
const BAD: Duration = Duration::from_secs(15);

const HOMES: [Nat; 2] = [Nat::PortPreserving, Nat::PortPreserving];

fn main() {
    let plain = [
        Trial::test("far_apart", || connects("far", &far_apart())),
        Trial::test("far_apart_without_crossing_handshakes", || far_without_crossing().map_err(Failed::from)),
    ];
    // Who may make no namespace can run no test of the lab; listing them works all the same.
    let netem = has_netem().unwrap_or(false);
    let lines = SCENARIOS.map(|(name, lines)| {
        let run = move || connects(name, &PairOptions { lines: lines.map(Some), ..PairOptions::default() });
        bad_line(Trial::test(name, run), netem)
    });
    let turns =
        bad_line(Trial::test("a_line_turns_bad_for_a_while", || turns_bad().map_err(Failed::from)), netem);
    let trials = plain.into_iter().chain(lines).chain([turns]).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn bad_line(trial: Trial, netem: bool) -> Trial {
    if netem { trial } else { trial.with_ignored_flag(true).with_kind("no netem") }
}

const PERFECT: Line = Line { delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0, rate: None };

/// Lines of both sides over which a pair becomes direct.
const SCENARIOS: [(&str, [Line; 2]); 4] = [
    ("one_side_by_satellite", [Line { delay: Duration::from_millis(270), ..PERFECT }, PERFECT]),
    ("jitter", [Line { delay: FAR, jitter: Duration::from_millis(15), ..PERFECT }; 2]),
    ("loss", [Line { delay: FAR, loss: 5, ..PERFECT }, Line { delay: FAR, loss: 10, ..PERFECT }]),
    ("a_narrow_line", [Line { delay: FAR, rate: Some(256), ..PERFECT }, PERFECT]),
];

fn far_apart() -> PairOptions {
    PairOptions { one_way_delay: Some(FAR), ..PairOptions::default() }
}

fn connects(label: &str, options: &PairOptions) -> std::result::Result<(), Failed> {
    let connect = |pair: &Pair| ends_direct(pair, &pair.connect()?);
    Ok(Pair::with(label, HOMES, options, connect)?)
}

/// The relay may carry the first pings; soon both sides have the direct path and say so.
fn ends_direct(pair: &Pair, daemons: &[Daemon; 2]) -> Result<()> {
    for ((here, there), daemon) in pair.both_ways().into_iter().zip(daemons) {
        daemon.wait_state(there.wireguard.public_key(), "connected", DIRECT_LIMIT)?;
        here.check_endpoint(there)?;
    }
    // Some of these are lost where the line loses some.
    let pings = pair.a.host.ping(Ping::fast(pair.b.wireguard.address(), 20))?;
    if pings.answers.len() >= 10 {
        return Ok(());
    }
    Err(LabError::unexpected(format!("{} of 20 pings were answered", pings.answers.len())))
}

fn far_without_crossing() -> Result<()> {
    Pair::with("crossing", HOMES, &far_apart(), |pair| {
        let took = pair.measure_connect(SETTLE, false)?;
        if took <= NOT_CROSSED {
            return Ok(());
        }
        Err(LabError::unexpected(format!("the first ping took {took:?}: did handshakes cross?")))
    })
}

/// A tunnel over a line that loses every fifth packet each way for a while stays up and carries what the line lets through,
/// and is direct afterwards.
fn turns_bad() -> Result<()> {
    Pair::with("turns-bad", HOMES, &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        ends_direct(pair, &daemons)?;
        pair.sites[0].line(Line { delay: FAR, loss: 20, ..PERFECT })?;
        let ping =
            Ping { interval: Duration::from_millis(50), ..Ping::fast(pair.b.wireguard.address(), u16::MAX) };
        let pinging = pair.a.host.keep_pinging(ping)?;
        thread::sleep(BAD);
        let pings = pinging.stop()?;
        // Two thirds come through the line and back. Half of that may be lost to a move onto the relay, or to handshakes.
        if pings.answers.len() * 3 < usize::from(pings.sent) {
            return Err(LabError::unexpected(format!(
                "{} of {} pings were answered on a line that loses packets",
                pings.answers.len(),
                pings.sent
            )));
        }
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            let status = daemon.peer(there.wireguard.public_key())?;
            let state = status.as_ref().map_or("none", |status| status.state.as_str());
            if !["connected", "relayed"].contains(&state) {
                return Err(LabError::unexpected(format!(
                    "{state} on a line that loses packets: {status:?}"
                )));
            }
        }
        pair.sites[0].line(PERFECT)?;
        ends_direct(pair, &daemons)
    })
}
