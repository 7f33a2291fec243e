//! What is not one peer's own: the time, our network, the servers, and where commands go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;

use super::io::Command;
use super::keepalive::Lifetimes;
use super::local::Local;
use super::paths::By;
use crate::TransactionId;

/// What all peers of an interface share, for the length of one call.
pub(super) struct World<'a> {
    pub(super) now: Instant,
    pub(super) instance: u64,
    pub(super) generation: u32,
    pub(super) revision: &'a mut u32,
    pub(super) local: &'a Local,
    pub(super) lifetimes: &'a mut Lifetimes,
    pub(super) server: &'a Server,
    pub(super) server_round_trip: Duration,
    pub(super) listening: bool,
    pub(super) port_sharing: bool,
    pub(super) rng: &'a mut ChaCha8Rng,
    pub(super) commands: &'a mut VecDeque<Command>,
}

impl World<'_> {
    pub(super) fn checks_by(&self) -> By {
        if self.port_sharing { By::SharedPort } else { By::TlsAlone }
    }

    pub(super) fn transaction(rng: &mut ChaCha8Rng) -> TransactionId {
        TransactionId::from_bytes(rng.random())
    }
}

/// Whether a rendezvous server is connected.
#[derive(Debug, Clone)]
pub(super) enum Server {
    /// It is not known yet: connecting takes its time.
    Connecting,
    Up {
        since: Instant,
    },
    Down {
        since: Instant,
        why: String,
    },
}

impl Server {
    pub(super) const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    /// Since when it is known that none is there.
    pub(super) const fn down_since(&self) -> Option<Instant> {
        match self {
            Self::Down { since, .. } => Some(*since),
            Self::Connecting | Self::Up { .. } => None,
        }
    }
}
