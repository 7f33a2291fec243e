//! Verification of our own candidates by a server's probe. Without IO.
//!
//! For each family, ownership comes first: a STUN request with the server's token, from the WireGuard port,
//! tells the server which address is ours. Then the server sends a nonce to the candidate from where we
//! have never sent to. While a probe may still be on its way, nothing is sent to the server's second address,
//! or the NAT's own state would let the probe pass.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wireplug_core::scheduler::Verdict;
use wireplug_core::{Endpoint, Family, same_host};
use wireplug_proto::rendezvous::Reason;
use wireplug_strategy::Binding;

/// How long a server may take to say that the probe is sent, or the STUN answer to come.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a probe may take after the server said that it was sent: two round trips, and this at least,
/// since the answer over TCP and the probe over UDP take ways of their own.
const PROBE: Duration = Duration::from_millis(200);
/// Verifications at a time; more wait for nothing and are told that nobody can tell now.
const MAX: usize = 64;

/// What the state machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Send a tokened STUN request to this server's first address.
    Own { server: usize, address: SocketAddr },
    /// Ask this server for a probe.
    Ask { server: usize, id: u64, endpoint: Endpoint, nonce: [u8; 16] },
    /// Tell the scheduler.
    Tell { generation: u32, endpoint: Endpoint, verdict: Verdict },
}

/// All verifications under way on one interface.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    owned: BTreeMap<(usize, Family), Ownership>,
    running: Vec<Verification>,
    acts: Vec<Act>,
}

#[derive(Debug)]
enum Ownership {
    Asked,
    Known(Binding),
}

#[derive(Debug)]
struct Verification {
    generation: u32,
    endpoint: Endpoint,
    server: usize,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting for the address to be known as ours.
    Owning { until: Instant },
    /// Waiting for the server to say that it sent the probe.
    Asked { id: u64, nonce: [u8; 16], until: Instant },
    /// Waiting for the probe.
    Sent { id: u64, nonce: [u8; 16], until: Instant },
}

/// What a caller draws from a real source: never the same twice.
pub(super) trait Fresh {
    fn id(&mut self, server: usize) -> u64;
    fn nonce(&mut self) -> [u8; 16];
}

impl Verifications {
    /// Begins one. `server`: one that is up, with its first STUN address in the candidate's family.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        generation: u32,
        endpoint: Endpoint,
        server: Option<(usize, SocketAddr)>,
        fresh: &mut impl Fresh,
    ) {
        self.running.retain(|other| other.endpoint != endpoint);
        let Some((server, address)) = server.filter(|_| self.running.len() < MAX) else {
            self.acts.push(Act::Tell { generation, endpoint, verdict: Verdict::Unknown });
            return;
        };
        let stage = Stage::Owning { until: now + ANSWER };
        self.running.push(Verification { generation, endpoint, server, stage });
        match self.owned.get(&(server, endpoint.family())) {
            Some(Ownership::Known(binding)) => {
                let binding = *binding;
                self.owned_by(now, server, binding, fresh);
            }
            Some(Ownership::Asked) => {}
            None => {
                self.owned.insert((server, endpoint.family()), Ownership::Asked);
                self.acts.push(Act::Own { server, address });
            }
        }
    }

    /// The server saw our tokened request come from `binding.mapped`.
    pub(super) fn owned_by(&mut self, now: Instant, server: usize, binding: Binding, fresh: &mut impl Fresh) {
        let family = Family::of(binding.mapped.ip().to_canonical());
        self.owned.insert((server, family), Ownership::Known(binding));
        let acts = &mut self.acts;
        self.running.retain_mut(|one| {
            let waits = matches!(one.stage, Stage::Owning { .. });
            if one.server != server || one.endpoint.family() != family || !waits {
                return true;
            }
            if !same_host(one.endpoint.ip(), binding.mapped.ip()) {
                let why = format!("the server sees us at {}", binding.mapped.ip());
                let verdict = Verdict::Wrong { why };
                acts.push(Act::Tell { generation: one.generation, endpoint: one.endpoint, verdict });
                return false;
            }
            let (id, nonce) = (fresh.id(server), fresh.nonce());
            acts.push(Act::Ask { server, id, endpoint: one.endpoint, nonce });
            one.stage = Stage::Asked { id, nonce, until: now + ANSWER };
            true
        });
    }

    /// Nobody answered the tokened request.
    pub(super) fn not_owned(&mut self, server: usize, family: Family) {
        self.owned.remove(&(server, family));
        self.end(&Verdict::Unknown, |one| {
            one.server == server
                && one.endpoint.family() == family
                && matches!(one.stage, Stage::Owning { .. })
        });
    }

    /// The server says that it sent the probe.
    pub(super) fn sent(&mut self, now: Instant, server: usize, id: u64) {
        for one in &mut self.running {
            let Stage::Asked { id: asked, nonce, .. } = one.stage else { continue };
            if one.server == server && asked == id {
                let rtt = match self.owned.get(&(server, one.endpoint.family())) {
                    Some(Ownership::Known(binding)) => binding.rtt,
                    Some(Ownership::Asked) | None => Duration::ZERO,
                };
                one.stage = Stage::Sent { id, nonce, until: now + PROBE.max(2 * rtt) };
            }
        }
    }

    /// The server refused to send it.
    pub(super) fn refused(&mut self, server: usize, id: u64, reason: Reason) {
        let verdict = match reason {
            Reason::NotYours => Verdict::Wrong { why: "the server does not take it for ours".to_owned() },
            _ => Verdict::Unknown,
        };
        self.end(&verdict, |one| one.server == server && one.stage.id() == Some(id));
    }

    /// A probe with this nonce arrived on the WireGuard port.
    pub(super) fn arrived(&mut self, nonce: &[u8; 16]) {
        self.end(&Verdict::Open, |one| one.stage.nonce() == Some(nonce));
    }

    /// The server is gone, or it is another connection with another token.
    pub(super) fn forget_server(&mut self, server: usize) {
        self.owned.retain(|(of, _), _| *of != server);
        self.end(&Verdict::Unknown, |one| one.server == server);
    }

    /// The network is another one: no address of before is ours.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Whether a probe may still be on its way in this family.
    pub(super) fn is_running(&self, family: Family) -> bool {
        self.running.iter().any(|one| one.endpoint.family() == family)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.end(&Verdict::Filtered, |one| matches!(one.stage, Stage::Sent { until, .. } if until <= now));
        self.end(&Verdict::Unknown, |one| one.stage.until() <= now);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.running.iter().map(|one| one.stage.until()).min()
    }

    /// What is to be done now.
    pub(super) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    fn end(&mut self, verdict: &Verdict, of: impl Fn(&Verification) -> bool) {
        let acts = &mut self.acts;
        self.running.retain(|one| {
            let ends = of(one);
            if ends {
                let (generation, endpoint) = (one.generation, one.endpoint);
                acts.push(Act::Tell { generation, endpoint, verdict: verdict.clone() });
            }
            !ends
        });
    }
}

impl Stage {
    fn until(&self) -> Instant {
        match self {
            Self::Owning { until } | Self::Asked { until, .. } | Self::Sent { until, .. } => *until,
        }
    }

    fn id(&self) -> Option<u64> {
        match self {
            Self::Owning { .. } => None,
            Self::Asked { id, .. } | Self::Sent { id, .. } => Some(*id),
        }
    }

    fn nonce(&self) -> Option<&[u8; 16]> {
        match self {
            Self::Owning { .. } => None,
            Self::Asked { nonce, .. } | Self::Sent { nonce, .. } => Some(nonce),
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
