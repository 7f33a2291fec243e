//! Every kind of NAT against every other, with the real programs.
//!
//! A cell is a test named `KIND_A/KIND_B`. Where the networks allow it, the tunnel must be direct; where
//! they do not, both daemons must say so and why, and must not have touched an endpoint.

use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use wireplug_lab::{Nat, Outcome, Pair, PairOptions, expected};

/// Cells at a time when the runner does not say: each runs seven programs, most of the time waiting.
const THREADS: usize = 3;

/// Cells beside the squared matrix.
const MORE: [[Nat; 2]; 3] = [
    [Nat::Ipv6Firewall, Nat::Ipv6Firewall],
    [Nat::DualStack, Nat::DualStack],
    [Nat::UdpBlocked, Nat::PortPreserving],
];

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let squared = Nat::MATRIX.into_iter().flat_map(|a| Nat::MATRIX.map(|b| [a, b]));
    let trials = squared
        .chain(MORE)
        .map(|[a, b]| Trial::test(format!("{a}/{b}"), move || cell(a, b).map_err(Failed::from)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn cell(a: Nat, b: Nat) -> wireplug_lab::Result<()> {
    let label = format!("{a}-{b}");
    Pair::with(&label, [a, b], &PairOptions::default(), |pair| match expected(a, b) {
        Outcome::Direct => pair.check_direct(&pair.connect()?),
        Outcome::Unreachable => {
            let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
            pair.check_unreachable(&daemons)?;
            // What was not tried by now would be tried soon after, if anything were.
            thread::sleep(Duration::from_secs(2));
            pair.check_unreachable(&daemons).map(drop)
        }
    })
}
