//! Kinds of place, paths and times in words.

use std::time::Duration;

use wireplug_lab::{Cell, Measured, Nat, Tier};

/// The columns: every kind as the other side, then both on one LAN.
pub(super) fn columns() -> Vec<Option<Nat>> {
    Nat::ALL.into_iter().map(Some).chain([None]).collect()
}

/// The cell in a row and a column, if there is one.
pub(super) fn cell(row: Nat, column: Option<Nat>) -> Option<Cell> {
    match column {
        Some(other) => Some(Cell::Apart(row, other)),
        None => row.has_router().then_some(Cell::OneLan(row)),
    }
}

/// A column's heading.
pub(super) fn heading(column: Option<Nat>) -> &'static str {
    column.map_or("same LAN", kind)
}

/// A kind of place.
pub(super) fn kind(nat: Nat) -> &'static str {
    match nat {
        Nat::None => "none",
        Nat::FullCone => "full cone",
        Nat::PortPreserving => "port-preserving",
        Nat::Fixed => "fixed",
        Nat::Symmetric => "symmetric",
        Nat::Cgnat => "CGNAT",
        Nat::SymmetricUpnpIgd => "symmetric + UPnP",
        Nat::SymmetricNatPmp => "symmetric + NAT-PMP",
        Nat::SymmetricPcp => "symmetric + PCP",
        Nat::UdpBlocked => "UDP blocked",
        Nat::ClosedHost => "closed host",
        Nat::Ipv6Firewall => "IPv6 only",
        Nat::DualStack => "dual stack",
    }
}

/// A path.
pub(super) fn path(path: Tier) -> &'static str {
    match path {
        Tier::Lan => "LAN",
        Tier::Direct => "direct",
        Tier::Punched => "punched",
        Tier::Mapped => "mapped",
        Tier::Relay => "relayed",
        Tier::RelayTls => "relayed, TLS",
    }
}

/// A time, short.
pub(super) fn time(time: Duration) -> String {
    if time < Duration::from_millis(1000) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// What came of a cell.
pub(super) fn told(measured: &Measured) -> String {
    let direct = match measured.direct {
        Some(direct) if direct > measured.first_ping => format!(", direct after {}", time(direct)),
        _ => String::new(),
    };
    format!("{}, first ping after {}{direct}", path(measured.path), time(measured.first_ping))
}
