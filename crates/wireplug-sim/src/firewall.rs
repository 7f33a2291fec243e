//! Stateful firewalls: what was sent to may answer (RFC 6092 section 3.2 for IPv6; a host's own likewise).

use std::net::SocketAddr;

use crate::Time;

/// What a firewall lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Everything.
    #[default]
    Open,
    /// What leaves, and answers from addresses and ports that were sent to within the timeout.
    Stateful {
        /// How long a permission lives unused (RFC 6092 section 3.2.2, REC-14: at least two minutes).
        timeout: Time,
    },
    /// No UDP at all, in either direction.
    NoUdp,
}

/// One firewall and its state.
#[derive(Debug, Clone, Default)]
pub struct Firewall {
    policy: Policy,
    flows: Vec<Flow>,
}

#[derive(Debug, Clone)]
struct Flow {
    inner: SocketAddr,
    outer: SocketAddr,
    used: Time,
}

impl Firewall {
    /// A firewall without state.
    pub fn new(policy: Policy) -> Self {
        Self { policy, flows: Vec::new() }
    }

    /// Whether it lets everything pass.
    pub fn is_open(&self) -> bool {
        self.policy == Policy::Open
    }

    /// Whether a datagram may leave; notes it.
    pub fn outbound(&mut self, now: Time, source: SocketAddr, destination: SocketAddr) -> bool {
        let timeout = match self.policy {
            Policy::Open => return true,
            Policy::NoUdp => return false,
            Policy::Stateful { timeout } => timeout,
        };
        self.flows.retain(|f| f.used + timeout > now);
        match self.flows.iter_mut().find(|f| f.inner == source && f.outer == destination) {
            Some(flow) => flow.used = now,
            None => self.flows.push(Flow { inner: source, outer: destination, used: now }),
        }
        true
    }

    /// Whether a datagram may come in.
    pub fn inbound(&mut self, now: Time, source: SocketAddr, destination: SocketAddr) -> bool {
        let timeout = match self.policy {
            Policy::Open => return true,
            Policy::NoUdp => return false,
            Policy::Stateful { timeout } => timeout,
        };
        let flow = self
            .flows
            .iter_mut()
            .find(|f| f.inner == destination && f.outer == source && f.used + timeout > now);
        if let Some(flow) = flow {
            flow.used = now;
            return true;
        }
        false
    }
}
