//! For the fuzz targets: what reads a router's bytes, without a router. Not an interface to build upon.

use std::net::{IpAddr, SocketAddr};

use crate::protocol::request::{Request, Suggestion};
use crate::protocol::response::{Body, Response};

/// What a response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// ANNOUNCE.
    Announce,
    /// A mapping: nonce, inner port, outer address and port.
    Mapped([u8; 12], u16, SocketAddr),
    /// An error: opcode of the request, code in words, and nonce and inner port if they are there.
    Error(u8, String, Option<([u8; 12], u16)>),
    /// NAT-PMP is spoken instead.
    NatPmp,
}

/// Epoch, lifetime and the rest of a response.
pub fn response(datagram: &[u8]) -> Option<(u32, u32, Said)> {
    let Response { epoch, lifetime, body } = Response::decode(datagram)?;
    let said = match body {
        Body::Announce => Said::Announce,
        Body::Map(mapped) => Said::Mapped(mapped.nonce, mapped.port, mapped.external),
        Body::Error { opcode, code, of } => Said::Error(opcode, code.words(), of),
        Body::NatPmp => Said::NatPmp,
    };
    Some((epoch, lifetime, said))
}

/// A request for a mapping to an outer address and port.
pub fn request(client: IpAddr, seconds: u32, nonce: [u8; 12], port: u16, outer: SocketAddr) -> Vec<u8> {
    Request::Map { client, seconds, nonce, port, suggested: Suggestion::Address(outer) }.encode()
}
