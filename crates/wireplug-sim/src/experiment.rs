//! The oracle's counter-check: two hosts try to meet by plain packets, without scheduler or WireGuard.
//!
//! Each asks two outer servers for its mapping, each is told the other's, and both send to all they know
//! of the other and to whatever they hear from, again and again. They have met when both have heard
//! the other answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::firewall::Firewall;
use crate::link::Link;
use crate::net::{Attachment, HostId, Net, RealmId};
use crate::site::{self, Shared, Site};
use crate::world::server_addresses;
use crate::{Time, ms, secs};

/// What the hosts of an experiment tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// Only addresses that both servers saw alike.
    Fixed,
    /// Also those that the servers saw differently.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Question,
    Seen(SocketAddr),
    /// From the other, who has heard us or not.
    Hello {
        heard: bool,
    },
}

/// Whether two hosts at such sites meet.
pub fn meet(sites: [&Site; 2], shared: Shared, ports: [u16; 2], tells: Tells, seed: u64) -> bool {
    let mut net = Net::new(seed);
    let servers = server_addresses();
    let server = net.add_host();
    net.attach(
        server,
        Attachment {
            realm: RealmId::Internet,
            addresses: servers.iter().flat_map(|a| [a.primary.ip(), a.secondary.ip()]).collect(),
            firewall: Firewall::default(),
            link: Link::default(),
        },
    );
    let places = site::build(&mut net, sites, shared, seed);
    let mut hosts = places.map(|(mut attachment, _)| {
        // Loss and jitter are not the question here.
        attachment.link = Link::of(ms(10));
        let id = net.add_host();
        net.attach(id, attachment);
        id
    });
    let mut now = Time::ZERO;
    let told = ask(&mut net, &mut now, server, hosts, ports, tells);
    let mut known: [BTreeSet<SocketAddr>; 2] = [told[1].clone(), told[0].clone()];
    let mut heard = [false; 2];
    let mut answered = [false; 2];
    for _ in 0..20 {
        for index in 0..2 {
            for to in known[index].clone() {
                let hello = Message::Hello { heard: heard[index] };
                // A host without the family cannot send there, and so does not.
                let _ = net.send(now, hosts[index], ports[index], to, hello);
            }
        }
        now += ms(100);
        for (host, datagram) in arrivals(&mut net, now) {
            let Some(index) = hosts.iter().position(|h| *h == host) else { continue };
            if datagram.destination.port() != ports[index] {
                continue;
            }
            if let Message::Hello { heard: other_heard } = datagram.payload {
                known[index].insert(datagram.source);
                heard[index] = true;
                answered[index] |= other_heard;
            }
        }
    }
    hosts.reverse();
    answered == [true; 2]
}

/// Both ask all four server addresses; gives what each tells.
fn ask(
    net: &mut Net<Message>,
    now: &mut Time,
    server: HostId,
    hosts: [HostId; 2],
    ports: [u16; 2],
    tells: Tells,
) -> [BTreeSet<SocketAddr>; 2] {
    let mut seen: [Vec<(bool, SocketAddr)>; 2] = [Vec::new(), Vec::new()];
    for addresses in server_addresses() {
        for target in [addresses.primary, addresses.secondary] {
            for (host, port) in hosts.into_iter().zip(ports) {
                let _ = net.send(*now, host, port, target, Message::Question);
            }
        }
    }
    let end = *now + secs(1);
    while *now < end {
        *now += ms(10);
        for (host, datagram) in arrivals(net, *now) {
            match datagram.payload {
                Message::Question if host == server => {
                    let answer = Message::Seen(datagram.source);
                    let _ = net.send_from(*now, server, datagram.destination, datagram.source, answer);
                }
                Message::Seen(mapped) => {
                    if let Some(index) = hosts.iter().position(|h| *h == host) {
                        seen[index].push((mapped.is_ipv4(), mapped));
                    }
                }
                Message::Question | Message::Hello { .. } => {}
            }
        }
    }
    seen.map(|seen| {
        let alike = |v4: bool| {
            let mut of_family = seen.iter().filter(|(f, _)| *f == v4).map(|(_, mapped)| *mapped);
            let first = of_family.next();
            first.is_some_and(|first| of_family.all(|other| other == first))
        };
        seen.iter().filter(|(v4, _)| tells == Tells::All || alike(*v4)).map(|(_, mapped)| *mapped).collect()
    })
}

fn arrivals(net: &mut Net<Message>, now: Time) -> Vec<(HostId, crate::net::Datagram<Message>)> {
    let mut arrived = Vec::new();
    while net.next_event().is_some_and(|at| at <= now) {
        arrived.extend(net.step(now));
    }
    arrived
}
