//! One forwarding thread: receives in rounds, looks up, and sends in batches.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wireplug_net::{BatchSocket, Message, Outcome, Part, Poller, Pool, SendScratch};
use wireplug_proto::{stun, wireguard};

use super::counters::{Counts, Dropped, Tally};
use super::pace::Pace;
use super::state::Relay;
use super::stun::{Answerer, Request};
use super::table::{Hop, Path, UdpHop};

/// Bursts of one round.
const ROUND: usize = 256;
/// Bursts of one socket in a round, so that a flood at one port leaves the others their turn.
const PER_SOCKET: usize = 192;
/// A pause after an error of waiting, so that one that stays costs no CPU.
const RETRY: Duration = Duration::from_millis(100);
/// Datagrams and bytes of the longest run (Linux `UDP_MAX_SEGMENTS` and the length of an IP packet).
const RUN: (u32, usize) = (64, 65_000);
/// The longest datagram that is worth trying in a run: what fits an Ethernet frame, by IPv4 and by IPv6.
const FITS: (usize, usize) = (1472, 1452);
/// How long a leg that could take no runs is sent none.
const APART: Duration = Duration::from_secs(60);

/// One thread's sockets and memory.
pub(super) struct Worker {
    relay: Arc<Relay>,
    sockets: Arc<[BatchSocket]>,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    answerer: Answerer,
    round: Round,
    /// Whether more may wait at a socket than was received in this round.
    more: bool,
    /// Legs to which runs do not fit.
    apart: HashSet<u32>,
    apart_until: Option<Instant>,
}

/// What one round has found.
struct Round {
    pool: Pool,
    /// The socket of each burst.
    origins: Vec<u16>,
    parts: Vec<Part>,
    planned: Vec<Planned>,
    asked: Vec<(usize, Part)>,
    messages: Vec<Message>,
    /// Socket and leg of each message.
    targets: Vec<(u16, u32)>,
    scratch: SendScratch,
}

/// A packet that goes on by UDP.
#[derive(Clone, Copy)]
struct Planned {
    hop: UdpHop,
    /// When it came, within the round.
    sequence: u32,
    part: Part,
}

/// Counters of a round, added up before others' caches are touched.
#[derive(Default)]
struct Tallies {
    tls: Tally,
    dropped: [Tally; Dropped::ALL.len()],
}

impl Worker {
    pub(super) fn new(relay: Arc<Relay>, sockets: Arc<[BatchSocket]>, stop: Arc<AtomicBool>) -> Self {
        let round = Round {
            pool: Pool::new(ROUND),
            origins: Vec::with_capacity(ROUND),
            parts: Vec::new(),
            planned: Vec::new(),
            asked: Vec::new(),
            messages: Vec::new(),
            targets: Vec::new(),
            scratch: SendScratch::new(),
        };
        let counts = relay.new_counts();
        let answerer = Answerer::new();
        Self {
            relay,
            sockets,
            stop,
            counts,
            answerer,
            round,
            more: false,
            apart: HashSet::new(),
            apart_until: None,
        }
    }

    /// Forwards until it is told to stop.
    pub(super) fn run(mut self, mut poller: Poller, wanted: u16) {
        let mut ready = Vec::new();
        let mut pace = Pace::new(wanted, Instant::now());
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = poller.wait(&mut ready, None) {
                tracing::warn!(%error, "the relay cannot wait for packets");
                std::thread::sleep(RETRY);
                continue;
            }
            self.more = false;
            let mut packets = 0;
            for number in &ready {
                packets += self.receive(*number);
            }
            packets += self.forward();
            // Who is behind does not rest.
            let rest = pace.rest(packets, Instant::now()).filter(|_| !self.more);
            if let Some(rest) = rest {
                std::thread::sleep(rest);
            }
        }
    }

    /// Receives from one socket; forwards what there is when there is no more room. Returns how many packets went.
    fn receive(&mut self, number: usize) -> u32 {
        let Some(socket) = self.sockets.get(number) else { return 0 };
        let round = &mut self.round;
        let limit = PER_SOCKET.min(round.pool.room());
        match round.pool.receive(socket, limit) {
            Ok(count) => {
                self.more |= count == limit;
                // Proof: sockets are numbered in 16 bits, which `Forwarder` sees to.
                #[expect(clippy::cast_possible_truncation)]
                round.origins.extend(std::iter::repeat_n(number as u16, count));
            }
            Err(error) => tracing::debug!(%error, "receiving on a relay port failed"),
        }
        if round.pool.room() < ROUND - PER_SOCKET { self.forward() } else { 0 }
    }

    /// Sends on all that was received. Returns how many packets there were.
    fn forward(&mut self) -> u32 {
        let now = Instant::now();
        let packets = self.plan(now);
        self.forget(now);
        self.send(now);
        self.answer(now);
        self.round.pool.clear();
        self.round.origins.clear();
        packets
    }

    /// Looks up where everything goes.
    fn plan(&mut self, now: Instant) -> u32 {
        let Self { relay, sockets, counts, round, .. } = self;
        round.planned.clear();
        round.asked.clear();
        let mut tallies = Tallies::default();
        let (table, meter, since) = (relay.table(), relay.meter(), relay.since(now));
        let mut packets = 0;
        for (index, (burst, origin)) in round.pool.bursts().iter().zip(&round.origins).enumerate() {
            let relay = SocketAddr::new(burst.to, sockets[usize::from(*origin)].local_addr().port());
            let path = Path::new(burst.from, relay);
            for part in burst.datagrams() {
                packets += 1;
                let payload = round.pool.bytes(part);
                if wireguard::kind(payload).is_none() {
                    if payload.get(stun::MAGIC_COOKIE_OFFSET..stun::MAGIC_COOKIE_OFFSET + 4)
                        == Some(&stun::MAGIC_COOKIE)
                    {
                        round.asked.push((index, part));
                    } else {
                        tallies.drop(Dropped::Shape, payload.len());
                    }
                    continue;
                }
                match table.route(&path, payload.len(), since, meter) {
                    Ok(Hop::Udp(hop)) => round.planned.push(Planned { hop, sequence: packets, part }),
                    Ok(Hop::Tls(leg)) => {
                        tallies.tls.add(payload.len());
                        let lost = leg.queue.push_packet(leg.channel, payload);
                        tallies.dropped[Dropped::TlsQueue as usize].append(lost);
                    }
                    Err(why) => tallies.drop(why, payload.len()),
                }
            }
        }
        drop(table);
        tallies.add_to(counts);
        packets
    }

    /// Sends the planned packets: all of one socket with one call, runs to one leg as one message.
    fn send(&mut self, now: Instant) {
        let Self { sockets, round, apart, .. } = self;
        let Round { planned, parts, messages, targets, .. } = round;
        planned.sort_unstable_by_key(|it| (it.hop.socket, it.hop.leg, it.sequence));
        parts.clear();
        messages.clear();
        targets.clear();
        let mut first = 0;
        while let Some(packet) = planned.get(first) {
            let hop = packet.hop;
            let runs = sockets[usize::from(hop.socket)].segments() && !apart.contains(&hop.leg);
            let count = if runs { run(&planned[first..]) } else { 1 };
            let chosen = &planned[first..first + count];
            // Proof: a round has at most ROUND bursts of 64 KiB, and so fewer than 2^32 packets of at most 2^16 bytes.
            #[expect(clippy::cast_possible_truncation)]
            messages.push(Message {
                to: hop.path.source(),
                from: hop.path.relay().ip(),
                first: parts.len() as u32,
                parts: count as u32,
                segment: (count > 1).then_some(packet.part.len() as u16),
                outcome: Outcome::Waiting,
            });
            targets.push((hop.socket, hop.leg));
            parts.extend(chosen.iter().map(|it| it.part));
            first += count;
        }
        let mut first = 0;
        while let Some((number, _)) = targets.get(first).copied() {
            let count = targets[first..].iter().take_while(|(other, _)| *other == number).count();
            let batch = &mut messages[first..first + count];
            sockets[usize::from(number)].send(&mut round.scratch, &round.pool, parts, batch);
            first += count;
        }
        self.count_sent(now);
    }

    fn count_sent(&mut self, now: Instant) {
        let (mut sent, mut lost) = (Tally::default(), Tally::default());
        for (message, (_, leg)) in self.round.messages.iter().zip(&self.round.targets) {
            let range = message.first as usize..(message.first + message.parts) as usize;
            let bytes: usize = self.round.parts[range].iter().map(Part::len).sum();
            let tally = if message.outcome == Outcome::Lost { &mut lost } else { &mut sent };
            tally.packets += u64::from(message.parts);
            tally.bytes += bytes as u64;
            if message.outcome == Outcome::SentApart {
                self.apart.insert(*leg);
                self.apart_until.get_or_insert(now + APART);
            }
        }
        self.counts.forwarded_udp(sent);
        self.counts.dropped(Dropped::System, lost);
    }

    /// Answers requests to bind.
    fn answer(&mut self, now: Instant) {
        let Self { relay, sockets, counts, answerer, round, .. } = self;
        for (index, part) in &round.asked {
            let (burst, number) = (round.pool.bursts()[*index], round.origins[*index]);
            let socket = &sockets[usize::from(number)];
            let payload = round.pool.bytes(*part);
            let at = SocketAddr::new(burst.to, socket.local_addr().port());
            let request = Request { source: burst.from, relay: at, socket: number, payload };
            let Some(answer) = answerer.answer(relay, counts, now, request) else { continue };
            // A full buffer loses the answer, as a network may; the client asks again.
            if let Err(error) = socket.send_one(&answer, burst.from, Some(burst.to)) {
                tracing::debug!(%error, "an answer of the relay could not be sent");
            }
        }
    }

    /// Forgets after a while which legs take no runs: the way there may be another now.
    fn forget(&mut self, now: Instant) {
        if self.apart_until.is_some_and(|until| until <= now) {
            self.apart.clear();
            self.apart_until = None;
        }
    }
}

impl Tallies {
    fn drop(&mut self, why: Dropped, bytes: usize) {
        self.dropped[why as usize].add(bytes);
    }

    fn add_to(&self, counts: &Counts) {
        counts.forwarded_tls(self.tls);
        for (why, tally) in Dropped::ALL.into_iter().zip(self.dropped) {
            counts.dropped(why, tally);
        }
    }
}

/// How many of the first packets can leave as one message: to one leg, of one size, the last may be shorter.
fn run(planned: &[Planned]) -> usize {
    let Some((head, tail)) = planned.split_first() else { return 0 };
    let size = head.part.len();
    let fits = if head.hop.path.source().is_ipv4() { FITS.0 } else { FITS.1 };
    if size > fits {
        return 1;
    }
    let (mut count, mut bytes) = (1, size);
    for packet in tail {
        let length = packet.part.len();
        if packet.hop.leg != head.hop.leg
            || length > size
            || bytes + length > RUN.1
            || count == RUN.0 as usize
        {
            break;
        }
        count += 1;
        bytes += length;
        if length < size {
            break;
        }
    }
    count
}
