//! Pings with exact times, made by this process inside a host's namespace.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};

use crate::cmd::patient;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::namespace::Namespace;
use crate::wireguard::Wireguard;

/// ICMP echo request, RFC 792; its answer is type 0.
const ECHO_REQUEST: u8 = 8;
/// `ICMPv6` echo request, RFC 4443 section 4.1.
const ECHO_REQUEST_V6: u8 = 128;

/// Pings to one address.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// Where to.
    pub to: IpAddr,
    /// How many at most.
    pub count: u16,
    /// The time from one to the next.
    pub interval: Duration,
    /// How long to wait for answers after the last one.
    pub linger: Duration,
}

impl Ping {
    /// `count` pings at 10 ms.
    pub fn fast(to: impl Into<IpAddr>, count: u16) -> Self {
        Self {
            to: to.into(),
            count,
            interval: Duration::from_millis(10),
            linger: patient(Duration::from_secs(1)),
        }
    }
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Which ping, from 0.
    pub sequence: u16,
    /// From sending to the answer.
    pub round_trip: Duration,
    /// The wall clock when it came.
    pub at: SystemTime,
}

/// What came of pings.
#[derive(Clone, Debug, Default)]
pub struct Pings {
    /// How many were sent.
    pub sent: u16,
    /// The answers in the order in which they came.
    pub answers: Vec<Answer>,
}

impl Pings {
    /// When the first answer came.
    pub fn first_answer(&self) -> Option<SystemTime> {
        self.answers.first().map(|answer| answer.at)
    }

    /// How many were not answered.
    pub fn lost(&self) -> usize {
        usize::from(self.sent).saturating_sub(self.answers.len())
    }

    /// How many in a row were not answered, at most.
    pub fn longest_gap(&self) -> u16 {
        let mut answered: Vec<u16> = self.answers.iter().map(|answer| answer.sequence).collect();
        answered.sort_unstable();
        let mut next = 0;
        let gaps = answered.into_iter().chain([self.sent]).map(|sequence| {
            let gap = sequence.saturating_sub(next);
            next = sequence + 1;
            gap
        });
        gaps.max().unwrap_or(0)
    }
}

/// Pings that run beside the test. Dropping this ends them.
#[derive(Debug)]
pub struct Pinging {
    shared: StopOnDrop,
    thread: JoinHandle<Result<Pings>>,
}

/// Ends pings for whose answers nobody waits any more: what was measured by them has failed.
#[derive(Debug)]
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// What pings in the background and the test share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU16,
    /// One more than the latest ping that was answered.
    answered: AtomicU16,
}

impl Host {
    /// Pings and waits for the answers.
    ///
    /// # Errors
    /// When no ICMP socket can be made.
    pub fn ping(&self, ping: Ping) -> Result<Pings> {
        once(self.namespace(), ping)
    }

    /// Pings in the background until the first answer. With `gate`, a ping is sent only while the
    /// interface has an endpoint: as the kernel's WireGuard does by itself, which refuses packets without one.
    /// (wireguard-go instead spends a handshake on nothing, and then its 5 s limiter rules.)
    ///
    /// # Errors
    /// When no ICMP socket can be made.
    pub fn ping_until_answered(&self, ping: Ping, gate: Option<&Wireguard>) -> Result<Pinging> {
        self.in_background(ping, Until::Answered, gate)
    }

    /// Pings in the background until it is told to stop.
    ///
    /// # Errors
    /// When no ICMP socket can be made.
    pub fn keep_pinging(&self, ping: Ping) -> Result<Pinging> {
        self.in_background(ping, Until::Stopped, None)
    }

    fn in_background(&self, ping: Ping, until: Until, gate: Option<&Wireguard>) -> Result<Pinging> {
        let socket = icmp(self.namespace(), ping.to)?;
        let shared = Arc::new(Shared::default());
        let gate = gate.filter(|wireguard| wireguard.process().is_some()).cloned();
        let thread = {
            let shared = Arc::clone(&shared);
            let open = move || gate.as_ref().is_none_or(Wireguard::has_endpoint);
            thread::spawn(move || run(&socket, ping, &shared, until, &open))
        };
        Ok(Pinging { shared: StopOnDrop(shared), thread })
    }
}

/// When pings in the background end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// With the first answer.
    Answered,
    /// When told so, or when all were sent.
    Stopped,
}

/// Pings from a namespace and waits for the answers.
pub(crate) fn once(namespace: &Namespace, ping: Ping) -> Result<Pings> {
    run(&icmp(namespace, ping.to)?, ping, &Shared::default(), Until::Stopped, &|| true)
}

fn icmp(namespace: &Namespace, to: IpAddr) -> Result<UdpSocket> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    namespace.enter(|| {
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))
            .map_err(LabError::io(format!("open an ICMP socket in {}", namespace.name())))?;
        Ok(socket.into())
    })
}

impl Pinging {
    /// Waits until the first answer or the last ping.
    ///
    /// # Errors
    /// When sending failed.
    pub fn wait(self) -> Result<Pings> {
        let Self { shared, thread } = self;
        let pings = thread.join();
        drop(shared);
        pings.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether it has ended: answered, or out of pings.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it and returns what came.
    ///
    /// # Errors
    /// When sending failed.
    pub fn stop(self) -> Result<Pings> {
        self.shared.0.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// How many were sent so far.
    pub fn sent(&self) -> u16 {
        self.shared.0.sent.load(Ordering::Relaxed)
    }

    /// Whether one was answered that was sent after the first `sent`.
    pub fn is_answered_after(&self, sent: u16) -> bool {
        self.shared.0.answered.load(Ordering::Relaxed) > sent
    }
}

fn run(
    socket: &UdpSocket,
    ping: Ping,
    shared: &Shared,
    until: Until,
    open: &dyn Fn() -> bool,
) -> Result<Pings> {
    let to = SocketAddr::new(ping.to, 0);
    let mut sent_at = Vec::with_capacity(usize::from(ping.count));
    let mut pings = Pings::default();
    let mut next = Instant::now();
    // Ticks without an open gate count too, so that `count` bounds the whole time.
    let mut ticks = 0;
    let mut give_up = None;
    loop {
        let now = Instant::now();
        if give_up.is_none() && shared.stop.load(Ordering::Relaxed) {
            // Those that are on the way may still be answered.
            ticks = ping.count;
            give_up = Some(now + if until == Until::Answered { Duration::ZERO } else { ping.linger });
        }
        if ticks < ping.count && now >= next {
            if open() {
                let sequence = u16::try_from(sent_at.len()).unwrap_or(u16::MAX);
                sent_at.push(Instant::now());
                shared.sent.store(sequence.saturating_add(1), Ordering::Relaxed);
                // A refused packet (no route, no endpoint yet) is a lost one.
                let _ = socket.send_to(&echo_request(ping.to, sequence), to);
            }
            ticks += 1;
            next += ping.interval;
            if ticks == ping.count {
                give_up = Some(Instant::now() + ping.linger);
            }
        }
        let wake = give_up.unwrap_or(next);
        let wait = wake.saturating_duration_since(Instant::now());
        if give_up.is_some() && wait.is_zero() {
            break;
        }
        let wait = wait.clamp(Duration::from_micros(100), Duration::from_millis(50));
        socket.set_read_timeout(Some(wait)).map_err(LabError::io("wait for a ping's answer"))?;
        let mut answer = [0; 128];
        let Ok(length) = socket.recv(&mut answer) else { continue };
        if let Some(sequence) = echo_reply(&answer[..length])
            && let Some(sent) = sent_at.get(usize::from(sequence))
        {
            shared.answered.fetch_max(sequence.saturating_add(1), Ordering::Relaxed);
            pings.answers.push(Answer { sequence, round_trip: sent.elapsed(), at: SystemTime::now() });
            let complete = ticks == ping.count && pings.answers.len() == sent_at.len();
            if until == Until::Answered || complete {
                break;
            }
        }
    }
    pings.sent = u16::try_from(sent_at.len()).unwrap_or(u16::MAX);
    Ok(pings)
}

/// An echo request; the kernel fills in identifier and checksum.
fn echo_request(to: IpAddr, sequence: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = if to.is_ipv4() { ECHO_REQUEST } else { ECHO_REQUEST_V6 };
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// The sequence number of an echo reply; the kernel gives this socket only answers to its own.
fn echo_reply(packet: &[u8]) -> Option<u16> {
    // Type 0 (RFC 792) and 129 (RFC 4443 section 4.2).
    matches!(packet.first(), Some(0 | 129)).then_some(())?;
    Some(u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]))
}
