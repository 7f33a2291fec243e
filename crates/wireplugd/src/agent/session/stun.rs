//! STUN from the WireGuard port: questions to servers, of strategies and for verification, and all answers.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;
use wireplug_core::scheduler::Input;
use wireplug_core::{Endpoint, Family, TransactionId};
use wireplug_proto::stun::binding;
use wireplug_strategy::{Binding, PortError};

use super::super::bindings::Due;
use super::super::host::Question;
use super::super::port::sender;
use super::{FreshFrom, Session, now, random};

/// Whose the answer of a STUN server is.
#[derive(Debug)]
pub(super) enum Ticket {
    /// A strategy asked.
    Strategy(oneshot::Sender<Result<Binding, PortError>>),
    /// Verification must know which address is ours.
    Ownership { server: usize, family: Family },
}

/// A strategy's question that has to wait until no probe can be on its way.
pub(super) struct Held {
    server: SocketAddr,
    answer: oneshot::Sender<Result<Binding, PortError>>,
}

impl Session<'_> {
    pub(super) fn ask(&mut self, server: SocketAddr, ticket: Ticket) {
        let transaction = TransactionId::from_bytes(random());
        let at = now();
        if let Err(ticket) = self.bindings.begin(at, server, transaction, ticket) {
            self.give_up(ticket, PortError::Timeout { server, after: Duration::ZERO });
        }
    }

    pub(super) async fn binding_due(&mut self, due: Due<Ticket>) {
        match due {
            Due::GivenUp(ticket, error) => self.give_up(ticket, error),
            Due::Send { server, transaction } => {
                let payload = binding::request(
                    transaction,
                    self.servers.token_of(server).as_ref(),
                    binding::Change::None,
                );
                let sent = match sender(server) {
                    Some(to) => self.port.send(&self.network.routes, to, payload).await,
                    None => return,
                };
                let Err(error) = sent else { return };
                if error.for_path().is_some() || !self.port.is_possible() {
                    let why = if self.port.is_possible() {
                        PortError::NoRoute { server, why: error.to_string() }
                    } else {
                        PortError::NotPermitted
                    };
                    if let Some(ticket) = self.bindings.fail(transaction) {
                        self.give_up(ticket, why);
                    }
                }
            }
        }
    }

    pub(super) fn give_up(&mut self, ticket: Ticket, error: PortError) {
        match ticket {
            Ticket::Strategy(answer) => drop(answer.send(Err(error))),
            Ticket::Ownership { server, family } => {
                debug!(%error, "the server did not tell our address");
                self.verifications.not_owned(server, family);
            }
        }
    }

    /// Lets questions to servers' second addresses go once no probe can be on its way.
    pub(super) fn release_held(&mut self) {
        // Who asked may have given up meanwhile.
        self.held.retain(|held| !held.answer.is_closed());
        let (stay, go) =
            std::mem::take(&mut self.held).into_iter().partition(|held: &Held| self.must_wait(held.server));
        self.held = stay;
        for held in go {
            self.ask(held.server, Ticket::Strategy(held.answer));
        }
    }

    pub(super) fn question(&mut self, Question { server, answer }: Question) {
        if self.must_wait(server) {
            self.held.push(Held { server, answer });
        } else {
            self.ask(server, Ticket::Strategy(answer));
        }
    }

    /// Whether a probe from this address may be on its way, or is soon: nothing must be sent there before.
    fn must_wait(&self, server: SocketAddr) -> bool {
        self.servers.holds_back(server, self.verifications.is_running(Family::of(server.ip())))
    }

    pub(super) fn response(&mut self, from: Endpoint, transaction: TransactionId, payload: &[u8]) {
        if let Ok(answer) = binding::parse_response(payload)
            && let Some((ticket, binding)) =
                self.bindings.answered(now(), from.addr(), transaction, answer.mapped)
        {
            self.scheduler.handle(now(), Input::ServerRoundTrip(binding.rtt));
            match ticket {
                Ticket::Strategy(answer) => drop(answer.send(Ok(binding))),
                Ticket::Ownership { server, .. } => {
                    let fresh = &mut FreshFrom(&self.servers);
                    self.verifications.owned_by(now(), server, binding, fresh);
                }
            }
            return;
        }
        // Which pair's check it answers is known to the scheduler by its transaction alone; the integrity tells
        // whether it is true.
        let Some(peer) = self.scheduler.asked(&transaction, from) else { return };
        let Some(pair) = self.pairs.get(&peer) else { return };
        if pair.open_check_response(payload).is_ok() {
            debug!(peer = %self.peer_name(&peer), %from, "path proven");
            self.scheduler.handle(now(), Input::CheckAnswered { peer, from, transaction });
        }
    }
}
