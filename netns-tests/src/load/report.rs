//! What `wireplug-load` reports, one JSON object on a line.

use serde::{Deserialize, Serialize};

/// What became of one window of traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Datagrams a second that were to be sent; none: as many as the load could.
    pub offered: Option<f64>,
    /// How long was sent, in seconds.
    pub seconds: f64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that were due and not sent, because the load itself was late.
    pub unsent: u64,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams received after a later one of their pair.
    pub reordered: u64,
    /// CPU time of the server's process over the window, in nanoseconds, user's and system's; none without a server.
    pub server_cpu_ns: Option<u64>,
    /// CPU time of the load's send calls in the window, in nanoseconds, with all that the kernel does in them: on a
    /// virtual link the whole way to the next process that must wake. Only if it was asked for.
    pub sending_ns: Option<u64>,
    /// Time from a datagram's sending to its receiving, in nanoseconds: the median. None if nothing arrived.
    pub latency_ns: Option<u64>,
    /// As `latency_ns`, of all but the slowest hundredth.
    pub latency_p99_ns: Option<u64>,
}

impl LoadReport {
    /// Datagrams that were sent and have not arrived.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Datagrams sent a second.
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    /// Whether the load sent nearly all that it was to.
    pub fn kept_up(&self) -> bool {
        // A tenth: the kernel takes a twentieth of a core from a program that never sleeps if others want it, so that
        // they do not starve.
        self.unsent * 10 <= self.sent + self.unsent
    }

    /// Datagrams forwarded for each second of the server's CPU time.
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub fn forwarded_per_cpu_second(&self) -> Option<f64> {
        let seconds = self.server_cpu_ns.filter(|ns| *ns > 0)? as f64 / 1e9;
        Some(self.received as f64 / seconds)
    }
}

/// The highest rate that lost nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HighestRate {
    /// The window with the highest rate without loss; none if even the lowest lost something each time.
    pub best: Option<LoadReport>,
    /// Whether the load's own core was the limit: the server may forward more.
    pub limited_by_load: bool,
}

/// The server's resident memory as allocations come, in KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleReport {
    /// How many allocations there were, from none on, and the resident memory with them.
    pub stages: Vec<(u64, u64)>,
}
