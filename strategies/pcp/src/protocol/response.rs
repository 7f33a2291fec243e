//! What a server sends.

use std::net::SocketAddr;

use super::{ANNOUNCE, HEADER, MAP, Nonce, OPCODE_MAP, RESPONSE, UDP, VERSION, from_wire};

/// A response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    /// The server's seconds since its table was new (RFC 6887 section 8.5).
    pub(crate) epoch: u32,
    /// For how long it holds: the mapping, or the error (section 7.2). In seconds.
    pub(crate) lifetime: u32,
    /// What it answers.
    pub(crate) body: Body,
}

/// What a response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// ANNOUNCE, asked for or not (section 14.1).
    Announce,
    /// MAP that succeeded (section 11.1).
    Map(Mapped),
    /// An error; the request's opcode, and for MAP what it asked for, where that is there.
    Error {
        /// Of the request.
        opcode: u8,
        /// Which error.
        code: ResultCode,
        /// Whose mapping, and which inner port.
        of: Option<(Nonce, u16)>,
    },
    /// The server speaks NAT-PMP only (RFC 6887 appendix A).
    NatPmp,
}

/// A mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Whose.
    pub(crate) nonce: Nonce,
    /// The inner port.
    pub(crate) port: u16,
    /// The outer address and port.
    pub(crate) external: SocketAddr,
}

/// RFC 6887 section 7.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResultCode(pub(crate) u8);

impl ResultCode {
    /// It does not speak version 2.
    pub(crate) const UNSUPP_VERSION: Self = Self(1);
    /// There is a NAT between us and the server.
    pub(crate) const ADDRESS_MISMATCH: Self = Self(12);

    /// What it means, and what to do.
    pub(crate) fn words(self) -> String {
        match self.0 {
            1 => "UNSUPP_VERSION: it does not speak PCP version 2",
            2 => "NOT_AUTHORIZED: allow this host to map ports in the router's settings",
            3 => "MALFORMED_REQUEST: it does not understand us",
            4 => "UNSUPP_OPCODE: it cannot map ports by PCP",
            5 => "UNSUPP_OPTION: it wants an option that we do not send",
            6 => "MALFORMED_OPTION: it does not understand us",
            7 => "NETWORK_FAILURE: it has no outer address itself at the moment",
            8 => "NO_RESOURCES: its table is full at the moment",
            9 => "UNSUPP_PROTOCOL: it does not map UDP",
            10 => "USER_EX_QUOTA: this host has too many mappings there",
            11 => "CANNOT_PROVIDE_EXTERNAL: the outer port is not to be had",
            12 => "ADDRESS_MISMATCH: it sees us under another address",
            13 => "EXCESSIVE_REMOTE_PEERS",
            other => return format!("result code {other}"),
        }
        .to_owned()
    }
}

impl Response {
    /// Reads a datagram; `None` where it is no response that we could have asked for (RFC 6887 section 8.3).
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, opcode) = (*bytes.first()?, *bytes.get(1)?);
        if opcode & RESPONSE == 0 {
            return None;
        }
        if version == 0 && bytes.len() >= 4 && bytes[2..4] == [0, 1] {
            return Some(Self { epoch: 0, lifetime: 0, body: Body::NatPmp });
        }
        let opcode = opcode & !RESPONSE;
        let code = ResultCode(*bytes.get(3)?);
        // Another version tells at least that ours is not spoken; its header is the same as far as that.
        let known = version == VERSION || code == ResultCode::UNSUPP_VERSION;
        // RFC 6887 section 8.3: up to 1100 bytes, a multiple of 4.
        if !known || !(HEADER..=1100).contains(&bytes.len()) || !bytes.len().is_multiple_of(4) {
            return None;
        }
        let lifetime = u32::from_be_bytes(part(bytes, 4)?);
        let epoch = u32::from_be_bytes(part(bytes, 8)?);
        let body = match (opcode, code) {
            (ANNOUNCE, ResultCode(0)) => Body::Announce,
            (OPCODE_MAP, ResultCode(0)) => Body::Map(map(bytes)?),
            (_, ResultCode(0)) => return None,
            (OPCODE_MAP, code) => {
                let of = map(bytes).map(|mapped| (mapped.nonce, mapped.port));
                Body::Error { opcode, code, of }
            }
            (_, code) => Body::Error { opcode, code, of: None },
        };
        Some(Self { epoch, lifetime, body })
    }
}

/// RFC 6887 section 11.1, for UDP.
fn map(bytes: &[u8]) -> Option<Mapped> {
    let body = bytes.get(HEADER..HEADER + MAP)?;
    if body[12] != UDP {
        return None;
    }
    let port = u16::from_be_bytes(part(body, 16)?);
    let outer = u16::from_be_bytes(part(body, 18)?);
    let external = SocketAddr::new(from_wire(part(body, 20)?), outer);
    Some(Mapped { nonce: part(body, 0)?, port, external })
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn golden(result: u8) -> Vec<u8> {
        [
            [2, 0x81, 0, result, 0, 0, 0x0e, 0x10, 0, 0, 0, 9],
            [0; 12],
            NONCE,
            [17, 0, 0, 0, 0xca, 0x6c, 0x9c, 0x41, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 255, 255, 5, 6, 7, 8],
        ]
        .concat()
    }

    #[test]
    fn map_golden_bytes() {
        let external = "5.6.7.8:40001".parse().unwrap();
        let body = Body::Map(Mapped { nonce: NONCE, port: 51820, external });
        assert_eq!(Response::decode(&golden(0)), Some(Response { epoch: 9, lifetime: 3600, body }));
    }

    #[test]
    fn errors_tell_whose_and_for_how_long() {
        let read = Response::decode(&golden(8)).unwrap();
        let of = Some((NONCE, 51820));
        assert_eq!(read.body, Body::Error { opcode: OPCODE_MAP, code: ResultCode(8), of });
        assert_eq!(read.lifetime, 3600);
        // RFC 6887 section 8.2: a server may send the header alone.
        let short = Response::decode(&golden(12)[..HEADER]).unwrap();
        let code = ResultCode::ADDRESS_MISMATCH;
        assert_eq!(short.body, Body::Error { opcode: OPCODE_MAP, code, of: None });
    }

    #[test]
    fn announcements_and_other_versions() {
        let announce = [[2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [0; 12]].concat();
        assert_eq!(
            Response::decode(&announce).unwrap(),
            Response { epoch: 256, lifetime: 0, body: Body::Announce }
        );
        let natpmp = [0, 0x81, 0, 1, 0, 0, 0, 9];
        assert_eq!(Response::decode(&natpmp).unwrap().body, Body::NatPmp);
        let mut newer = golden(1);
        newer[0] = 3;
        assert!(matches!(
            Response::decode(&newer).unwrap().body,
            Body::Error { code: ResultCode::UNSUPP_VERSION, .. }
        ));
        newer[3] = 0;
        assert_eq!(Response::decode(&newer), None);
    }

    #[test]
    fn requests_and_what_is_cut_are_none() {
        let golden = golden(0);
        for length in 0..golden.len() {
            assert_eq!(Response::decode(&golden[..length]), None, "{length}");
        }
        let mut request = golden.clone();
        request[1] = OPCODE_MAP;
        assert_eq!(Response::decode(&request), None);
        let mut tcp = golden.clone();
        tcp[36] = 6;
        assert_eq!(Response::decode(&tcp), None);
        assert_eq!(Response::decode(&[golden, vec![0; 1100]].concat()), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // Every length, and every value of each of the bytes that are looked at.
        for length in 0..80 {
            for fill in [0, 1, 2, 0x80, 0x81, 0xff] {
                let _ = Response::decode(&vec![fill; length]);
            }
        }
        let golden = golden(0);
        for at in 0..golden.len() {
            for value in 0..=u8::MAX {
                let mut bytes = golden.clone();
                bytes[at] = value;
                let _ = Response::decode(&bytes);
            }
        }
    }
}
