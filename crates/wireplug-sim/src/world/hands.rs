//! What people and fate do to a world from outside, between two stretches of its time.

use std::net::SocketAddr;

use rand::RngExt as _;

use super::{Cut, World};
use crate::server::Temper;
use crate::site::{self, Site};
use crate::wireguard::Body;
use crate::{Time, secs};

impl World {
    /// A host moves to another place: its addresses and routers are others, its tunnel and daemon stay.
    pub fn move_host(&mut self, index: usize, site: &Site) {
        let number = 10 + u8::try_from(index).unwrap_or(0) + self.record.next_move();
        let (attachment, routers) = site::build_one(&mut self.net, number, site, &[], self.chance.random());
        let addresses = attachment.addresses.clone();
        self.hosts[index].line = attachment.link;
        self.hosts[index].routers = routers;
        self.net.attach(self.hosts[index].id, attachment);
        self.record.network_changed();
        self.trace.line(self.now, || format!("host {index} moves to {site}: {addresses:?}"));
        if let Some(daemon) = &mut self.hosts[index].daemon {
            daemon.network_changed(self.now, addresses);
        }
        self.disconnect(index);
        self.pump();
    }

    /// The daemon dies without a word; the device and its keepalive stay.
    pub fn kill_daemon(&mut self, index: usize) {
        self.hosts[index].daemon = None;
        self.hosts[index].connect_at = None;
        self.trace.line(self.now, || format!("daemon {index} is killed"));
    }

    /// A daemon starts (again), at this time.
    pub fn start_daemon(&mut self, index: usize, at: Time) {
        self.hosts[index].daemon_at = Some(at);
    }

    /// The server goes away and forgets everything.
    pub fn stop_server(&mut self) {
        self.server_runs = false;
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
        self.server_runs = true;
        for host in &mut self.hosts {
            let wait = secs(self.chance.random_range(1..4));
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
        for id in &self.hosts[index].routers {
            if let Some(nat) = &mut self.net.router_mut(*id).nat {
                nat.reboot();
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
