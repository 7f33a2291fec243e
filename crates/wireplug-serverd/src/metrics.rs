//! `/metrics`: numbers for whoever runs the server, in Prometheus' text format.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::proxy;
use crate::relay::{Counters, Dropped, Gauges, Tally};
use crate::rendezvous::Counts;
use crate::web::{Peer, Web};

/// The text format's version.
const TEXT: &str = "text/plain; version=0.0.4";

/// For programs on this machine only, and not through a proxy.
pub(crate) async fn serve(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    if !peer.ip.is_loopback() || proxy::is_forwarded(&headers) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut text = Text::default();
    text.rendezvous(&web.hub.counts());
    if let Some(places) = web.hub.places() {
        text.relay(&places.relay().gauges(), &places.relay().counters());
        text.one("relay_denied_total", "counter", web.hub.counts().denied);
    }
    ([(CONTENT_TYPE, TEXT)], text.0).into_response()
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn rendezvous(&mut self, counts: &Counts) {
        self.one("connections", "gauge", counts.connections);
        self.one("topics", "gauge", counts.topics);
        self.one("offer_bytes", "gauge", counts.offer_bytes);
        self.one("addresses", "gauge", counts.accounts);
        self.one("offers_total", "counter", counts.published);
        self.one("refused_total", "counter", counts.refused);
        self.one("probes_total", "counter", counts.probes);
    }

    fn relay(&mut self, gauges: &Gauges, counters: &Counters) {
        self.one("relay_allocations", "gauge", gauges.allocations);
        self.one("relay_sides", "gauge", gauges.sides);
        let bindings = [("udp", gauges.udp_bindings), ("tls", gauges.tls_bindings)];
        self.labelled("relay_bindings", "gauge", "by", &bindings);

        let forwarded = [("udp", counters.forwarded_udp), ("tls", counters.forwarded_tls)];
        self.tallies("relay_forwarded", "to", &forwarded);
        let dropped = Dropped::ALL.map(|why| (why.word(), counters.dropped(why)));
        self.tallies("relay_dropped", "why", &dropped);

        self.one("relay_granted_total", "counter", counters.granted);
        self.one("relay_refused_total", "counter", counters.refused);
        let binds = [
            ("bound", counters.bound),
            ("refreshed", counters.refreshed),
            ("challenged", counters.challenged),
            ("unknown", counters.unknown),
            ("forged", counters.forged),
            ("replayed", counters.replayed),
            ("taken", counters.taken),
            ("too_often", counters.too_often),
        ];
        self.labelled("relay_binds_total", "counter", "outcome", &binds);
    }

    fn one(&mut self, name: &str, kind: &str, value: impl Display) {
        self.line(format_args!("# TYPE wireplug_{name} {kind}"));
        self.line(format_args!("wireplug_{name} {value}"));
    }

    fn labelled(&mut self, name: &str, kind: &str, label: &str, values: &[(&str, impl Display)]) {
        self.line(format_args!("# TYPE wireplug_{name} {kind}"));
        for (which, value) in values {
            self.line(format_args!("wireplug_{name}{{{label}=\"{which}\"}} {value}"));
        }
    }

    fn tallies(&mut self, name: &str, label: &str, tallies: &[(&str, Tally)]) {
        let of = |part: fn(&Tally) -> u64| -> Vec<(&str, u64)> {
            tallies.iter().map(|(which, tally)| (*which, part(tally))).collect()
        };
        let (packets, bytes) = (of(|tally| tally.packets), of(|tally| tally.bytes));
        self.labelled(&format!("{name}_packets_total"), "counter", label, &packets);
        self.labelled(&format!("{name}_bytes_total"), "counter", label, &bytes);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_one_type_and_its_labels() {
        let mut counters = Counters { granted: 7, ..Counters::default() };
        counters.dropped[Dropped::Unbound as usize] = Tally { packets: 3, bytes: 300 };
        let mut text = Text::default();
        text.rendezvous(&Counts { topics: 2, ..Counts::default() });
        text.relay(&Gauges { allocations: 1, ..Gauges::default() }, &counters);
        for line in [
            "wireplug_topics 2",
            "wireplug_relay_allocations 1",
            "wireplug_relay_dropped_packets_total{why=\"unbound\"} 3",
            "wireplug_relay_dropped_bytes_total{why=\"unbound\"} 300",
            "wireplug_relay_bindings{by=\"tls\"} 0",
            "wireplug_relay_granted_total 7",
        ] {
            assert!(text.0.lines().any(|it| it == line), "{line}\n{}", text.0);
        }
        let families: Vec<_> = text.0.lines().filter(|line| line.starts_with('#')).collect();
        let distinct: std::collections::HashSet<_> = families.iter().collect();
        assert_eq!(families.len(), distinct.len());
    }
}
