//! The load: one thread that sends what is due and receives what has come, in turn, without ever sleeping.
//!
//! No segmentation offload: each datagram is one of its own for the kernel, as from many different machines.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};
use wireplug_lab::LoadReport;

use crate::ends::Way;
use crate::machine;
use crate::packet::{LEAST, Mark, READ};

/// Datagrams sent or received at a time at most. What is due comes one by one at the rates measured; more is due only
/// when the load was held up, and then it does not send it as one large burst.
const BATCH: usize = 32;

/// How late the load may be, in seconds: what was due before is not sent.
const LATEST: f64 = 0.001;

/// Sent at the same rate before the window, so that caches are warm and neighbours known.
const WARM_UP: Duration = Duration::from_millis(200);

/// How long the last datagrams may take.
const DRAIN: Duration = Duration::from_millis(200);

/// What is measured in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Datagrams a second over all pairs; none: as many as can be sent.
    pub(crate) rate: Option<f64>,
    /// How long.
    pub(crate) duration: Duration,
    /// The process whose CPU time counts.
    pub(crate) server: Option<i32>,
    /// Whether the CPU time of sending counts, which costs some itself.
    pub(crate) time_sending: bool,
}

/// Pairs with traffic between their ends.
#[derive(Debug)]
pub(crate) struct Traffic {
    ways: Vec<Way>,
    /// Datagrams to be, [`BATCH`] of them one after another.
    outgoing: Vec<u8>,
    /// Bytes of one, with the prefix.
    len: usize,
    ready: Epoll,
    epoch: Instant,
    window: u32,
    /// The pair that sends next.
    next: usize,
    /// Datagrams of each pair so far.
    counters: Vec<u64>,
    tally: Tally,
}

/// What was counted in a window.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    unsent: u64,
    received: u64,
    reordered: u64,
    sending: Duration,
    /// The highest counter received of each pair.
    highest: Vec<u64>,
    latencies: Vec<u64>,
}

impl Traffic {
    /// Traffic over `ways`, of datagrams with `size` bytes.
    pub(crate) fn new(ways: Vec<Way>, size: usize) -> Result<Self> {
        // All pairs are reached in the same way, so all prefixes are equal in length.
        let len = ways.first().context("no pairs")?.prefix.len() + size.max(LEAST);
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        for (index, way) in ways.iter().enumerate() {
            ready
                .add(&way.to, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))
                .context("cannot watch a socket")?;
        }
        Ok(Self {
            outgoing: vec![0; len * BATCH],
            len,
            ready,
            epoch: Instant::now(),
            window: 0,
            next: 0,
            counters: vec![0; ways.len()],
            tally: Tally::default(),
            ways,
        })
    }

    /// Runs one window, with a warm-up before it.
    pub(crate) fn measure(&mut self, window: &Window) -> Result<LoadReport> {
        self.run(&Window { duration: WARM_UP, time_sending: false, ..*window })?;
        let cpu = || window.server.map(machine::cpu_time).transpose();
        let before = cpu()?;
        let seconds = self.run(window)?;
        let used = cpu()?.zip(before).map(|(after, before)| nanoseconds(after.saturating_sub(before)));
        let tally = &mut self.tally;
        tally.latencies.sort_unstable();
        let share =
            |hundredths: usize| tally.latencies.get(tally.latencies.len() * hundredths / 100).copied();
        Ok(LoadReport {
            offered: window.rate,
            seconds: seconds.as_secs_f64(),
            sent: tally.sent,
            unsent: tally.unsent,
            received: tally.received,
            reordered: tally.reordered,
            server_cpu_ns: used,
            sending_ns: window.time_sending.then(|| nanoseconds(tally.sending)),
            latency_ns: share(50),
            latency_p99_ns: share(99),
        })
    }

    /// Sends for the window's time and waits for the last datagrams; returns how long was sent.
    fn run(&mut self, window: &Window) -> Result<Duration> {
        self.window += 1;
        self.tally = Tally { highest: vec![0; self.ways.len()], ..Tally::default() };
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            if elapsed >= window.duration {
                break;
            }
            let due = self.due(window.rate, elapsed);
            if due > 0 {
                self.send(due.min(BATCH), window.time_sending)?;
            }
            self.receive()?;
        }
        let sent_for = start.elapsed();
        let mut last = Instant::now();
        while self.tally.received < self.tally.sent && last.elapsed() < DRAIN {
            if self.receive()? > 0 {
                last = Instant::now();
            }
        }
        Ok(sent_for)
    }

    /// How many datagrams are due. Those that the load is too late for are counted and left out.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rounded down, not negative
    fn due(&mut self, rate: Option<f64>, elapsed: Duration) -> usize {
        let Some(rate) = rate else { return BATCH };
        let due = (elapsed.as_secs_f64() * rate) as u64;
        let behind = due.saturating_sub(self.tally.sent + self.tally.unsent);
        let allowed = ((rate * LATEST) as u64).max(1);
        let late = behind.saturating_sub(allowed);
        self.tally.unsent += late;
        usize::try_from(behind - late).unwrap_or(BATCH)
    }

    /// Sends `count` datagrams, one pair after another.
    fn send(&mut self, count: usize, timed: bool) -> Result<()> {
        let now = self.now();
        // Datagrams of one pair go out by one call, others one by one: each pair has its own socket.
        let each = if self.ways.len() == 1 { count } else { 1 };
        for _ in 0..count / each {
            let pair = self.next;
            self.next = (self.next + 1) % self.ways.len();
            let Self { ways, outgoing, len, counters, window, .. } = self;
            let way = &ways[pair];
            for datagram in outgoing.chunks_exact_mut(*len).take(each) {
                let (prefix, datagram) = datagram.split_at_mut(way.prefix.len());
                prefix.copy_from_slice(&way.prefix);
                counters[pair] += 1;
                // At most a few pairs; the number is an index into them.
                let number = u32::try_from(pair).unwrap_or(u32::MAX);
                Mark { pair: number, counter: counters[pair], sent: now, window: *window }.write(datagram);
            }
            let before = timed.then(machine::own_cpu_time);
            let sent = send_all(way, outgoing.chunks_exact(*len).take(each))?;
            if let Some(before) = before {
                self.tally.sending += machine::own_cpu_time().saturating_sub(before);
            }
            self.tally.sent += sent as u64;
            self.tally.unsent += (each - sent) as u64;
        }
        Ok(())
    }

    /// Receives what is there, of each pair a batch; returns how many datagrams.
    fn receive(&mut self) -> Result<usize> {
        if self.ways.len() == 1 {
            return self.receive_of(0);
        }
        let mut events = [EpollEvent::empty(); BATCH];
        let count = self.ready.wait(&mut events, EpollTimeout::ZERO).context("cannot wait for datagrams")?;
        let mut received = 0;
        for event in &events[..count] {
            received += self.receive_of(usize::try_from(event.data())?)?;
        }
        Ok(received)
    }

    fn receive_of(&mut self, pair: usize) -> Result<usize> {
        let way = &self.ways[pair];
        let mut buffers = [[0; READ]; BATCH];
        let count = {
            let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let result =
                recvmmsg(way.to.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None);
            match result {
                Ok(received) => received.count(),
                // The last is an ICMP error of an earlier datagram: a server that is gone, and a loss that is counted.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => 0,
                Err(errno) => return Err(errno).context("cannot receive"),
            }
        };
        let now = self.now();
        let marks = buffers[..count].iter().filter_map(|buffer| Mark::read(buffer.get(way.skip..)?));
        for mark in marks {
            if mark.window == self.window {
                self.tally.count(mark, now);
            }
        }
        Ok(count)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

impl Tally {
    fn count(&mut self, mark: Mark, now: u64) {
        self.received += 1;
        self.latencies.push(now.saturating_sub(mark.sent));
        let Some(highest) = usize::try_from(mark.pair).ok().and_then(|pair| self.highest.get_mut(pair))
        else {
            return;
        };
        if mark.counter < *highest {
            self.reordered += 1;
        } else {
            *highest = mark.counter;
        }
    }
}

/// Sends datagrams to the way's other end; returns how many the kernel took.
fn send_all<'a>(way: &Way, datagrams: impl Iterator<Item = &'a [u8]>) -> Result<usize> {
    let slices: Vec<_> = datagrams.map(|datagram| [IoSlice::new(datagram)]).collect();
    let addresses: [Option<()>; BATCH] = [None; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
    let flags = MsgFlags::MSG_DONTWAIT;
    match sendmmsg(way.from.as_raw_fd(), &mut headers, slices.iter(), &addresses[..slices.len()], [], flags) {
        Ok(sent) => Ok(sent.count()),
        Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR | Errno::ECONNREFUSED) => Ok(0),
        Err(errno) => Err(errno).context("cannot send"),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    // 64 bits hold 584 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
