//! The least that strategies do, and how the daemon asks STUN servers for them.

pub mod near;
pub mod relay;

use std::net::{IpAddr, SocketAddr};

use rand::RngExt as _;
use wireplug_core::{Candidate, Endpoint, Mapping, Proof, Reach, StrategyName, Tier, is_global};

use crate::server::Addresses;
use crate::{Chance, Time, earlier, ms, secs};

/// The name of a strategy that is known to be one.
pub(crate) fn name(text: &str) -> StrategyName {
    match text.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("{error}"),
    }
}

/// `direct`: the host's own global addresses.
pub fn direct(addresses: &[IpAddr], port: u16) -> Vec<Candidate> {
    let global = addresses.iter().filter(|ip| is_global(**ip));
    let endpoints = global.filter_map(|ip| Endpoint::new(SocketAddr::new(*ip, port)).ok());
    endpoints
        .map(|endpoint| Candidate {
            endpoint,
            strategy: name("direct"),
            tier: Tier::Direct,
            proof: Proof::Server,
            lifetime: None,
            evidence: "an address of this host".into(),
        })
        .collect()
}

/// One question to a STUN server, repeated until it is answered (RFC 8489 section 6.2.1, with a shorter first
/// pause: the servers are ours).
#[derive(Debug, Clone)]
pub struct Question {
    /// Its id, the same in every repetition.
    pub id: u64,
    /// Whom it asks.
    pub to: SocketAddr,
    asked: u32,
    next: Time,
}

impl Question {
    const TRIES: u32 = 7;
    const FIRST_PAUSE: Time = ms(200);

    /// A question to be asked at once.
    pub fn new(now: Time, chance: &mut Chance, to: SocketAddr) -> Self {
        Self { id: chance.random(), to, asked: 0, next: now }
    }

    /// When something is due.
    pub fn next_event(&self) -> Time {
        self.next
    }

    /// What is due: to ask (again), to give up, or nothing yet.
    pub fn poll(&mut self, now: Time) -> Asking {
        if now < self.next {
            return Asking::Waiting;
        }
        if self.asked == Self::TRIES {
            return Asking::InVain;
        }
        self.next = now + Self::FIRST_PAUSE * 2_u32.pow(self.asked);
        self.asked += 1;
        Asking::Due
    }
}

/// What a question needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Nothing yet.
    Waiting,
    /// To be sent.
    Due,
    /// Nobody answers.
    InVain,
}

/// What `hole-punch` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Our port is mapped there.
    Found(Candidate),
    /// It is not, or that is worth nothing.
    Lost(Endpoint),
    /// How the NAT maps.
    Mapping(Mapping),
}

/// `hole-punch`: the IPv4 mapping, asked for at two addresses.
#[derive(Debug, Clone, Default)]
pub struct HolePunch {
    question: Option<(Which, Question)>,
    mapped: Option<SocketAddr>,
    mapping: Mapping,
    again: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Primary,
    Secondary,
}

impl HolePunch {
    /// While it works, the mapping is asked for again this often: within the 30 s that short-lived ones live.
    const REFRESH: Time = secs(20);
    /// After nobody answered.
    const RETRY: Time = secs(5);

    /// When something is due.
    pub fn next_event(&self) -> Option<Time> {
        earlier(self.question.as_ref().map(|(_, q)| q.next_event()), self.again)
    }

    /// It is not wanted any more, until [`HolePunch::poll`] is called again.
    pub fn rest(&mut self) {
        self.question = None;
        self.again = None;
    }

    /// Gives what to ask now, while it is wanted. `probing`: verification probes are under way.
    pub fn poll(
        &mut self,
        now: Time,
        chance: &mut Chance,
        probing: bool,
        servers: Addresses,
    ) -> Option<(SocketAddr, u64)> {
        if self.question.is_none() && self.again.is_none_or(|at| at <= now) {
            self.again = None;
            self.question = Some((Which::Primary, Question::new(now, chance, servers.primary)));
        }
        let (which, question) = self.question.as_mut()?;
        // The comparison waits for the probes, or our own question would open the way for them.
        if *which == Which::Secondary && probing && question.asked == 0 {
            question.next = question.next.max(now + ms(20));
            return None;
        }
        match question.poll(now) {
            Asking::Waiting => None,
            Asking::Due => Some((question.to, question.id)),
            Asking::InVain => {
                self.question = None;
                self.again = Some(now + Self::RETRY);
                None
            }
        }
    }

    /// An answer came.
    pub fn on_bound(
        &mut self,
        now: Time,
        chance: &mut Chance,
        id: u64,
        mapped: SocketAddr,
        own: &[IpAddr],
        servers: Addresses,
    ) -> Vec<Said> {
        let Some((which, _)) = self.question.take_if(|(_, question)| question.id == id) else {
            return Vec::new();
        };
        let mut said = Vec::new();
        match which {
            Which::Primary => {
                self.question = Some((Which::Secondary, Question::new(now, chance, servers.secondary)));
                if self.mapped != Some(mapped) {
                    said.extend(self.forget());
                    self.mapped = Some(mapped);
                    if !own.contains(&mapped.ip()) && self.mapping != Mapping::DestinationDependent {
                        said.extend(found(mapped));
                    }
                }
            }
            Which::Secondary => {
                self.again = Some(now + Self::REFRESH);
                let mapping = match self.mapped {
                    Some(first) if own.contains(&first.ip()) => Mapping::None,
                    Some(first) if first == mapped => Mapping::Fixed,
                    _ => Mapping::DestinationDependent,
                };
                if self.mapping == Mapping::DestinationDependent && mapping == Mapping::Fixed {
                    said.extend(found(mapped));
                }
                self.mapping = mapping;
                if mapping == Mapping::DestinationDependent {
                    said.extend(self.mapped.and_then(lost));
                }
                said.push(Said::Mapping(mapping));
            }
        }
        said
    }

    fn forget(&mut self) -> Option<Said> {
        self.mapped.take().and_then(lost)
    }
}

fn found(mapped: SocketAddr) -> Option<Said> {
    let endpoint = Endpoint::new(mapped).ok()?;
    Some(Said::Found(Candidate {
        endpoint,
        strategy: name("hole-punch"),
        tier: Tier::Punched,
        proof: Proof::Done(Reach::Filtered),
        lifetime: None,
        evidence: "mapping seen by the server".into(),
    }))
}

fn lost(mapped: SocketAddr) -> Option<Said> {
    Endpoint::new(mapped).ok().map(Said::Lost)
}
