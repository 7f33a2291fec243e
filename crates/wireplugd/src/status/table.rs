//! Status for people: a calm table, no colours.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use wireplug_core::PublicKey;

use super::{InterfaceStatus, PeerStatus};

/// The interfaces as text, one block each, ending in a line break.
pub fn table(interfaces: &[InterfaceStatus], now: SystemTime) -> String {
    let mut text = String::new();
    for (number, interface) in interfaces.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        block(&mut text, interface, now);
    }
    text
}

fn block(text: &mut String, interface: &InterfaceStatus, now: SystemTime) {
    // Writing to a String cannot fail.
    if let Some(why) = &interface.waiting {
        let _ = writeln!(text, "{}, waiting: {why}", interface.interface);
        return;
    }
    let _ = writeln!(text, "{}, port {}", interface.interface, interface.listen_port);
    for server in &interface.servers {
        let how = match (&server.reason, server.connected) {
            (_, true) => "connected".to_owned(),
            (Some(reason), false) => format!("not connected: {reason}"),
            (None, false) => "connecting".to_owned(),
        };
        let _ = writeln!(text, "  server {} {how}", server.url);
    }
    for strategy in &interface.strategies {
        if let Some(note) = &strategy.note {
            let _ = writeln!(text, "  {}: {note}", strategy.name);
        }
    }
    if interface.peers.is_empty() {
        text.push_str("  no peers\n");
        return;
    }
    let mut rows = vec![["PEER", "STATE", "BY", "ENDPOINT", "RTT", "FOR"].map(str::to_owned)];
    rows.extend(interface.peers.iter().map(|peer| row(peer, now)));
    text.push_str(&columns(&rows, "  "));
    for peer in &interface.peers {
        let said: Vec<_> = [&peer.reason, &peer.trying].into_iter().flatten().map(String::as_str).collect();
        if !said.is_empty() {
            let _ = writeln!(text, "  {}: {}", called(peer), said.join("; "));
        }
    }
}

fn row(peer: &PeerStatus, now: SystemTime) -> [String; 6] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let remark = match peer.endpoint {
        Some(_) if peer.by_hand => " (by hand)",
        Some(_) if !peer.proven => " (unproven)",
        _ => "",
    };
    [
        called(peer),
        peer.state.as_str().to_owned(),
        or_dash(peer.strategy.clone()),
        or_dash(peer.endpoint.map(|endpoint| format!("{endpoint}{remark}"))),
        or_dash(peer.rtt_ms.map(|rtt| format!("{rtt:.0} ms"))),
        lasting(peer.since.age(now)),
    ]
}

/// A peer's name, or else the beginning of its key, which `wg show` prints in full.
fn called(peer: &PeerStatus) -> String {
    match &peer.name {
        Some(name) => name.clone(),
        None => shortened(&peer.public_key),
    }
}

pub(super) fn shortened(key: &PublicKey) -> String {
    key.to_string().chars().take(12).chain(['…']).collect()
}

/// A duration in its largest unit.
pub(super) fn lasting(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn columns<const N: usize>(rows: &[[String; N]], indent: &str) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use wireplug_core::PublicKey;

    use super::super::{ServerStatus, State, Timestamp};
    use super::*;

    #[test]
    fn a_status_reads_as_a_table() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let peer = PeerStatus {
            public_key: PublicKey::from_bytes([7; 32]),
            name: Some("nas".to_owned()),
            state: State::Connected,
            strategy: Some("hole-punch".to_owned()),
            endpoint: Some("203.0.113.7:51820".parse().unwrap()),
            rtt_ms: Some(12.4),
            since: Timestamp::from(now - Duration::from_secs(200)),
            proven: true,
            by_hand: false,
            trying: None,
            next: None,
            reason: None,
        };
        let set = PeerStatus {
            name: Some("attic".to_owned()),
            strategy: None,
            by_hand: true,
            trying: Some("checking 3 candidates: 2 by hole-punch, 1 by direct".to_owned()),
            ..peer.clone()
        };
        let dead = PeerStatus {
            name: None,
            state: State::Unreachable,
            strategy: None,
            endpoint: None,
            rtt_ms: None,
            proven: false,
            reason: Some("both NATs are destination-dependent".to_owned()),
            trying: Some("next round in 12 s".to_owned()),
            ..peer.clone()
        };
        let status = InterfaceStatus {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            waiting: None,
            servers: vec![ServerStatus { url: "wss://a.example/".to_owned(), connected: true, reason: None }],
            strategies: vec![],
            peers: vec![peer, set, dead],
        };
        assert_eq!(
            table(&[status], now),
            "wg0, port 51820\n\
            \x20 server wss://a.example/ connected\n\
            \x20 PEER           STATE        BY          ENDPOINT                     RTT    FOR\n\
            \x20 nas            connected    hole-punch  203.0.113.7:51820            12 ms  3 min\n\
            \x20 attic          connected    -           203.0.113.7:51820 (by hand)  12 ms  3 min\n\
            \x20 BwcHBwcHBwcH…  unreachable  -           -                            -      3 min\n\
            \x20 attic: checking 3 candidates: 2 by hole-punch, 1 by direct\n\
            \x20 BwcHBwcHBwcH…: both NATs are destination-dependent; next round in 12 s\n"
        );
    }
}
