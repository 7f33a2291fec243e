//! Faults: what breaks on a host, on its network and at the server, and how it is mended.

use std::net::IpAddr;

use rand::RngExt as _;

use super::{Service, World};
use crate::net::Attachment;
use crate::site::{self, Site, V4};
use crate::wireguard::Device;
use crate::{Time, earlier, secs};

/// How long a daemon takes to notice by its own pings that a connection carries nothing.
const MISSED_PINGS: Time = secs(50);

impl World {
    /// The host has other addresses on the same link: a lease that ended, a prefix that was renumbered.
    pub fn readdress(&mut self, index: usize, which: impl Fn(&IpAddr) -> bool) {
        let new = site::addresses(self.record.new_place(), &self.hosts[index].site);
        let Some(mut place) = self.hosts[index].place.clone() else { return };
        for address in place.addresses.iter_mut().filter(|address| which(address)) {
            if let Some(new) = new.iter().find(|new| new.is_ipv4() == address.is_ipv4()) {
                *address = *new;
            }
        }
        self.trace.line(self.now, || format!("host {index} has other addresses: {:?}", place.addresses));
        self.attach(index, place);
    }

    /// The host loses its IPv4 and keeps its IPv6, on the same link; or has it again.
    pub fn without_v4(&mut self, index: usize, without: bool) {
        let host = &self.hosts[index];
        let Some(mut place) = host.place.clone() else { return };
        place.addresses.retain(IpAddr::is_ipv6);
        if !without {
            let all = site::addresses(self.record.new_place(), &host.site);
            place.addresses.extend(all.into_iter().filter(IpAddr::is_ipv4));
        }
        self.trace.line(self.now, || format!("host {index} has {:?}", place.addresses));
        self.attach(index, place);
    }

    /// Its link goes down, or up again.
    pub fn link(&mut self, index: usize, up: bool) {
        self.trace
            .line(self.now, || format!("the link of host {index} is {}", if up { "up" } else { "down" }));
        self.hosts[index].linked = up;
        if let Some(place) = self.hosts[index].place.clone() {
            self.attach(index, place);
        }
    }

    /// The host is where this says, if its link is up; its daemon hears of it, and its connection to the server begins
    /// anew.
    pub(super) fn attach(&mut self, index: usize, place: Attachment) {
        let host = &mut self.hosts[index];
        host.place = Some(place.clone());
        if host.linked {
            self.net.attach(host.id, place);
        } else {
            self.net.detach(host.id);
        }
        self.record.network_changed();
        let addresses = self.hosts[index].addresses().to_vec();
        let host = &mut self.hosts[index];
        let awake = host.asleep.is_none();
        if let Some(daemon) = host.daemon.as_mut().filter(|_| awake) {
            daemon.network_changed(self.now, addresses);
        }
        self.disconnect(index);
        self.pump();
    }

    /// The host sleeps for so long.
    pub fn sleep(&mut self, index: usize, time: Time) {
        self.trace.line(self.now, || format!("host {index} sleeps for {time:?}"));
        self.break_connection(index);
        self.hosts[index].asleep = Some((self.now, self.now + time));
    }

    pub(super) fn wake_if_due(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let Some((since, _)) = host.asleep.take_if(|(_, until)| *until <= now) else { return };
        self.trace.line(now, || format!("host {index} wakes up"));
        let slept = now.saturating_sub(since);
        host.wakes(now);
        host.epoch -= slept;
        if let Some(daemon) = &mut host.daemon {
            let addresses = host.place.as_ref().filter(|_| host.linked).map(|p| p.addresses.clone());
            daemon.slept(now, slept, addresses.unwrap_or_default());
        }
        self.disconnect(index);
    }

    /// The machine crashes and starts again after so long: no session, no endpoint, and the routers' state stays.
    pub fn reboot_host(&mut self, index: usize, time: Time) {
        self.kill_daemon(index);
        self.hosts[index].keepalives.clear();
        self.sleep(index, time);
        self.new_device(index, None);
        self.start_daemon(index, self.now + time);
    }

    /// The device is made anew, as `wg-quick down` and `up` do, perhaps with another port.
    pub fn new_device(&mut self, index: usize, port: Option<u16>) {
        let host = &mut self.hosts[index];
        let port = port.unwrap_or(host.device.port());
        let mut device = Device::new(host.own, port, host.chance.random());
        device.set_ahead(host.device.ahead());
        device.add_peer(host.other);
        device.set(self.now, host.other, None, Some(host.persons_keepalive).filter(|seconds| *seconds > 0));
        host.device = device;
        self.trace.line(self.now, || format!("host {index} has a new device with port {port}"));
        self.pump();
    }

    /// The machine's clock is set by so many seconds.
    pub fn step_clock(&mut self, index: usize, seconds: i64) {
        let device = &mut self.hosts[index].device;
        device.set_ahead(device.ahead() + i128::from(seconds) * 1_000_000_000);
        self.trace.line(self.now, || format!("the clock of host {index} is set by {seconds} s"));
    }

    /// Whether WireGuard on the other host would take an initiation of this one's, whose clock may have been set back.
    pub fn may_initiate(&self, index: usize) -> bool {
        let (host, other) = (&self.hosts[index], &self.hosts[1 - index]);
        other.device.would_take(host.own, host.device.wall(self.now))
    }

    /// The outermost router has another address, and forgot all mappings: a provider's new lease.
    pub fn renumber_router(&mut self, index: usize) {
        self.reboot_routers(index);
        let number = self.record.new_place();
        if let Some(outermost) = self.hosts[index].routers.last() {
            self.net.renumber_router(*outermost, site::router_address(number));
        }
    }

    /// The connection to the server carries nothing any more; that is noticed when something is said, or by and by.
    pub(super) fn break_connection(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.connected {
            host.broken = true;
            host.notice_at = earlier(host.notice_at, Some(self.now + MISSED_PINGS));
        }
    }

    pub(super) fn notice_if_due(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if host.asleep.is_some() || host.notice_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        if host.connected {
            self.disconnect(index);
        } else if let Some(daemon) = &mut host.daemon {
            daemon.server_down(now);
        }
    }

    /// Nothing reaches the server any more, and nobody says so; it forgets nothing.
    pub fn cut_off_server(&mut self) {
        self.trace.line(self.now, || "the server is unreachable".to_owned());
        self.service = Service::Unreachable;
        for index in 0..self.hosts.len() {
            self.break_connection(index);
        }
    }

    /// All that the server says comes so much later.
    pub fn slow_server(&mut self, by: Time) {
        self.trace.line(self.now, || format!("the server is slow by {by:?}"));
        self.service = Service::Slow(by);
    }

    /// How the server serves.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Whether a host has a link.
    pub fn has_link(&self, index: usize) -> bool {
        self.hosts[index].linked
    }

    /// The site of a host, without the IPv4 that it may have lost.
    pub fn site(&self, index: usize) -> Site {
        let host = &self.hosts[index];
        let mut site = host.site.clone();
        if !host.addresses().iter().any(IpAddr::is_ipv4) {
            site.v4 = V4::None;
        }
        site
    }

    /// The owner of a host begins to ping so often, or ends.
    pub fn ping_every(&mut self, index: usize, every: Option<Time>) {
        let now = self.now;
        self.hosts[index].ping_every(now, every);
    }
}
