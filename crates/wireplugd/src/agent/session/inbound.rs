//! What happened is told to the scheduler.

use std::io;

use futures_util::FutureExt as _;
use tracing::{debug, info, warn};
use wireplug_core::PublicKey;
use wireplug_core::scheduler::Input;
use wireplug_net::{Datagram, DeviceError, DeviceState};
use wireplug_proto::rendezvous::About;
use wireplug_proto::stun::{self, Incoming};
use wireplug_strategy::{Event, PortError};

use super::super::device::{Job, News};
use super::super::port::sender;
use super::{End, Session, now};
use crate::rendezvous::Event as Said;
use crate::strategies::Found;

/// Datagrams that are taken one after another, before anything else: each turn of the loop may send a check to every peer,
/// and with hundreds of them as many answers come. More would let a flood keep everything else waiting.
const TOGETHER: usize = 64;

impl Session<'_> {
    pub(super) fn strategy_said(&mut self, Found { strategy, generation, event }: Found) {
        let input = match event {
            Event::Found(candidate) => {
                debug!(%strategy, endpoint = %candidate.endpoint, evidence = candidate.evidence.words(), "candidate found");
                Input::Found { generation, candidate }
            }
            Event::Lost(endpoint) => Input::Lost { generation, strategy, endpoint },
            Event::Suggested { peer, candidate } => Input::Suggested { generation, peer, candidate },
            Event::Withdrawn { peer, endpoint } => Input::Withdrawn { generation, peer, strategy, endpoint },
            Event::Mapping(mapping) => {
                debug!(%strategy, ?mapping, "the NAT's kind");
                Input::Mapping { generation, mapping }
            }
            Event::Note(words) => {
                debug!(%strategy, words, "note");
                self.notes.insert(strategy, words);
                return;
            }
        };
        self.scheduler.handle(now(), input);
    }

    pub(super) fn device_news(&mut self, news: News) -> Option<End> {
        self.reading = false;
        match news {
            News::Unreadable(error) if is_gone(&error) => Some(End::Gone(error.to_string())),
            News::Unreadable(error) => {
                let words = error.to_string();
                if self.unreadable.as_ref() != Some(&words) {
                    warn!(%error, "the device cannot be read now");
                    self.unreadable = Some(words);
                }
                None
            }
            News::Read(state, view) => {
                self.unreadable = None;
                if state.public_key != self.state.public_key {
                    return Some(End::Gone("the interface has another private key".to_owned()));
                }
                if (state.ifindex, state.fwmark) != (self.state.ifindex, self.state.fwmark) {
                    return Some(End::Gone("the interface was made anew".to_owned()));
                }
                let keys =
                    |state: &DeviceState| state.peers.iter().map(|peer| peer.public_key).collect::<Vec<_>>();
                self.view += u64::from(keys(&state) != keys(&self.state));
                let port = std::mem::replace(&mut self.state, *state).listen_port;
                self.port.renumber(self.state.listen_port);
                let new = self.follow_peers();
                self.follow_legs();
                self.scheduler.handle(now(), Input::Device(view));
                if port != self.state.listen_port {
                    info!("WireGuard's port is another one");
                    self.network_is_new();
                }
                self.recall_candidates(&new);
                None
            }
        }
    }

    /// Joins the topics of peers that are new, which it gives, and leaves those of peers that are gone.
    pub(super) fn follow_peers(&mut self) -> Vec<PublicKey> {
        let peers = self.state.peers.iter().map(|peer| peer.public_key);
        let (new, left) = self.pairs.follow(&self.state.private_key, peers);
        for key in &new {
            if let Some(pair) = self.pairs.get(key) {
                self.servers.join(pair);
            }
        }
        if !left.is_empty() {
            let pairs = &self.pairs;
            self.relays.retain(|peer| pairs.get(peer).is_some());
        }
        for topic in left {
            self.servers.leave(topic);
        }
        new
    }

    pub(super) fn server_said(&mut self, server: usize, event: Said) {
        // What one said that the config does not name any more is of no interest.
        let Some(url) = self.servers.url(server).map(ToString::to_string) else { return };
        match event {
            Said::Up { token, stun } => {
                self.view += 1;
                self.refused.retain(|(of, ..)| *of != server);
                self.verifications.forget_server(server);
                if self.servers.up(server, token, stun) {
                    self.scheduler.handle(now(), Input::ServerUp);
                }
            }
            Said::Down { why, moved } => {
                self.view += 1;
                self.verifications.forget_server(server);
                if let Some(why) = self.servers.down(server, why, moved) {
                    self.scheduler.handle(now(), Input::ServerDown { why });
                }
            }
            Said::Offer { topic, sealed } => {
                let Some((peer, pair)) = self.pairs.of_topic(&topic) else { return };
                match pair.open(&sealed) {
                    Ok(offer) => {
                        debug!(peer = %self.peer_name(&peer), candidates = ?offer.candidates, mapping = ?offer.mapping, "offer received");
                        self.scheduler.handle(now(), Input::OfferArrived { peer, offer });
                    }
                    Err(error) => debug!(peer = %self.peer_name(&peer), %error, "an offer was refused"),
                }
            }
            Said::Allocated { topic, allocation } => self.allocated(server, &topic, allocation),
            Said::RelayCalled { topic } => self.relay_called(&topic),
            Said::Probed { id } => self.verifications.sent(now(), server, id),
            Said::Refused { about: About::Verify(id), reason, detail, .. } => {
                debug!(server = %url, %detail, "the server sends no probe");
                self.verifications.refused(server, id, reason);
            }
            Said::Refused { about, reason, detail, retry_after } => {
                if let About::Allocate(topic) = &about {
                    self.place_refused(server, topic, reason, &detail, retry_after);
                }
                let (about, retry_s) = (about_word(&about), retry_after.map(|after| after.as_secs()));
                // A server that means ill must not be able to fill the log.
                if self.refused.insert((server, about, reason)) {
                    warn!(server = %url, about, %detail, retry_s, "the server refused");
                } else {
                    debug!(server = %url, about, %detail, retry_s, "the server refused again");
                }
            }
        }
    }

    /// Takes a datagram and those that wait behind it, so that answers are heard before their checks are sent once more.
    pub(super) async fn datagrams(&mut self, first: Datagram) {
        self.datagram(&first).await;
        for _ in 1..TOGETHER {
            match self.port.recv().now_or_never() {
                Some(Ok(datagram)) => self.datagram(&datagram).await,
                Some(Err(error)) => return self.port.broken(&error),
                None => return,
            }
        }
    }

    async fn datagram(&mut self, datagram: &Datagram) {
        let Some(from) = sender(datagram.from) else { return };
        match stun::classify(&datagram.payload) {
            Incoming::Other => {}
            Incoming::Probe { nonce } => self.verifications.arrived(&nonce),
            Incoming::Response { transaction } => {
                if !self.relay_answered(from, transaction, &datagram.payload).await {
                    self.response(from, transaction, &datagram.payload);
                }
            }
            Incoming::CheckRequest { transaction, tag } => {
                let Some((peer, pair)) = self.pairs.of_tag(tag) else { return };
                let Ok(request) = pair.open_check_request(&datagram.payload) else { return };
                // A check that came through a tunnel proves a path through it.
                if self.network.routes.is_tunnel(datagram.ifindex).await.unwrap_or(false) {
                    return;
                }
                debug!(peer = %self.peer_name(&peer), %from, nominated = request.nominate, "check received");
                let (tier, nominated) = (request.tier, request.nominate);
                self.scheduler
                    .handle(now(), Input::CheckRequested { peer, from, transaction, tier, nominated });
            }
        }
    }

    pub(super) async fn look_at_network(&mut self) {
        let place = self.network.look(self.state.fwmark).await;
        if place == self.place {
            return;
        }
        info!("the network changed");
        self.place = place;
        self.find_whereabouts().await;
        self.network_is_new();
    }

    /// Takes nothing for true that was found before.
    pub(super) fn network_is_new(&mut self) {
        self.view += 1;
        self.verifications.forget_all();
        self.relays.network_changed();
        self.legs.kick();
        if self.jobs.try_send(Job::Refresh).is_err() {
            debug!("the device's task is busy or gone");
        }
        for (server, ticket) in self.bindings.drain().collect::<Vec<_>>() {
            let why = "the network changed".to_owned();
            self.give_up(ticket, PortError::NoRoute { server, why });
        }
        self.servers.kick();
        self.scheduler.handle(now(), Input::NetworkChanged);
    }
}

/// Whether it is of no use to go on reading: another device may come under the same name.
fn is_gone(error: &DeviceError) -> bool {
    match error {
        DeviceError::NoSuchInterface(_) | DeviceError::NotWireGuard(_) | DeviceError::NoPrivateKey(_) => true,
        // The process of a userspace device has ended.
        DeviceError::Io { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        }
        DeviceError::BadName(_) | DeviceError::NotPermitted { .. } | DeviceError::Timeout { .. } => false,
    }
}

fn about_word(about: &About) -> &'static str {
    match about {
        About::Join(_) => "joining a topic",
        About::Publish(_) => "an offer",
        About::Verify(_) => "a probe",
        About::Connection => "the connection",
        About::Allocate(_) => "a place on the relay",
    }
}
