//! What a relay's operator may set.

use std::time::Duration;

use crate::limits::Rate;

/// The limits of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bits of UDP payload a second that one allocation may forward, both directions together; `None`: no limit.
    pub bandwidth: Option<u64>,
    /// The same for all allocations together.
    pub total_bandwidth: Option<u64>,
    /// The most allocations.
    pub allocations: usize,
    /// The most sides of allocations that one address (IPv6: one /64) may hold.
    pub allocations_per_address: usize,
    /// New credentials for one address: one for each pair and each connection that asks.
    pub asks: Rate,
    /// Addresses with a bucket of their own for `asks`; newcomers beyond share one.
    pub sources: usize,
    /// How long a binding lasts from which nothing is heard, and an allocation without bindings and without a
    /// connection that asked. Whole seconds.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bandwidth: None,
            total_bandwidth: None,
            allocations: 65_536,
            allocations_per_address: 1024,
            // All pairs of one household or office come back at once after a restart.
            asks: Rate { burst: 2048, every: Duration::from_millis(100) },
            sources: 16_384,
            idle: Duration::from_secs(300),
        }
    }
}
