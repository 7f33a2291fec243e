//! What a client sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ANNOUNCE, HEADER, MAP, Nonce, OPCODE_MAP, UDP, VERSION, to_wire};

/// A request. It carries no options: `THIRD_PARTY` above all is never sent (RFC 6887 section 13.1), we map for
/// ourselves only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// RFC 6887 section 14.1: asks for the server's seconds.
    Announce {
        /// The sender's address.
        client: IpAddr,
    },
    /// RFC 6887 section 11.1: makes, renews or deletes a mapping of UDP.
    Map {
        /// The sender's address.
        client: IpAddr,
        /// For how long, in seconds; 0 deletes (section 15).
        seconds: u32,
        /// Whose mapping it is.
        nonce: Nonce,
        /// The inner port.
        port: u16,
        /// The outer address and port to have, if possible.
        suggested: Suggestion,
    },
}

/// RFC 6887 section 11.1: suggested external address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suggestion {
    /// Any address, this port (0: any).
    Port(u16),
    /// These.
    Address(SocketAddr),
}

impl Request {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + MAP);
        let (opcode, seconds, client) = match self {
            Self::Announce { client } => (ANNOUNCE, 0, *client),
            Self::Map { client, seconds, .. } => (OPCODE_MAP, *seconds, *client),
        };
        // RFC 6887 section 7.1.
        bytes.extend([VERSION, opcode, 0, 0]);
        bytes.extend(seconds.to_be_bytes());
        bytes.extend(to_wire(client));
        if let Self::Map { nonce, port, suggested, .. } = self {
            let outer = match suggested {
                Suggestion::Address(outer) => *outer,
                Suggestion::Port(port) => SocketAddr::new(any(client), *port),
            };
            bytes.extend(nonce);
            bytes.extend([UDP, 0, 0, 0]);
            bytes.extend(port.to_be_bytes());
            bytes.extend(outer.port().to_be_bytes());
            bytes.extend(to_wire(outer.ip()));
        }
        bytes
    }
}

/// RFC 6887 section 11.1: no preference is all zeros of the family, so `::ffff:0.0.0.0` for IPv4 (section 5).
fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn announce_golden_bytes() {
        let client = [192, 168, 1, 5].into();
        let golden = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 1, 5];
        assert_eq!(Request::Announce { client }.encode(), golden);
    }

    #[test]
    fn p5_no_preference_for_ipv4_is_a_mapped_zero() {
        let request = Request::Map {
            client: [192, 168, 1, 5].into(),
            seconds: 3600,
            nonce: NONCE,
            port: 51820,
            suggested: Suggestion::Port(51820),
        };
        let golden = [
            [2, 1, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 1, 5],
            NONCE,
            [17, 0, 0, 0, 0xca, 0x6c, 0xca, 0x6c, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0],
        ];
        assert_eq!(request.encode(), golden.concat());
    }

    #[test]
    fn ipv6_goes_as_it_is_and_no_preference_is_zero() {
        let client: IpAddr = "2001:db8::5".parse().unwrap();
        let map = |suggested| Request::Map { client, seconds: 0, nonce: NONCE, port: 1, suggested }.encode();
        let bytes = map(Suggestion::Port(0));
        assert_eq!(bytes.len(), HEADER + MAP);
        assert_eq!(bytes[8..24], to_wire(client));
        assert_eq!(bytes[42..60], [0; 18]);
        let bytes = map(Suggestion::Address("[2001:db8::5]:258".parse().unwrap()));
        assert_eq!(bytes[42..44], [1, 2]);
        assert_eq!(bytes[44..60], to_wire(client));
    }
}
