//! STUN requests to servers: retransmitted, matched with their answers, given up. Without IO.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_strategy::{Binding, PortError};

/// Pauses after each transmission; after the last one the request is given up. RFC 8489 section 6.2.1
/// begins with 500 ms because it knows nothing of the way; we begin with less, since a lost first packet must
/// not cost half of the time in which people expect a connection, and end after less than its 39.5 s.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1000),
    Duration::from_millis(1000),
];

/// The most requests at a time. Strategies that ask more are answered at once that nobody answered.
const MAX_PENDING: usize = 256;

/// Requests under way. `T` is what the caller wants back with the result.
#[derive(Debug)]
pub(super) struct Bindings<T> {
    pending: HashMap<TransactionId, Pending<T>>,
}

#[derive(Debug)]
struct Pending<T> {
    server: SocketAddr,
    ticket: T,
    begun: Instant,
    /// When each transmission was sent: the answer does not say which of them it answers.
    last_sent: Instant,
    sent: usize,
    next: Instant,
}

/// What to do after time has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due<T> {
    /// Send (again).
    Send {
        /// Where to.
        server: SocketAddr,
        /// With which id.
        transaction: TransactionId,
    },
    /// Nobody answered.
    GivenUp(T, PortError),
}

impl<T> Default for Bindings<T> {
    fn default() -> Self {
        Self { pending: HashMap::new() }
    }
}

impl<T> Bindings<T> {
    /// Begins a request: its first transmission is due at once. Returns the ticket if there are too many.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        server: SocketAddr,
        transaction: TransactionId,
        ticket: T,
    ) -> Result<(), T> {
        if self.pending.len() >= MAX_PENDING {
            return Err(ticket);
        }
        let pending = Pending { server, ticket, begun: now, last_sent: now, sent: 0, next: now };
        self.pending.insert(transaction, pending);
        Ok(())
    }

    /// An answer came. It counts if it comes from where the request went to.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: TransactionId,
        mapped: SocketAddr,
    ) -> Option<(T, Binding)> {
        if self.pending.get(&transaction)?.server != from {
            return None;
        }
        let pending = self.pending.remove(&transaction)?;
        Some((pending.ticket, Binding { mapped, rtt: now - pending.last_sent }))
    }

    /// Takes a request out that cannot be sent.
    pub(super) fn fail(&mut self, transaction: TransactionId) -> Option<T> {
        self.pending.remove(&transaction).map(|pending| pending.ticket)
    }

    /// The next thing that is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Due<T>> {
        let (&transaction, pending) = self.pending.iter_mut().find(|(_, pending)| pending.next <= now)?;
        if let Some(pause) = PAUSES.get(pending.sent) {
            pending.sent += 1;
            pending.last_sent = now;
            pending.next = now + *pause;
            return Some(Due::Send { server: pending.server, transaction });
        }
        let pending = self.pending.remove(&transaction)?;
        let after = now - pending.begun;
        Some(Due::GivenUp(pending.ticket, PortError::Timeout { server: pending.server, after }))
    }

    /// When [`Bindings::poll`] has something again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.next).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (SocketAddr, T)> {
        let pending = std::mem::take(&mut self.pending);
        let ordered: BTreeMap<_, _> = pending.into_iter().collect();
        ordered.into_values().map(|pending| (pending.server, pending.ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId::from_bytes([7; 12]);

    fn server() -> SocketAddr {
        "203.0.113.1:3478".parse().unwrap()
    }

    #[test]
    fn it_is_sent_again_and_then_given_up() {
        let start = Instant::now();
        let mut bindings = Bindings::default();
        bindings.begin(start, server(), ID, "ticket").unwrap();
        let mut sent = 0;
        let error = loop {
            let at = bindings.next().unwrap();
            match bindings.poll(at).unwrap() {
                Due::Send { transaction, .. } => {
                    assert_eq!(transaction, ID);
                    sent += 1;
                }
                Due::GivenUp("ticket", error) => break error,
                other @ Due::GivenUp(..) => panic!("{other:?}"),
            }
        };
        assert_eq!(sent, PAUSES.len());
        assert_eq!(error, PortError::Timeout { server: server(), after: PAUSES.iter().sum() });
        assert!(bindings.is_empty());
    }

    #[test]
    fn only_whom_we_asked_can_answer() {
        let start = Instant::now();
        let mut bindings = Bindings::default();
        bindings.begin(start, server(), ID, ()).unwrap();
        bindings.poll(start);
        let mapped = "198.51.100.7:9".parse().unwrap();
        assert_eq!(bindings.answered(start, mapped, ID, mapped), None);
        assert_eq!(bindings.answered(start, server(), TransactionId::from_bytes([8; 12]), mapped), None);
        let later = start + Duration::from_millis(40);
        let ((), binding) = bindings.answered(later, server(), ID, mapped).unwrap();
        assert_eq!(binding, Binding { mapped, rtt: Duration::from_millis(40) });
        assert_eq!(bindings.answered(later, server(), ID, mapped), None, "once");
    }
}
