//! The relay's UDP sockets and the threads that forward.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use wireplug_net::{BatchSocket, Poller, Waker};
use wireplug_proto::wireguard;

use super::counters::{Dropped, Tally};
use super::state::Relay;
use super::table::Hop;
use super::terms::TlsBinding;
use super::worker::Worker;
use crate::udp::has_no_ipv6;

/// Bytes of the sockets' buffers: 20 ms of a gigabit per second at one port. Used only while packets wait.
const BUFFER: usize = 4 << 20;
/// What a full-sized packet takes of a receive buffer, as Linux counts.
const PACKET: usize = 2304;
/// Packets that a busy thread would like to find in a round.
const WANTED: u16 = 160;

/// The relay's sockets and threads; the threads end when it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    relay: Arc<Relay>,
    /// Of the first thread; others may send from them too.
    sockets: Arc<[BatchSocket]>,
    stop: Arc<AtomicBool>,
    threads: Vec<(Waker, JoinHandle<()>)>,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A relay port cannot be had.
    #[error("cannot forward on UDP {address}: {source}")]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A forwarding thread cannot be started.
    #[error("cannot start the relay's forwarding: {0}")]
    Start(io::Error),
}

impl Forwarder {
    /// Binds every port at every address (`::` serves IPv4 too, where the host has it) and starts the threads.
    ///
    /// # Errors
    /// [`ForwardError`] names the address that is the trouble.
    pub fn start(
        relay: Arc<Relay>,
        addresses: &[IpAddr],
        ports: RangeInclusive<u16>,
        threads: usize,
    ) -> Result<Self, ForwardError> {
        let threads = threads.max(1);
        let mut shares: Vec<Vec<BatchSocket>> = (0..threads).map(|_| Vec::new()).collect();
        let mut wanted = WANTED;
        for ip in families(addresses) {
            for port in ports.clone() {
                let address = SocketAddr::new(ip, port);
                let group = match BatchSocket::bind_group(address, threads) {
                    Err(error) if ip.is_ipv6() && ip.is_unspecified() && has_no_ipv6(&error) => break,
                    bound => bound.map_err(|source| ForwardError::Bind { address, source })?,
                };
                for (share, mut socket) in shares.iter_mut().zip(group) {
                    let buffer = socket.set_buffers(BUFFER).map_err(ForwardError::Start)?;
                    // What a socket can keep for sure, with room for twice as much.
                    let kept = u16::try_from(buffer / PACKET / 4).unwrap_or(u16::MAX);
                    wanted = wanted.min(kept);
                    share.push(socket);
                }
            }
        }
        if shares[0].len() > usize::from(u16::MAX) {
            return Err(ForwardError::Start(io::Error::other("more than 65535 relay ports and addresses")));
        }
        let shares: Vec<Arc<[BatchSocket]>> = shares.into_iter().map(Arc::from).collect();
        let mut this = Self { relay, sockets: shares[0].clone(), stop: Arc::default(), threads: Vec::new() };
        for (number, sockets) in shares.into_iter().enumerate() {
            this.spawn(number, sockets, wanted).map_err(ForwardError::Start)?;
        }
        Ok(this)
    }

    /// The relay itself.
    pub const fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    /// Where it forwards: every address and port.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(BatchSocket::local_addr)
    }

    /// A packet came over TLS. Never waits.
    pub fn from_tls(&self, now: Instant, binding: TlsBinding, packet: &[u8]) {
        let counts = self.relay.own_counts();
        let mut tally = Tally::default();
        tally.add(packet.len());
        if wireguard::kind(packet).is_none() {
            return counts.dropped(Dropped::Shape, tally);
        }
        let table = self.relay.table();
        let (since, meter) = (self.relay.since(now), self.relay.meter());
        let hop = match table.route_tls(binding.end, binding.number, packet.len(), since, meter) {
            Ok(Hop::Udp(hop)) => hop,
            Ok(Hop::Tls(leg)) => {
                counts.forwarded_tls(tally);
                let lost = leg.queue.push_packet(leg.channel, packet);
                return counts.dropped(Dropped::TlsQueue, lost);
            }
            Err(why) => return counts.dropped(why, tally),
        };
        drop(table);
        let Some(socket) = self.sockets.get(usize::from(hop.socket)) else { return };
        match socket.send_one(packet, hop.path.source(), Some(hop.path.relay().ip())) {
            Ok(()) => counts.forwarded_udp(tally),
            Err(_) => counts.dropped(Dropped::System, tally),
        }
    }

    /// Calls [`Relay::tick`] when it is due, for ever.
    pub async fn serve_time(&self) {
        loop {
            match self.relay.tick(tokio::time::Instant::now().into_std()) {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => self.relay.awake().await,
            }
        }
    }

    fn spawn(&mut self, number: usize, sockets: Arc<[BatchSocket]>, wanted: u16) -> io::Result<()> {
        let poller = Poller::new()?;
        for (index, socket) in sockets.iter().enumerate() {
            poller.add(socket, index)?;
        }
        let waker = poller.waker();
        let (relay, stop) = (self.relay.clone(), self.stop.clone());
        // The worker's memory has pointers in it, and so is made on its own thread.
        let thread = std::thread::Builder::new()
            .name(format!("relay-{number}"))
            .spawn(move || Worker::new(relay, sockets, stop).run(poller, wanted))?;
        self.threads.push((waker, thread));
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (waker, _) in &self.threads {
            waker.wake();
        }
        for (_, thread) in self.threads.drain(..) {
            thread.join().ok(); // a panic was printed when it happened
        }
    }
}

/// The addresses to bind, one family each.
fn families(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in addresses {
        let v4 = (ip.is_ipv6() && ip.is_unspecified()).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        for ip in [Some(*ip), v4].into_iter().flatten() {
            if !all.contains(&ip) {
                all.push(ip);
            }
        }
    }
    all
}
