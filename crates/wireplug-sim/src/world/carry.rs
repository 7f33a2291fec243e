//! What goes from hosts, server and network to each other.

use std::net::SocketAddr;

use super::post::To;
use super::{Service, World, record};
use crate::daemon::{Daemon, Effect};
use crate::payload::{Bound, Payload};
use crate::server::{Frame, FromServer, Output, ToServer};
use crate::strategies::relay::tls_endpoint;
use crate::wireguard::Body;

impl World {
    pub(super) fn arrive(
        &mut self,
        index: usize,
        source: SocketAddr,
        destination: SocketAddr,
        payload: Payload,
    ) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if destination.port() != host.device.port() {
            return;
        }
        self.trace.line(now, || format!("host {index} <- {source}: {}", record::words(&payload)));
        if let Payload::WireGuard(message) = payload {
            host.take_wireguard(now, source, &message);
        } else if let Some(daemon) = &mut host.daemon {
            if matches!(
                payload,
                Payload::Answer { .. } | Payload::BindAnswer { bound: Bound::Here { both: true }, .. }
            ) {
                self.record.answered(now, index, source);
            }
            daemon.on_datagram(now, source, &payload);
        }
    }

    pub(super) fn deliver(&mut self, to: To) {
        match to {
            To::Server(index, message) => {
                let host = &self.hosts[index];
                if self.server_hears() && host.connected && !host.broken {
                    let outputs = self.server.on_message(self.now, self.hosts[index].id, message);
                    self.serve(outputs);
                }
            }
            To::Daemon(index, message) => {
                let now = self.now;
                self.trace.line(now, || format!("host {index} <= server: {message:?}"));
                let host = &mut self.hosts[index];
                if let FromServer::Frame(Frame::Bound { bound: Bound::Here { both: true }, .. }) = message {
                    self.record.answered(now, index, tls_endpoint().addr());
                }
                if host.broken || host.is_asleep() {
                    return;
                }
                match (message, host.daemon.as_mut().filter(|_| host.connected)) {
                    (FromServer::Frame(Frame::Data(message)), Some(_)) => {
                        host.take_wireguard(now, tls_endpoint().addr(), &message);
                    }
                    (message, Some(daemon)) => daemon.on_server(now, message),
                    (_, None) => {}
                }
            }
        }
    }

    pub(super) fn serve(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match self.service {
                Service::Slow(by) => self.unsaid.push_back((self.now + by, output)),
                Service::Runs | Service::Stopped | Service::Unreachable => self.say(output),
            }
        }
    }

    pub(super) fn say(&mut self, output: Output) {
        match output {
            Output::Tell(id, message) => {
                if let Some(index) = self.hosts.iter().position(|h| h.id == id) {
                    let line = self.hosts[index].line;
                    self.post.send(self.now, line, &mut self.chance, To::Daemon(index, message));
                }
            }
            Output::Send { from, to, payload } => {
                // The server is attached for good, so sending cannot fail.
                let _ = self.net.send_from(self.now, self.server_host, from, to, payload);
            }
        }
    }

    /// Lets everything that devices and daemons want done be done.
    pub(super) fn pump(&mut self) {
        for index in 0..self.hosts.len() {
            loop {
                let sent = self.send_wireguard(index);
                let effects = self.hosts[index].daemon.as_mut().map(Daemon::take_effects).unwrap_or_default();
                if !sent && effects.is_empty() {
                    break;
                }
                for effect in effects {
                    self.effect(index, effect);
                    self.send_wireguard(index);
                }
            }
            let host = &mut self.hosts[index];
            let endpoint = host.device.peer(host.other).and_then(|p| p.endpoint);
            if self.record.endpoint(self.now, index, endpoint) {
                self.trace.line(self.now, || format!("host {index}: endpoint is {endpoint:?}"));
            }
            if self.trace.is_kept(self.now) {
                let state = host.daemon.as_ref().and_then(|d| d.status().into_iter().next()).map(|s| s.state);
                if host.state != state {
                    host.state = state;
                    self.trace.line(self.now, || format!("host {index}: state is {state:?}"));
                }
            }
        }
    }

    fn send_wireguard(&mut self, index: usize) -> bool {
        let host = &mut self.hosts[index];
        let messages = host.device.take_out();
        let any = !messages.is_empty();
        for (to, message) in messages {
            let payload = Payload::WireGuard(message);
            self.trace.line(self.now, || format!("host {index} -> {to}: {}", record::words(&payload)));
            match payload {
                Payload::WireGuard(message) if to.ip().is_loopback() => {
                    if host.connected && !host.broken && host.daemon.is_some() {
                        let frame = To::Server(index, ToServer::Frame(Frame::Data(message)));
                        self.post.send(self.now, host.line, &mut self.chance, frame);
                    }
                }
                // No route is WireGuard's silence.
                payload => drop(self.net.send(self.now, host.id, host.device.port(), to, payload)),
            }
        }
        any
    }

    fn effect(&mut self, index: usize, effect: Effect) {
        let now = self.now;
        let host = &mut self.hosts[index];
        match effect {
            Effect::Send { to, payload } => {
                self.trace.line(now, || format!("host {index} -> {to}: {}", record::words(&payload)));
                let sent = self.net.send(now, host.id, host.device.port(), to, payload.clone());
                if let (Err(_), Some(daemon)) = (sent, &mut host.daemon) {
                    daemon.on_unsendable(now, to, &payload);
                }
            }
            Effect::Tell(message) => {
                self.trace.line(now, || format!("host {index} => server: {message:?}"));
                if host.broken {
                    host.hurry_to_notice(now, &message);
                } else if host.connected {
                    self.post.send(now, host.line, &mut self.chance, To::Server(index, message));
                }
            }
            Effect::Set { peer, endpoint, keepalive } => {
                self.trace.line(now, || format!("host {index}: set {endpoint:?}, keepalive {keepalive:?}"));
                if let Some(endpoint) = endpoint {
                    let mut kept =
                        host.daemon.iter().flat_map(|daemon| daemon.disk().good.values().flatten());
                    let remembered = !host.connected && kept.any(|one| one.endpoint == endpoint);
                    self.record.applied(now, index, endpoint.addr(), host.device.peer(peer), remembered);
                }
                host.device.set(now, peer, endpoint.map(|e| e.addr()), keepalive);
            }
            Effect::OnLink(what) => self.on_link(index, what),
            Effect::Packet(peer) => {
                host.device.send(now, peer, Body::Stream(0));
            }
        }
    }
}
