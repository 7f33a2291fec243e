//! What is to be written to a relay's WebSocket, and whose answers are awaited. Without IO, but for the sockets it hands
//! out; time is a parameter.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use wireplug_core::TransactionId;
use wireplug_proto::relay::{Credential, Frame, data_header};

use super::RelayEvent;

/// Packets that wait to be written; when there are more, the oldest is dropped. Some ten milliseconds at 100 Mbit/s: more
/// would be delay rather than throughput.
const MAX_PACKETS: usize = 128;
/// How long the relay may take to answer a bind before the connection counts as dead: longer than TCP needs to repair a
/// loss.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Checks that wait for one answer; the oldest give way.
const MAX_CHECKS: usize = 16;

/// All channels of one connection, which outlive it.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: BTreeMap<u16, Channel>,
    closed: VecDeque<u16>,
    packets: VecDeque<Vec<u8>>,
    dropped: u64,
    connected: bool,
}

#[derive(Debug)]
struct Channel {
    credential: Credential,
    socket: Arc<UdpSocket>,
    wireguard: SocketAddr,
    bind: Bind,
    checks: VecDeque<TransactionId>,
}

/// How it stands with the bind of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bind {
    /// It is to be said.
    Due,
    /// It was said, first at this time.
    Asked(Instant),
    /// It was answered.
    Done,
}

impl Channels {
    pub(super) fn open(
        &mut self,
        channel: u16,
        credential: Credential,
        socket: Arc<UdpSocket>,
        listen_port: u16,
    ) {
        let wireguard = SocketAddr::from((Ipv4Addr::LOCALHOST, listen_port));
        let checks = VecDeque::new();
        self.closed.retain(|closed| *closed != channel);
        self.open.insert(channel, Channel { credential, socket, wireguard, bind: Bind::Due, checks });
    }

    pub(super) fn credential(&mut self, channel: u16, credential: Credential) {
        if let Some(known) = self.open.get_mut(&channel)
            && known.credential != credential
        {
            known.credential = credential;
            known.bind = Bind::Due;
        }
    }

    /// Has a channel bound once more.
    pub(super) fn bind(&mut self, channel: u16, check: Option<TransactionId>) {
        let Some(known) = self.open.get_mut(&channel) else { return };
        if known.checks.len() >= MAX_CHECKS {
            known.checks.pop_front();
        }
        known.checks.extend(check);
        // One at a time: the answer to it is as good for later checks, and nothing queues up on a slow connection.
        if known.bind == Bind::Done {
            known.bind = Bind::Due;
        }
    }

    pub(super) fn close(&mut self, channel: u16) {
        if self.open.remove(&channel).is_some() && self.connected {
            self.closed.push_back(channel);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A packet of WireGuard's. Without a connection it is dropped, as on any path that is down.
    pub(super) fn packet(&mut self, channel: u16, packet: &[u8]) {
        if !self.connected || !self.open.contains_key(&channel) {
            return;
        }
        if self.packets.len() >= MAX_PACKETS {
            self.packets.pop_front();
            self.dropped += 1;
        }
        let mut frame = Vec::with_capacity(packet.len() + 3);
        frame.extend(data_header(channel));
        frame.extend_from_slice(packet);
        self.packets.push_back(frame);
    }

    /// There is a connection: everything is bound over it.
    pub(super) fn connected(&mut self) {
        self.connected = true;
        self.closed.clear();
        self.packets.clear();
        for channel in self.open.values_mut() {
            channel.bind = Bind::Due;
        }
    }

    /// There is none any more. Returns how many packets were dropped because they were too many.
    pub(super) fn disconnected(&mut self) -> u64 {
        self.connected = false;
        self.packets.clear();
        std::mem::take(&mut self.dropped)
    }

    /// The next frame to write: what is said of channels goes before packets.
    pub(super) fn next(&mut self, now: Instant) -> Option<Vec<u8>> {
        if let Some(channel) = self.closed.pop_front() {
            return Some(Frame::Unbind { channel }.encode());
        }
        if let Some((channel, known)) = self.open.iter_mut().find(|(_, known)| known.bind == Bind::Due) {
            known.bind = Bind::Asked(now);
            let bind = Frame::Bind { channel: *channel, credential: known.credential.clone() };
            return Some(bind.encode());
        }
        self.packets.pop_front()
    }

    /// When the connection counts as dead if nothing is answered.
    pub(super) fn dead_at(&self) -> Option<Instant> {
        let asked = self.open.values().filter_map(|channel| match channel.bind {
            Bind::Asked(at) => Some(at + ANSWER_WITHIN),
            Bind::Due | Bind::Done => None,
        });
        asked.min()
    }

    /// Takes a frame. Returns what to tell, and gives WireGuard its packets.
    pub(super) fn heard(&mut self, frame: &Frame<'_>) -> Option<RelayEvent> {
        match frame {
            Frame::Bound { channel, bound } => {
                let known = self.open.get_mut(channel)?;
                let Bind::Asked(_) = known.bind else { return None };
                known.bind = Bind::Done;
                let checks = known.checks.drain(..).collect();
                Some(RelayEvent::Bound { channel: *channel, checks, other_side: bound.other_side })
            }
            Frame::Refused { channel, refusal } => {
                let known = self.open.get_mut(channel)?;
                let Bind::Asked(_) = known.bind else { return None };
                known.bind = Bind::Done;
                known.checks.clear();
                Some(RelayEvent::Refused { channel: *channel, refusal: *refusal })
            }
            Frame::Data { channel, packet } => {
                let known = self.open.get(channel)?;
                // Full buffers lose packets, as everywhere.
                let _ = known.socket.try_send_to(packet, known.wireguard);
                None
            }
            Frame::Bind { .. } | Frame::Unbind { .. } => None,
        }
    }
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;
