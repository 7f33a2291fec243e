//! Every kind of NAT and gateway against every other, and one LAN behind each, with the real programs.
//!
//! A cell is a test named `KIND_A/KIND_B`, or `KIND/one-lan`. Where the networks allow it, the tunnel must be direct,
//! on a LAN not even leave it; where they do not, both daemons must say so and why, and must not have touched an
//! endpoint.

use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use wireplug_lab::{Nat, Outcome, Pair, PairOptions, Result, expected};

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
    let kinds = || Nat::MATRIX.into_iter().chain(Nat::GATEWAYS);
    let squared = kinds().flat_map(|a| kinds().map(move |b| [a, b]));
    let apart = squared.chain(MORE).map(|[a, b]| trial(format!("{a}/{b}"), move || cell(a, b)));
    // Two public hosts have no LAN; every kind of router has the same.
    let with_lan = Nat::ALL.into_iter().filter(|nat| *nat != Nat::None);
    let on_lan = with_lan.map(|nat| trial(format!("{nat}/one-lan"), move || lan(nat)));
    libtest_mimic::run(&arguments, apart.chain(on_lan).collect()).exit();
}

fn trial(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(Failed::from))
}

fn cell(a: Nat, b: Nat) -> Result<()> {
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

fn lan(nat: Nat) -> Result<()> {
    let pair = Pair::neighbours(&format!("{nat}-lan"), nat, &PairOptions::default())?;
    pair.finish(|pair| pair.check_neighbours(&pair.connect()?))
}
