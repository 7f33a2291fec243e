//! PCP on the wire (RFC 6887): what we send in `request`, what comes back in `response`.

pub(crate) mod request;
pub(crate) mod response;

use std::net::{IpAddr, Ipv6Addr};

/// RFC 6887 section 19.1: the router's port.
pub(crate) const SERVER_PORT: u16 = 5351;
/// RFC 6887 section 19.1: the clients' port, for notices.
pub(crate) const CLIENT_PORT: u16 = 5350;
/// RFC 6887 section 7.1.
pub(crate) const VERSION: u8 = 2;
/// RFC 6887 section 7.1: the length of both headers, in bytes.
pub(crate) const HEADER: usize = 24;
/// RFC 6887 section 11.1: what MAP adds, in bytes.
pub(crate) const MAP: usize = 36;
/// RFC 6887 section 19.2: opcodes.
pub(crate) const ANNOUNCE: u8 = 0;
/// RFC 6887 section 19.2: opcodes.
pub(crate) const OPCODE_MAP: u8 = 1;
/// RFC 6887 section 7.2: the bit that tells responses.
pub(crate) const RESPONSE: u8 = 0x80;
/// UDP's number, as RFC 6887 section 11.1 wants it.
pub(crate) const UDP: u8 = 17;

/// RFC 6887 section 11.1: 96 random bits that name a mapping's owner.
pub(crate) type Nonce = [u8; 12];

/// RFC 6887 section 5: an IPv4 address travels as an IPv4-mapped IPv6 one.
pub(crate) fn to_wire(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The same back.
pub(crate) fn from_wire(octets: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}
