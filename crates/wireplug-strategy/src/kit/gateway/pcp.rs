//! The router's side of PCP (RFC 6887).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Inner, Manner, Reaction, Speech};

/// How it speaks PCP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PcpScript {
    /// Whether it does.
    pub manner: Manner,
    /// Refuses every MAP with this result, for so many seconds (RFC 6887 section 7.4).
    pub denies: Option<(u8, u32)>,
    /// Speaks NAT-PMP only, and says so (RFC 6887 appendix A).
    pub only_natpmp: bool,
    /// Another NAT stands between: it sees this address instead of ours.
    pub sees: Option<IpAddr>,
    /// Takes any nonce for the owner's, so that runs which know nothing of each other share one mapping.
    pub any_nonce: bool,
    /// Answers with another nonce.
    pub wrong_nonce: bool,
}

/// RFC 6887 section 7.4.
const UNSUPP_VERSION: u8 = 1;
const NOT_AUTHORIZED: u8 = 2;
const MALFORMED_REQUEST: u8 = 3;
const UNSUPP_OPCODE: u8 = 4;
const ADDRESS_MISMATCH: u8 = 12;

/// RFC 6887 sections 7.1 and 11.1: a header of 24 bytes, and 36 of MAP.
const HEADER: usize = 24;
const MAP: usize = HEADER + 36;

impl Inner {
    pub(super) fn pcp(&mut self, from: IpAddr, datagram: &[u8]) -> Reaction {
        let script = self.script.pcp.clone();
        match script.manner {
            Manner::Silent => return Reaction::Silence,
            Manner::Refuses => return Reaction::Unreachable,
            Manner::Answers => {}
        }
        if datagram.len() < 2 || datagram[1] & 0x80 != 0 {
            return Reaction::Silence;
        }
        let opcode = datagram[1];
        if script.only_natpmp {
            let mut answer = vec![0, 0x80 | opcode, 0, UNSUPP_VERSION];
            answer.extend(self.seconds().to_be_bytes());
            return Reaction::Answer(answer);
        }
        if datagram[0] != 2 {
            return Reaction::Answer(self.pcp_head(opcode, UNSUPP_VERSION, 1800));
        }
        if datagram.len() < HEADER || !datagram.len().is_multiple_of(4) {
            return Reaction::Answer(self.pcp_head(opcode, MALFORMED_REQUEST, 1800));
        }
        if ip(&datagram[8..24]) != script.sees.unwrap_or(from) {
            return Reaction::Answer(self.pcp_head(opcode, ADDRESS_MISMATCH, 1800));
        }
        Reaction::Answer(match opcode {
            0 => self.pcp_head(0, 0, 0),
            1 if datagram.len() >= MAP => self.pcp_map(from, datagram),
            1 => self.pcp_head(1, MALFORMED_REQUEST, 1800),
            other => self.pcp_head(other, UNSUPP_OPCODE, 1800),
        })
    }

    /// RFC 6887 section 11.
    fn pcp_map(&mut self, from: IpAddr, datagram: &[u8]) -> Vec<u8> {
        let script = self.script.pcp.clone();
        let body = &datagram[HEADER..MAP];
        let mut nonce: [u8; 12] = body[..12].try_into().unwrap_or_default();
        let (protocol, inner, wanted) = (body[12], [body[16], body[17]], [body[18], body[19]]);
        let inside = SocketAddr::new(from, u16::from_be_bytes(inner));
        let seconds = u32::from_be_bytes([datagram[4], datagram[5], datagram[6], datagram[7]]);
        let refuse = |inner: &Self, result, seconds| {
            let mut answer = inner.pcp_head(1, result, seconds);
            answer.extend(body);
            answer
        };
        if let Some((result, seconds)) = script.denies {
            return refuse(self, result, seconds);
        }
        let known = self.mappings.iter().find(|known| known.by == Speech::Pcp && known.inside == inside);
        // Section 11.3: another nonce is another client's, even from the same address.
        let foreign = !script.any_nonce && known.is_some_and(|known| known.nonce != Some(nonce));
        if protocol != 17 || foreign {
            return refuse(self, NOT_AUTHORIZED, 60);
        }
        let (outside, seconds) = if seconds == 0 {
            self.mappings.retain(|known| known.by != Speech::Pcp || known.inside != inside);
            (SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0), 0)
        } else {
            self.put(Speech::Pcp, inside, u16::from_be_bytes(wanted), seconds, Some(nonce))
        };
        nonce[0] ^= u8::from(script.wrong_nonce);
        let mut answer = self.pcp_head(1, 0, seconds);
        answer.extend(nonce);
        answer.extend([17, 0, 0, 0]);
        answer.extend(inner);
        answer.extend(outside.port().to_be_bytes());
        answer.extend(bytes(outside.ip()));
        answer
    }

    /// RFC 6887 section 7.2.
    fn pcp_head(&self, opcode: u8, result: u8, lifetime: u32) -> Vec<u8> {
        let mut head = vec![2, 0x80 | opcode, 0, result];
        head.extend(lifetime.to_be_bytes());
        head.extend(self.seconds().to_be_bytes());
        head.extend([0; 12]);
        head
    }

    pub(super) fn announcement(&self) -> Vec<u8> {
        self.pcp_head(0, 0, 0)
    }
}

/// RFC 6887 section 5: IPv4 addresses travel as IPv4-mapped IPv6 ones.
fn ip(bytes: &[u8]) -> IpAddr {
    let octets: [u8; 16] = bytes.try_into().unwrap_or_default();
    IpAddr::from(octets).to_canonical()
}

fn bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
