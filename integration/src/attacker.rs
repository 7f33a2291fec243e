//! Somebody who receives checks that were not meant for him.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wireplug_core::{PrivateKey, PublicKey, TransactionId};
use wireplug_lab::{Host, LabError, Result};
use wireplug_proto::Pair;
use wireplug_proto::stun::{self, Incoming, binding};

use crate::failed;

/// How soon the attacker notices that he is to stop.
const TICK: Duration = Duration::from_millis(50);
/// Longest datagram that is looked at, in bytes.
const LONGEST: usize = 2048;

/// What an attacker does with checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Tells every sender all that looks like a proof and is none: its own request, an answer without integrity, one
    /// under another pair's key, one for another transaction; and repeats every genuine check, from his own
    /// address, to everybody else who ever sent one.
    Deceives,
    /// Carries checks and their answers to the other side, so that the path through him is truly proven, and swallows
    /// everything else.
    CarriesChecksOnly,
}

/// A UDP socket that is in the way of checks.
#[derive(Debug)]
pub struct Attacker {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

/// What came to an attacker.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Who sent checks.
    pub victims: BTreeSet<SocketAddr>,
    /// Checks, each as it came.
    pub checks: Vec<Vec<u8>>,
    /// How many answers came, to those that were repeated or carried.
    pub answers: usize,
    /// How many datagrams came that are none of wireplug's: WireGuard's.
    pub others: usize,
}

impl Attacker {
    /// Begins to lie in wait on a host's port.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start(host: &Host, port: u16, manner: Manner) -> Result<Self> {
        let address = SocketAddr::new(host.addresses()[0], port);
        let socket = host.udp(address)?;
        socket.set_read_timeout(Some(TICK)).map_err(failed("set a timeout for the attacker"))?;
        let stranger = stranger()?;
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || lie_in_wait(&socket, &shared, &stranger, manner))
        };
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where he is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of his was printed; the test judges by what he saw.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pair that nobody in the lab belongs to.
fn stranger() -> Result<Pair> {
    /// Curve25519's base point, which is the public key of the private key 1 (RFC 7748 section 4.1).
    const BASE_POINT: [u8; 32] = {
        let mut point = [0; 32];
        point[0] = 9;
        point
    };
    Pair::derive(&PrivateKey::from_bytes(crate::random()), &PublicKey::from_bytes(BASE_POINT))
        .map_err(|error| LabError::unexpected(format!("no pair for the attacker: {error}")))
}

fn lie_in_wait(socket: &UdpSocket, shared: &Shared, stranger: &Pair, manner: Manner) {
    let mut buffer = [0; LONGEST];
    // What cannot be sent is lost, as it may be anywhere.
    let send = |payload: &[u8], to| drop(socket.send_to(payload, to));
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let payload = &buffer[..length];
        let what = stun::classify(payload);
        let others = shared.seen().note(what, payload, from);
        match (manner, what) {
            (Manner::Deceives, Incoming::CheckRequest { transaction, .. }) => {
                for lie in lies(stranger, transaction, from, payload) {
                    send(&lie, from);
                }
                for victim in others {
                    send(payload, victim);
                }
            }
            (Manner::CarriesChecksOnly, Incoming::CheckRequest { .. } | Incoming::Response { .. }) => {
                for victim in others {
                    send(payload, victim);
                }
            }
            (_, Incoming::Response { .. } | Incoming::Probe { .. } | Incoming::Other) => {}
        }
    }
}

impl Seen {
    /// Notes what came from whom; gives everybody else who ever sent a check.
    fn note(&mut self, what: Incoming, payload: &[u8], from: SocketAddr) -> Vec<SocketAddr> {
        match what {
            Incoming::CheckRequest { .. } => {
                self.checks.push(payload.to_vec());
                self.victims.insert(from);
            }
            Incoming::Response { .. } => self.answers += 1,
            Incoming::Probe { .. } => {}
            Incoming::Other => self.others += 1,
        }
        self.victims.iter().copied().filter(|victim| *victim != from).collect()
    }
}

/// What looks like the answer to a check.
fn lies(stranger: &Pair, asked: TransactionId, from: SocketAddr, request: &[u8]) -> Vec<Vec<u8>> {
    let mut lies = vec![
        request.to_vec(),
        stranger.check_response(asked, from),
        stranger.check_response(TransactionId::from_bytes(crate::random()), from),
    ];
    if let binding::Received::Request(plain) =
        binding::receive(&binding::request(asked, None, binding::Change::None))
    {
        lies.push(plain.response(from, None, None));
    }
    if let binding::Received::Refuse(refusal) = binding::receive(request) {
        lies.push(refusal);
    }
    lies
}
