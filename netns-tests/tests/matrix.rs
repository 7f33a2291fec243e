//! Cells of the matrix in namespaces, with the real programs: each is a test of its name ([`Cell`]), and must come to the
//! path that the simulator's oracle says.
//!
//! A selection of them runs by itself. All others are ignored tests: the whole matrix takes a quarter of an hour, and
//! `cargo xtask matrix` runs it when it writes docs/MATRIX.md; every cell runs in the simulator (`simulated.rs`) each
//! time. What the simulator cannot tell is how real NATs, real gateways and real WireGuard behave; so that is what is
//! selected: every kind at least once as the first and once as the second, every kind of path over each kind of place
//! that makes it another way, and what has broken before.

use std::collections::BTreeSet;

use libtest_mimic::{Arguments, Failed, Trial};
use wireplug_lab::{Cell, Nat, PairOptions, Tier};

/// Cells at a time when the runner does not say: each runs seven programs, most of the time waiting.
const THREADS: usize = 3;

/// The cells that run by themselves, and why these.
const SELECTION: [(&str, &[&str]); 9] = [
    (
        "to an address of the host's own; the NAT before the other must be sent to first",
        &["none/none", "symmetric/none", "full-cone/none", "none/symmetric-nat-pmp"],
    ),
    (
        "firewalls on the hosts: nothing comes in that was not sent to, though there is no NAT",
        &["closed-host/closed-host", "port-preserving/closed-host"],
    ),
    (
        "punched: what most homes are, other outer ports, two NATs, an early packet that must not be rejected",
        &["port-preserving/port-preserving", "port-preserving/fixed", "fixed/cgnat", "cgnat/port-preserving"],
    ),
    (
        "the port that the peer shows is known to nobody before its packet comes",
        &["full-cone/symmetric", "symmetric/full-cone"],
    ),
    (
        "a router that is asked: each protocol, each way, both, after punching in vain from behind each filter",
        &[
            "port-preserving/symmetric-upnp-igd",
            "symmetric-nat-pmp/symmetric",
            "cgnat/symmetric-pcp",
            "symmetric-pcp/symmetric-nat-pmp",
            "symmetric-upnp-igd/dual-stack",
            "closed-host/symmetric-upnp-igd",
        ],
    ),
    (
        "relayed: nothing else is possible, and nothing else may be tried on WireGuard",
        &["symmetric/port-preserving", "symmetric/symmetric", "cgnat/symmetric", "symmetric/closed-host"],
    ),
    (
        "relayed between address families, and over TLS on one side or both",
        &[
            "port-preserving/ipv6-firewall",
            "udp-blocked/ipv6-firewall",
            "none/udp-blocked",
            "udp-blocked/udp-blocked",
        ],
    ),
    (
        "IPv6, alone and before an IPv4 that could not",
        &["ipv6-firewall/ipv6-firewall", "ipv6-firewall/dual-stack", "dual-stack/dual-stack"],
    ),
    (
        "on one LAN: no way out, no IPv4, and routers that do not hairpin",
        &["port-preserving/one-lan", "udp-blocked/one-lan", "ipv6-firewall/one-lan"],
    ),
];

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let selected: BTreeSet<&str> = SELECTION.iter().flat_map(|(_, cells)| *cells).copied().collect();
    let cell = |cell: Cell| {
        let name = cell.to_string();
        let ignored = !selected.contains(&*name);
        let run = move || cell.check(&PairOptions::default()).map_err(Failed::from);
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    let mut trials: Vec<Trial> = Cell::all().into_iter().map(cell).collect();
    trials.push(Trial::test("the_selection_meets_every_kind_and_every_path", move || fair(&selected)));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Whether every kind is met in a row and in a column, and every kind of path.
fn fair(selected: &BTreeSet<&str>) -> Result<(), Failed> {
    let cells: Vec<Cell> = selected.iter().map(|name| name.parse()).collect::<Result<_, String>>()?;
    let apart = |side: usize, nat: Nat| {
        cells.iter().any(|cell| matches!(cell, Cell::Apart(..)) && cell.nats()[side] == nat)
    };
    let kinds = Nat::ALL.into_iter().filter(|nat| !apart(0, *nat) || !apart(1, *nat));
    let paths = Tier::ALL.into_iter().filter(|path| !cells.iter().any(|cell| cell.expected() == *path));
    let missing: Vec<String> =
        kinds.map(|nat| nat.to_string()).chain(paths.map(|path| format!("{path:?}"))).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("not met: {missing:?}").into()) }
}
