//! Verification of our own candidates, on the daemon's side: own the address, then have it probed.

use std::net::SocketAddr;

use rand::RngExt as _;
use wireplug_core::Endpoint;
use wireplug_core::scheduler::{Input, Verdict};

use crate::server::Addresses;
use crate::strategies::{Asking, Question};
use crate::{Chance, Time, earlier, ms, secs};

/// How often a probe is asked for. One that is lost makes an open candidate a filtered one, which is punched.
const PROBES: u32 = 1;
/// How long a probe may take after the server says that it was sent.
const PROBE_PATIENCE: Time = ms(200);

/// All verifications that are going on.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    running: Vec<Verification>,
}

#[derive(Debug)]
struct Verification {
    generation: u32,
    endpoint: Endpoint,
    nonce: u64,
    servers: Option<Addresses>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Owning(Question),
    Probing { asked: u32, until: Time },
    Done(Verdict),
}

/// What a verification needs.
pub(super) enum Wants {
    Ask { to: SocketAddr, id: u64 },
    Probe { endpoint: Endpoint, nonce: u64 },
    Say(Input),
}

impl Verifier {
    pub(super) fn begin(
        &mut self,
        now: Time,
        chance: &mut Chance,
        generation: u32,
        endpoint: Endpoint,
        servers: Option<Addresses>,
    ) {
        self.running.retain(|v| v.endpoint != endpoint);
        let stage = first_stage(now, chance, servers);
        self.running.push(Verification { generation, endpoint, nonce: chance.random(), servers, stage });
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        self.running
            .iter()
            .map(|v| match &v.stage {
                Stage::Owning(question) => Some(question.next_event()),
                Stage::Probing { until, .. } => Some(*until),
                Stage::Done(_) => Some(Time::ZERO),
            })
            .fold(None, earlier)
    }

    pub(super) fn is_probing_v4(&self) -> bool {
        self.running.iter().any(|v| v.endpoint.ip().is_ipv4())
    }

    pub(super) fn poll(&mut self, now: Time, server_up: bool, generation: u32) -> Option<Wants> {
        self.running.retain(|v| v.generation == generation);
        for index in 0..self.running.len() {
            let v = &mut self.running[index];
            match &mut v.stage {
                Stage::Owning(_) | Stage::Probing { .. } if !server_up => {
                    v.stage = Stage::Done(Verdict::Unknown);
                }
                Stage::Owning(question) => match question.poll(now) {
                    Asking::Waiting => {}
                    Asking::Due => return Some(Wants::Ask { to: question.to, id: question.id }),
                    Asking::InVain => v.stage = Stage::Done(Verdict::Unknown),
                },
                Stage::Probing { asked, until } if *until <= now => {
                    if *asked == PROBES {
                        v.stage = Stage::Done(Verdict::Filtered);
                    } else {
                        *asked += 1;
                        *until = now + secs(2);
                        return Some(Wants::Probe { endpoint: v.endpoint, nonce: v.nonce });
                    }
                }
                Stage::Probing { .. } | Stage::Done(_) => {}
            }
        }
        let done = self.running.iter().position(|v| matches!(v.stage, Stage::Done(_)))?;
        let Verification { generation, endpoint, stage, .. } = self.running.remove(done);
        let Stage::Done(verdict) = stage else { return None };
        Some(Wants::Say(Input::Verdict { generation, endpoint, verdict }))
    }

    pub(super) fn on_bound(&mut self, now: Time, id: u64) {
        for v in &mut self.running {
            if matches!(&v.stage, Stage::Owning(question) if question.id == id) {
                v.stage = Stage::Probing { asked: 0, until: now };
            }
        }
    }

    pub(super) fn on_probed(&mut self, now: Time, nonce: u64) {
        for v in &mut self.running {
            if let Stage::Probing { until, .. } = &mut v.stage
                && v.nonce == nonce
            {
                *until = now + PROBE_PATIENCE;
            }
        }
    }

    pub(super) fn on_refused(&mut self, nonce: u64) -> Option<Input> {
        self.finish(nonce, Verdict::Wrong { why: "the server saw another address".to_owned() })
    }

    pub(super) fn on_probe(&mut self, nonce: u64) -> Option<Input> {
        self.finish(nonce, Verdict::Open)
    }

    pub(super) fn give_up(&mut self) -> Vec<Input> {
        self.running
            .drain(..)
            .map(|v| Input::Verdict {
                generation: v.generation,
                endpoint: v.endpoint,
                verdict: Verdict::Unknown,
            })
            .collect()
    }

    /// The port was closed and what was on its way is lost: everything is asked anew when it opens.
    pub(super) fn start_over(&mut self, now: Time, chance: &mut Chance) {
        for v in &mut self.running {
            v.stage = first_stage(now, chance, v.servers);
        }
    }

    fn finish(&mut self, nonce: u64, verdict: Verdict) -> Option<Input> {
        let index = self.running.iter().position(|v| v.nonce == nonce)?;
        let v = self.running.remove(index);
        Some(Input::Verdict { generation: v.generation, endpoint: v.endpoint, verdict })
    }
}

fn first_stage(now: Time, chance: &mut Chance, servers: Option<Addresses>) -> Stage {
    match servers {
        Some(servers) => Stage::Owning(Question::new(now, chance, servers.primary)),
        None => Stage::Done(Verdict::Unknown),
    }
}
