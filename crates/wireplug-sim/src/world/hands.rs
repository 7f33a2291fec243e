//! What people and fate do to a world from outside, between two stretches of its time.

use std::net::SocketAddr;

use rand::RngExt as _;

use super::{Cut, Service, World};
use crate::server::Temper;
use crate::site::{self, Site};
use crate::wireguard::Body;
use crate::{Time, secs};

impl World {
    /// A host moves to another place: its addresses and routers are others, its tunnel and daemon stay.
    pub fn move_host(&mut self, index: usize, site: &Site) {
        let number = self.record.new_place();
        let (attachment, routers) = site::build_one(&mut self.net, number, site, &[], self.chance.random());
        self.trace.line(self.now, || format!("host {index} moves to {site}: {:?}", attachment.addresses));
        let host = &mut self.hosts[index];
        host.line = attachment.link;
        host.routers = routers;
        host.site = site.clone();
        self.attach(index, attachment);
    }

    /// What happens from then on is kept.
    pub fn trace_from(&mut self, from: Time) {
        self.trace.keep_from(from);
    }

    /// The daemon dies without a word; the device and its keepalive stay.
    pub fn kill_daemon(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if let Some(daemon) = host.daemon.take() {
            host.keepalives = daemon.keepalives().clone();
            host.disk = daemon.disk().clone();
        }
        (host.connected, host.broken, host.notice_at) = (false, false, None);
        host.connect_at = None;
        self.trace.line(self.now, || format!("daemon {index} is killed"));
    }

    /// A daemon starts (again), at this time.
    pub fn start_daemon(&mut self, index: usize, at: Time) {
        self.hosts[index].daemon_at = Some(at);
    }

    /// The server goes away and forgets everything.
    pub fn stop_server(&mut self) {
        self.service = Service::Stopped;
        self.server.crash();
        self.post.clear();
        self.trace.line(self.now, || "the server stops".to_owned());
        for index in 0..self.hosts.len() {
            self.disconnect(index);
        }
        self.pump();
    }

    /// The server is back; daemons find that out within a few seconds.
    pub fn start_server(&mut self) {
        self.service = Service::Runs;
        for index in 0..self.hosts.len() {
            // A connection that carried nothing for a while is closed.
            self.disconnect(index);
            let wait = secs(self.chance.random_range(1..4));
            let host = &mut self.hosts[index];
            host.connect_at = host.daemon.is_some().then_some(self.now + wait);
        }
    }

    /// Changes a device by hand, as its owner does.
    pub fn set_by_hand(&mut self, index: usize, endpoint: Option<SocketAddr>, keepalive: Option<u16>) {
        let host = &mut self.hosts[index];
        host.device.set(self.now, host.other, endpoint, keepalive);
        self.pump();
    }

    /// One ping by hand; its number is among the host's pongs when it is answered.
    pub fn ping(&mut self, index: usize) -> u64 {
        let number = self.hosts[index].ping(self.now);
        self.pump();
        number
    }

    /// Any packet into the tunnel; false if there is no endpoint.
    pub fn send(&mut self, index: usize, body: Body) -> bool {
        let host = &mut self.hosts[index];
        let sent = host.device.send(self.now, host.other, body);
        self.pump();
        sent
    }

    /// The routers before a host reboot and forget all translations.
    pub fn reboot_routers(&mut self, index: usize) {
        self.trace.line(self.now, || format!("the routers of host {index} reboot"));
        let mut translated = false;
        for id in &self.hosts[index].routers {
            if let Some(nat) = &mut self.net.router_mut(*id).nat {
                nat.reboot();
                translated = true;
            }
        }
        if translated {
            self.break_connection(index);
        }
    }

    /// The routers before a host keep unused mappings for another time from now on.
    pub fn set_lifetime(&mut self, index: usize, lifetime: Time) {
        self.trace.line(self.now, || format!("mappings of host {index} live {lifetime:?}"));
        for id in &self.hosts[index].routers {
            if let Some(nat) = &mut self.net.router_mut(*id).nat {
                nat.set_timeout(lifetime);
            }
        }
    }

    /// Breaks or mends the way between the two hosts.
    pub fn cut(&mut self, cut: Cut) {
        self.trace.line(self.now, || format!("cut: {cut:?}"));
        self.cut = cut;
    }

    /// The server changes its ways.
    pub fn turn_server(&mut self, temper: Temper) {
        self.server.turn(temper);
    }
}
