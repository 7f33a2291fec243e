//! The load program: what it sends arrives and is counted, whatever it goes through.

use std::time::Duration;

use wireplug_lab::{Binaries, Cutting, LoadLab, LoadReport, Priority, Result, Through, Traffic};

/// Datagrams a second, far below what any of them forwards.
const RATE: f64 = 2_000.0;
/// Datagrams a second of which a card merges some.
const MERGED_RATE: f64 = 50_000.0;
const WINDOW: Duration = Duration::from_millis(300);

fn run(lab: &LoadLab, through: Through, pairs: usize) -> Result<LoadReport> {
    lab.rate(Traffic { through, pairs, size: 1400 }, Some(RATE), WINDOW)
}

fn nearly_all_arrived(report: &LoadReport, what: &str) {
    assert!(report.sent > 100, "{what}: {report:?}");
    // Another process of the machine may be in the way for a moment.
    assert!(report.received * 10 >= report.sent * 9, "{what}: {report:?}");
    assert!(report.received <= report.sent, "{what}: {report:?}");
    assert!(report.latency_ns <= report.latency_p99_ns && report.latency_ns.is_some(), "{what}: {report:?}");
}

#[test]
fn datagrams_are_counted_over_a_cable_and_through_the_kernel() {
    let lab = LoadLab::new(Binaries::find().unwrap(), Priority::Shared).unwrap();
    for through in [Through::Cable, Through::Kernel] {
        for pairs in [1, 5] {
            let report = run(&lab, through, pairs).unwrap();
            nearly_all_arrived(&report, &format!("{through:?}, {pairs} pairs"));
            assert!(report.sending_ns.is_some_and(|ns| ns > 0), "{report:?}");
            assert_eq!(report.server_cpu_ns, None);
        }
    }
}

#[test]
fn coturn_relays_from_both_ends() {
    let mut lab = LoadLab::new(Binaries::find().unwrap(), Priority::Shared).unwrap();
    lab.start_coturn().unwrap();
    for through in [Through::Coturn, Through::CoturnFromPeer] {
        for pairs in [1, 5] {
            let report = run(&lab, through, pairs).unwrap();
            nearly_all_arrived(&report, &format!("{through:?}, {pairs} pairs"));
            assert!(report.server_cpu_ns.is_some_and(|ns| ns > 0), "{report:?}");
        }
    }
}

#[test]
fn our_relay_forwards_and_keeps_idle_allocations() {
    let mut lab = LoadLab::new(Binaries::find().unwrap(), Priority::Shared).unwrap();
    lab.start_serverd().unwrap();
    for pairs in [1, 5] {
        let report = run(&lab, Through::Wireplug, pairs).unwrap();
        nearly_all_arrived(&report, &format!("{pairs} pairs"));
        assert!(report.server_cpu_ns.is_some_and(|ns| ns > 0), "{report:?}");
    }
    let idle = lab.idle(300).unwrap();
    let counts: Vec<u64> = idle.stages.iter().map(|(allocations, _)| *allocations).collect();
    assert_eq!(counts, [0, 300]);
    assert!(idle.stages.iter().all(|(_, kib)| *kib > 0), "{idle:?}");
}

#[test]
fn our_relay_forwards_what_links_like_cards_merge() {
    let mut lab = LoadLab::new(Binaries::find().unwrap(), Priority::Shared).unwrap();
    lab.start_serverd().unwrap();
    for cutting in [Cutting::Card, Cutting::Kernel] {
        lab.receive_like_cards(cutting).unwrap();
        let traffic = |pairs| Traffic { through: Through::Wireplug, pairs, size: 1400 };
        for (pairs, rate) in [(1, RATE), (5, RATE), (1, MERGED_RATE)] {
            let report = lab.rate(traffic(pairs), Some(rate), WINDOW).unwrap();
            nearly_all_arrived(&report, &format!("{cutting:?}, {pairs} pairs, {rate} a second"));
            assert_eq!(report.reordered, 0, "{cutting:?}: {report:?}");
        }
    }
}

#[test]
fn a_server_that_was_not_started_is_named() {
    let lab = LoadLab::new(Binaries::find().unwrap(), Priority::Shared).unwrap();
    let error = run(&lab, Through::Coturn, 1).unwrap_err().to_string();
    assert_eq!(error, "coturn was not started");
}
