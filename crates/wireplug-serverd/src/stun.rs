//! The STUN server's decisions (RFC 8489, RFC 5780), without IO or clock: which datagrams are answered, from
//! which socket, and what is announced.
//!
//! Each of `udp` is one place. Where two places of one family have different addresses, each of the two gets
//! a second port, so that all four of RFC 5780 section 6.1 exist and CHANGE-REQUEST works; OTHER-ADDRESS then
//! names the place opposite. Any other server answers CHANGE-REQUEST with error 420.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use wireplug_proto::stun::binding::{BindingRequest, Change, Received, receive};

use crate::config::is_dual_stack;
use crate::limits::{AddressKey, Rate, RateTable};
use crate::rendezvous::Token;

/// A socket that answers STUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where it is bound; unspecified: at all addresses of the host.
    pub local: SocketAddr,
    /// The other three sockets of RFC 5780, if there are.
    pub others: Option<Others>,
}

/// For one place, the sockets that differ from it in one respect or in both, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// The same address, another port.
    pub port: usize,
    /// Another address, the same port.
    pub address: usize,
    /// Another address and another port.
    pub both: usize,
}

/// Answers STUN requests.
#[derive(Debug)]
pub struct Responder {
    places: Vec<Place>,
    public: Public,
    sources: RateTable<AddressKey>,
}

/// Which address clients see for an address of this host.
#[derive(Debug, Clone, Default)]
pub struct Public {
    pairs: Vec<(IpAddr, IpAddr)>,
}

/// A datagram, as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Index of the socket.
    pub socket: usize,
    /// Its source.
    pub from: SocketAddr,
    /// The address of ours that it was sent to, where the system tells.
    pub to: Option<IpAddr>,
    /// Its payload.
    pub payload: &'a [u8],
}

/// A sound request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Where of ours it arrived.
    pub to: SocketAddr,
    /// The connection's token that it showed.
    pub token: Option<Token>,
}

/// What to send to the source of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Index of the socket to send from.
    pub socket: usize,
    /// The source address to use.
    pub source: Option<IpAddr>,
    /// What.
    pub payload: Vec<u8>,
}

impl Responder {
    /// A responder for these sockets, whose indices are those of `places`.
    pub fn new(places: Vec<Place>, public: Public, rate: Rate, sources: usize) -> Self {
        Self { places, public, sources: RateTable::new(rate, sources) }
    }

    /// Looks at a datagram. What is not a request, or comes too often, is passed over in silence: an answer
    /// would go to whoever the source claims to be.
    pub fn handle(&mut self, now: Instant, datagram: Datagram<'_>) -> (Option<Heard>, Option<Reply>) {
        let Some(place) = self.places.get(datagram.socket).copied() else { return (None, None) };
        if datagram.from.port() == 0 || self.sources.take(AddressKey::of(datagram.from.ip()), now).is_err() {
            return (None, None);
        }
        match receive(datagram.payload) {
            Received::Ignore => (None, None),
            Received::Refuse(payload) => {
                (None, Some(Reply { socket: datagram.socket, source: datagram.to, payload }))
            }
            Received::Request(request) => {
                let ip = datagram.to.unwrap_or(place.local.ip());
                let to = SocketAddr::new(ip, place.local.port());
                let heard = Heard { to, token: request.token };
                (Some(heard), self.reply(&request, datagram, place, to))
            }
        }
    }

    fn reply(
        &self,
        request: &BindingRequest,
        datagram: Datagram<'_>,
        place: Place,
        to: SocketAddr,
    ) -> Option<Reply> {
        let from_here = (datagram.socket, to);
        let (socket, origin) = match (request.change, place.others) {
            (Change::None, _) => from_here,
            (_, None) => {
                let payload = request.refuse_change()?;
                return Some(Reply { socket: datagram.socket, source: datagram.to, payload });
            }
            (Change::Port, Some(others)) => self.elsewhere(others.port)?,
            (Change::Address, Some(others)) => self.elsewhere(others.address)?,
            (Change::AddressAndPort, Some(others)) => self.elsewhere(others.both)?,
        };
        let other =
            place.others.and_then(|others| self.elsewhere(others.both)).map(|(_, addr)| self.seen(addr));
        let payload = request.response(datagram.from, Some(self.seen(origin)), other);
        Some(Reply { socket, source: Some(origin.ip()), payload })
    }

    fn elsewhere(&self, index: usize) -> Option<(usize, SocketAddr)> {
        self.places.get(index).map(|place| (index, place.local))
    }

    /// The address as clients see it.
    fn seen(&self, addr: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.public.of(addr.ip()).unwrap_or(addr.ip()), addr.port())
    }
}

impl Public {
    /// Pairs the addresses of `udp` with those of `public`, each family in its order.
    pub fn new(udp: &[SocketAddr], public: &[IpAddr]) -> Self {
        let mut pairs = Vec::new();
        for v4 in [true, false] {
            let mut ours: Vec<IpAddr> = udp.iter().filter_map(|addr| local_ip(*addr, v4)).collect();
            ours.dedup();
            pairs.extend(ours.into_iter().zip(public.iter().copied().filter(|ip| ip.is_ipv4() == v4)));
        }
        Self { pairs }
    }

    /// What clients see for an address of this host, where that was configured. Where all addresses are
    /// served by one socket, they are all seen as the one.
    fn of(&self, ip: IpAddr) -> Option<IpAddr> {
        let found = |wanted: IpAddr| self.pairs.iter().find(|(ours, _)| *ours == wanted);
        found(ip).or_else(|| found(unspecified(ip.is_ipv4()))).map(|(_, public)| *public)
    }

    /// What `Hello` announces for the bound `udp`: per family the addresses in the order of the configuration.
    /// An unspecified IP stands for the host that the client is connected to; so does the first address
    /// where it is a private one, for then clients can hardly know it by that.
    pub fn announce(&self, udp: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut announced = Vec::new();
        for v4 in [true, false] {
            for (index, addr) in udp.iter().filter(|addr| local_ip(**addr, v4).is_some()).enumerate() {
                let ip = local_ip(*addr, v4).unwrap_or(addr.ip());
                let seen = match self.of(ip) {
                    Some(public) => public,
                    None if index == 0 && is_private(ip) => unspecified(v4),
                    None => ip,
                };
                announced.push(SocketAddr::new(seen, addr.port()));
            }
        }
        announced
    }
}

/// The address that a socket bound to `addr` has in a family: none, its own, or any.
fn local_ip(addr: SocketAddr, v4: bool) -> Option<IpAddr> {
    if addr.is_ipv4() == v4 {
        Some(addr.ip())
    } else {
        (v4 && is_dual_stack(addr)).then_some(unspecified(true))
    }
}

const fn unspecified(v4: bool) -> IpAddr {
    if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
}

/// Whether an address is of a private network or of this host only, so that others see it, if at all, by another.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b); // RFC 6598
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wireplug_core::TransactionId;
    use wireplug_proto::stun::binding::{BindingError, parse_response, request};

    use super::*;

    const ID: TransactionId = TransactionId::from_bytes([9; 12]);
    const RATE: Rate = Rate { burst: 5, every: Duration::from_secs(1) };

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn square() -> Responder {
        let place = |local, port, address, both| Place {
            local: addr(local),
            others: Some(Others { port, address, both }),
        };
        let places = vec![
            place("192.0.2.1:3478", 2, 1, 3),
            place("192.0.2.2:3478", 3, 0, 2),
            place("192.0.2.1:3477", 0, 3, 1),
            place("192.0.2.2:3477", 1, 2, 0),
        ];
        Responder::new(places, Public::default(), RATE, 10)
    }

    fn ask(responder: &mut Responder, socket: usize, payload: &[u8]) -> (Option<Heard>, Option<Reply>) {
        let to = Some(responder.places[socket].local.ip());
        let datagram = Datagram { socket, from: addr("198.51.100.7:51820"), to, payload };
        responder.handle(Instant::now(), datagram)
    }

    #[test]
    fn a_request_is_answered_from_where_it_asks() {
        for (change, socket) in
            [(Change::None, 0), (Change::Port, 2), (Change::Address, 1), (Change::AddressAndPort, 3)]
        {
            let mut responder = square();
            let payload = request(ID, Some(&[7; 16]), change);
            let (heard, reply) = ask(&mut responder, 0, &payload);
            assert_eq!(heard, Some(Heard { to: addr("192.0.2.1:3478"), token: Some([7; 16]) }));
            let reply = reply.unwrap();
            let from = responder.places[socket].local;
            assert_eq!((reply.socket, reply.source), (socket, Some(from.ip())));
            assert!(reply.payload.len() <= payload.len());
            let answer = parse_response(&reply.payload).unwrap();
            assert_eq!(answer.mapped, addr("198.51.100.7:51820"));
            assert_eq!(answer.response_origin, Some(from));
            assert_eq!(answer.other_address, Some(addr("192.0.2.2:3477")));
        }
    }

    #[test]
    fn a_server_with_one_address_refuses_to_change_and_names_no_other() {
        let places = vec![Place { local: addr("[::]:3478"), others: None }];
        let mut responder = Responder::new(places, Public::default(), RATE, 10);
        let (_, reply) = ask(&mut responder, 0, &request(ID, None, Change::Port));
        let error = parse_response(&reply.unwrap().payload).unwrap_err();
        assert_eq!(error, BindingError::Refused { transaction: ID, code: 420 });
        let (_, reply) = ask(&mut responder, 0, &request(ID, None, Change::None));
        assert_eq!(parse_response(&reply.unwrap().payload).unwrap().other_address, None);
    }

    #[test]
    fn junk_and_too_many_requests_get_silence() {
        let mut responder = square();
        assert_eq!(ask(&mut responder, 0, b"junk"), (None, None));
        let payload = request(ID, None, Change::None);
        let answered = (0..100).filter(|_| ask(&mut responder, 0, &payload).1.is_some()).count();
        assert_eq!(answered, 4, "junk counts too");
    }

    #[test]
    fn a_bare_request_gets_the_bare_answer_and_the_other_address_where_there_is_one() {
        let mut bare = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        bare.extend([9; 12]);
        let alone = vec![Place { local: addr("192.0.2.1:3478"), others: None }];
        for (mut responder, length, other) in [
            (Responder::new(alone, Public::default(), RATE, 10), 32, None),
            (square(), 44, Some(addr("192.0.2.2:3477"))),
        ] {
            let (_, reply) = ask(&mut responder, 0, &bare);
            let payload = reply.unwrap().payload;
            assert_eq!(payload.len(), length);
            assert_eq!(parse_response(&payload).unwrap().other_address, other);
        }
    }

    #[test]
    fn what_is_announced_is_what_clients_can_reach() {
        let announce = |udp: &[&str], public: &[&str]| {
            let udp: Vec<_> = udp.iter().map(|text| addr(text)).collect();
            let public: Vec<IpAddr> = public.iter().map(|text| text.parse().unwrap()).collect();
            let said = Public::new(&udp, &public).announce(&udp);
            said.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(announce(&["[::]:3478"], &[]), "0.0.0.0:3478 [::]:3478");
        assert_eq!(announce(&["[::]:3478"], &["203.0.113.7"]), "203.0.113.7:3478 [::]:3478");
        assert_eq!(announce(&["0.0.0.0:1"], &[]), "0.0.0.0:1");
        assert_eq!(announce(&["192.0.2.1:1", "192.0.2.2:1"], &[]), "192.0.2.1:1 192.0.2.2:1");
        assert_eq!(announce(&["10.0.0.1:1", "10.0.0.2:1"], &[]), "0.0.0.0:1 10.0.0.2:1");
        assert_eq!(
            announce(&["10.0.0.1:1", "10.0.0.2:1"], &["203.0.113.7", "203.0.113.8"]),
            "203.0.113.7:1 203.0.113.8:1"
        );
        assert_eq!(announce(&["10.0.0.1:1", "10.0.0.1:2"], &["203.0.113.7"]), "203.0.113.7:1 203.0.113.7:2");
        assert_eq!(announce(&["[2a00::1]:1", "192.0.2.1:1"], &[]), "192.0.2.1:1 [2a00::1]:1");
    }
}
