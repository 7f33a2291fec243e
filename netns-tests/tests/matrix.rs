//! Every kind of NAT and gateway against every other, and one LAN behind each, with the real programs.
//!
//! A cell is a test named `KIND_A/KIND_B`, or `KIND/one-lan`. Where the networks allow it, the tunnel must end direct, on
//! a LAN not even leave it; where they do not, it must be relayed.

use libtest_mimic::{Arguments, Failed, Trial};
use wireplug_lab::{Nat, Outcome, Pair, PairOptions, Result, expected};

/// Cells at a time when the runner does not say: each runs seven programs, most of the time waiting.
const THREADS: usize = 3;

/// Cells beside the squared matrix.
const MORE: [[Nat; 2]; 5] = [
    [Nat::Ipv6Firewall, Nat::Ipv6Firewall],
    [Nat::DualStack, Nat::DualStack],
    [Nat::UdpBlocked, Nat::PortPreserving],
    [Nat::UdpBlocked, Nat::UdpBlocked],
    [Nat::PortPreserving, Nat::Ipv6Firewall],
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
    Pair::with(&label, [a, b], &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        match expected(a, b) {
            Outcome::Direct => pair.check_direct(&daemons),
            Outcome::Unreachable => pair.check_relayed(&daemons),
        }
    })
}

fn lan(nat: Nat) -> Result<()> {
    let pair = Pair::neighbours(&format!("{nat}-lan"), nat, &PairOptions::default())?;
    pair.finish(|pair| pair.check_neighbours(&pair.connect()?))
}
