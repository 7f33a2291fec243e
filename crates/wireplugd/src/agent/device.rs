//! The task that owns the WireGuard device: reads it, updates it, and keeps the record of our keepalives.
//!
//! It does one thing after another, so that a read that follows an update sees it, and it never holds up the
//! event loop.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tracing::{debug, warn};
use wireplug_core::scheduler::{DeviceView, Handshake, Keepalive, PeerView, Stimulus};
use wireplug_core::{Endpoint, PublicKey};
use wireplug_net::{Backend, Device, DeviceError, DeviceState, PeerUpdate, nudge};

use crate::record::{Keepalives, RecordFile};

/// Updates that are recorded together: each record has all peers in it. More would keep a read waiting for longer.
const TOGETHER: usize = 64;

/// What the device's task is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Read it; answered by [`News`].
    Read,
    /// Change a peer.
    Update { peer: PublicKey, endpoint: Option<Endpoint>, stimulus: Stimulus },
    /// Set every endpoint once more, as it is, where WireGuard would otherwise go on sending from an address of before.
    Refresh,
    /// Give back the keepalives that are ours, and end.
    Finish,
}

/// What the device's task has to say.
pub(super) enum News {
    /// The device as it is, and the same as the scheduler wants it.
    Read(Box<DeviceState>, DeviceView),
    /// It could not be read.
    Unreadable(DeviceError),
}

/// A device, and what of it is ours.
pub(super) struct DeviceTask {
    device: Device,
    record: RecordFile,
    keepalives: Keepalives,
    /// As last read.
    state: DeviceState,
}

impl DeviceTask {
    pub(super) fn new(device: Device, record: RecordFile, state: DeviceState) -> Self {
        let keepalives = record.read().unwrap_or_else(|error| {
            warn!(%error, "the record of our own keepalives is unreadable: those that are set now count as yours");
            Keepalives::default()
        });
        Self { device, record, keepalives, state }
    }

    /// The device as the scheduler sees it.
    pub(super) fn view(&self) -> DeviceView {
        view(&self.state, &self.keepalives, SystemTime::now())
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, news: mpsc::Sender<News>) {
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => match jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            match job {
                Job::Read => {
                    let news_now = match self.read().await {
                        Ok(()) => News::Read(Box::new(self.state.clone()), self.view()),
                        Err(error) => News::Unreadable(error),
                    };
                    // The event loop may have ended meanwhile; what is left to give back is not.
                    let _ = news.send(news_now).await;
                }
                Job::Update { peer, endpoint, stimulus } => {
                    let mut updates = vec![(peer, endpoint, stimulus)];
                    while updates.len() < TOGETHER
                        && next.is_none()
                        && let Ok(job) = jobs.try_recv()
                    {
                        match job {
                            Job::Update { peer, endpoint, stimulus } => {
                                updates.push((peer, endpoint, stimulus));
                            }
                            other @ (Job::Read | Job::Refresh | Job::Finish) => next = Some(other),
                        }
                    }
                    self.update_all(&updates).await;
                }
                Job::Refresh => {
                    if let Err(error) = self.refresh().await {
                        debug!(%error, "the endpoints were not set once more");
                    }
                }
                Job::Finish => return self.finish().await,
            }
        }
    }

    async fn read(&mut self) -> Result<(), DeviceError> {
        let state = self.device.read().await?;
        self.forget_what_is_gone(&state);
        self.state = state;
        Ok(())
    }

    /// Forgets that keepalives are ours of peers that somebody removed, even if they were added again since: another
    /// keepalive of the same length is the person's.
    fn forget_what_is_gone(&mut self, state: &DeviceState) {
        let counters = |state: &DeviceState| -> BTreeMap<PublicKey, (u64, u64)> {
            state.peers.iter().map(|peer| (peer.public_key, (peer.rx_bytes, peer.tx_bytes))).collect()
        };
        let (before, now) = (counters(&self.state), counters(state));
        let is_gone = |key: &PublicKey| match (before.get(key), now.get(key)) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((rx, tx)), Some((rx_now, tx_now))) => rx_now < rx || tx_now < tx,
        };
        let gone: Vec<_> = self.keepalives.peers().filter(|key| is_gone(key)).copied().collect();
        for key in &gone {
            self.keepalives.forget(key);
        }
        if !gone.is_empty()
            && let Err(error) = self.record.write(&self.keepalives)
        {
            debug!(%error, "the record of our keepalives has some of peers that are gone");
        }
    }

    /// Writes down which keepalives will be ours, once for all, and then changes one peer after another.
    async fn update_all(&mut self, updates: &[(PublicKey, Option<Endpoint>, Stimulus)]) {
        let mut news = false;
        for (peer, _, stimulus) in updates {
            if let Stimulus::TurnOn(seconds) | Stimulus::Adjust(seconds) = stimulus {
                news |= self.take_keepalive(*peer, *seconds);
            }
        }
        if news {
            self.write_record();
        }
        let mut set = BTreeMap::new();
        for (peer, endpoint, stimulus) in updates {
            let result = self.update(*peer, *endpoint, *stimulus).await;
            if let Stimulus::TurnOn(_) | Stimulus::Adjust(_) = stimulus {
                set.insert(*peer, result.is_ok());
            }
            if let Err(error) = result {
                warn!(peer = peer.short(), %error, "the endpoint was not set");
            }
        }
        // Of several for one peer the last one counts.
        let mut settled = false;
        for (peer, _) in set.into_iter().filter(|(_, done)| *done) {
            settled |= self.keepalives.settle(&peer);
        }
        if settled {
            self.write_record();
        }
    }

    async fn update(
        &self,
        peer: PublicKey,
        endpoint: Option<Endpoint>,
        stimulus: Stimulus,
    ) -> Result<(), DeviceError> {
        let plain = |keepalive| PeerUpdate { endpoint, keepalive };
        match stimulus {
            Stimulus::None => self.device.update_peer(peer, plain(None)).await,
            Stimulus::TurnOn(seconds) | Stimulus::Adjust(seconds) => {
                self.device.update_peer(peer, plain(Some(seconds))).await
            }
            Stimulus::Restart(seconds) => {
                self.device.update_peer(peer, plain(Some(0))).await?;
                self.device.update_peer(peer, PeerUpdate { endpoint: None, keepalive: Some(seconds) }).await
            }
            Stimulus::Packet => {
                self.device.update_peer(peer, plain(None)).await?;
                self.send_into_tunnel(peer);
                Ok(())
            }
        }
    }

    /// WireGuard remembers the address that it sends from with each endpoint. The kernel's lets go of one that this host
    /// has no longer; wireguard-go keeps it, and then sends nothing until the peer is heard.
    async fn refresh(&mut self) -> Result<(), DeviceError> {
        if self.device.backend() != Backend::Userspace {
            return Ok(());
        }
        self.read().await?;
        for peer in &self.state.peers {
            if peer.endpoint.is_some() {
                let same = PeerUpdate { endpoint: peer.endpoint, keepalive: None };
                self.device.update_peer(peer.public_key, same).await?;
            }
        }
        Ok(())
    }

    /// Notes that a keepalive is ours; says whether that must be written down before it is set.
    fn take_keepalive(&mut self, peer: PublicKey, seconds: u16) -> bool {
        let known = self.state.peers.iter().find(|known| known.public_key == peer);
        let current = known.and_then(|known| known.keepalive);
        let news = self.keepalives.take(peer, current, seconds);
        if let Some(known) = self.state.peers.iter_mut().find(|known| known.public_key == peer) {
            known.keepalive = Some(seconds);
        }
        news
    }

    fn write_record(&self) {
        if let Err(error) = self.record.write(&self.keepalives) {
            warn!(%error, "our keepalive cannot be recorded: after a crash it would count as yours");
        }
    }

    /// Has WireGuard send something, where the keepalive is not ours to use.
    fn send_into_tunnel(&self, peer: PublicKey) {
        let known = self.state.peers.iter().find(|known| known.public_key == peer);
        let Some(to) = known.and_then(|known| address_within(&known.allowed_ips)) else {
            debug!(peer = peer.short(), "no AllowedIPs: nothing can be sent to make WireGuard begin");
            return;
        };
        if let Err(error) = nudge(&self.device.name(), to) {
            debug!(peer = peer.short(), %error, "no packet into the tunnel: WireGuard begins with the next one of others");
        }
    }

    async fn finish(&mut self) {
        let current: Vec<_> = self.state.peers.iter().map(|peer| (peer.public_key, peer.keepalive)).collect();
        for (peer, keepalive) in current {
            let Some(seconds) = self.keepalives.give_back(&peer, keepalive) else { continue };
            let update = PeerUpdate { endpoint: None, keepalive: Some(seconds) };
            if let Err(error) = self.device.update_peer(peer, update).await {
                debug!(peer = peer.short(), %error, "the keepalive was not given back");
            }
        }
        if let Err(error) = self.record.write(&Keepalives::default()) {
            debug!(%error, "the record of our keepalives stays");
        }
    }
}

fn view(state: &DeviceState, ours: &Keepalives, now: SystemTime) -> DeviceView {
    let peers = state.peers.iter().map(|peer| {
        let keepalive = match peer.keepalive {
            None => Keepalive::Off,
            Some(seconds) if ours.is_ours(&peer.public_key, peer.keepalive) => Keepalive::Ours(seconds),
            Some(seconds) => Keepalive::Theirs(seconds),
        };
        let handshake = peer.last_handshake.map(|at| Handshake {
            stamp: at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()),
            // A clock that was set back since makes it fresh, not old: then other signs decide.
            age: now.duration_since(at).unwrap_or(Duration::ZERO),
        });
        PeerView {
            public_key: peer.public_key,
            endpoint: peer.endpoint,
            keepalive,
            handshake,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        }
    });
    DeviceView { listen_port: state.listen_port, peers: peers.collect() }
}

/// An address that WireGuard sends to this peer: the host of a full-length prefix, else one inside the longest.
fn address_within(allowed: &[(IpAddr, u8)]) -> Option<IpAddr> {
    let (network, prefix) = allowed.iter().max_by_key(|(ip, prefix)| match ip {
        IpAddr::V4(_) => u32::from(*prefix) + 96,
        IpAddr::V6(_) => u32::from(*prefix),
    })?;
    Some(match network {
        // For a default route any will do that is nobody's (RFC 5737, RFC 3849).
        IpAddr::V4(_) if *prefix == 0 => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) if *prefix == 0 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        IpAddr::V4(ip) if *prefix < 32 => Ipv4Addr::from(u32::from(*ip) | 1).into(),
        IpAddr::V6(ip) if *prefix < 128 => Ipv6Addr::from(u128::from(*ip) | 1).into(),
        whole => *whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_goes_to_the_peer_and_nobody_else() {
        let within = |allowed: &[(&str, u8)]| {
            let allowed: Vec<_> = allowed.iter().map(|(ip, prefix)| (ip.parse().unwrap(), *prefix)).collect();
            address_within(&allowed).map(|ip| ip.to_string())
        };
        assert_eq!(within(&[]), None);
        assert_eq!(within(&[("192.168.0.0", 16), ("10.77.0.2", 32)]).unwrap(), "10.77.0.2");
        assert_eq!(within(&[("fd00::2", 128)]).unwrap(), "fd00::2");
        assert_eq!(within(&[("192.168.7.0", 24)]).unwrap(), "192.168.7.1");
        assert_eq!(within(&[("0.0.0.0", 0)]).unwrap(), "192.0.2.1");
    }
}
