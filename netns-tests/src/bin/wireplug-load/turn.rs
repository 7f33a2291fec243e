//! Pairs through a TURN server: as little of RFC 8656 as it takes to have channel data relayed.
//!
//! The left end is the client: it allocates, permits the right end and binds a channel to it. The right end is an
//! ordinary peer. So each packet crosses the server once.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::ends::{Farewell, Place, Way};
use crate::rendezvous::random;

/// RFC 8489 section 5.
const COOKIE: u32 = 0x2112_A442;
const HEADER_LEN: usize = 20;
/// Added to a request's type in its success response (RFC 8489 section 5: class 0b10).
const SUCCESS: u16 = 0x0100;

/// Methods, RFC 8656 section 17.
const ALLOCATE: u16 = 0x003;
const REFRESH: u16 = 0x004;
const CREATE_PERMISSION: u16 = 0x008;
const CHANNEL_BIND: u16 = 0x009;

/// Attributes, RFC 8656 section 18.
const CHANNEL_NUMBER: u16 = 0x000C;
const LIFETIME: u16 = 0x000D;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;

/// The first channel's number (RFC 8656 section 12).
const FIRST_CHANNEL: u16 = 0x4000;
/// Bytes of a channel data message before its data (RFC 8656 section 12.4).
const CHANNEL_HEADER_LEN: usize = 4;
/// UDP's number (RFC 8656 section 18.8).
const UDP: u8 = 17;

/// How long an answer may take, and how often is asked.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
const TRIES: usize = 6;

/// Which end of a pair sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The client: channel data in, plain datagrams out.
    Client,
    /// The peer: plain datagrams in, channel data out.
    Peer,
}

/// Pairs through the server at `server`, for datagrams of `size` bytes.
pub(crate) fn pairs(
    server: SocketAddrV4,
    [left, right]: [&Place; 2],
    pairs: usize,
    size: usize,
    sender: Sender,
) -> Result<Vec<Way>> {
    let ends = left.sockets(pairs)?.into_iter().zip(right.sockets(pairs)?);
    ends.map(|(client, peer)| {
        let relayed = bind(&client, server, peer.local_addr()?)?;
        let farewell = Some(Farewell { socket: client.try_clone()?, datagram: release()? });
        match sender {
            Sender::Client => {
                let prefix = [FIRST_CHANNEL.to_be_bytes(), u16::try_from(size)?.to_be_bytes()].concat();
                Ok(Way { from: client, prefix, to: peer, skip: 0, _farewell: farewell })
            }
            Sender::Peer => {
                peer.connect(relayed)?;
                Ok(Way {
                    from: peer,
                    prefix: Vec::new(),
                    to: client,
                    skip: CHANNEL_HEADER_LEN,
                    _farewell: farewell,
                })
            }
        }
    })
    .collect()
}

/// Allocates and binds the first channel to `peer`; returns the relayed address.
fn bind(client: &UdpSocket, server: SocketAddrV4, peer: SocketAddr) -> Result<SocketAddrV4> {
    client.connect(server)?;
    client.set_read_timeout(Some(ANSWER_LIMIT))?;
    let SocketAddr::V4(peer) = peer else { bail!("the lab's peers have IPv4 addresses, not {peer}") };
    let answer = ask(client, ALLOCATE, &[(REQUESTED_TRANSPORT, vec![UDP, 0, 0, 0])])?;
    let relayed = attribute(&answer, XOR_RELAYED_ADDRESS)
        .and_then(xor_address)
        .context("the TURN server's answer to Allocate has no relayed IPv4 address")?;
    let address = (XOR_PEER_ADDRESS, xored(peer));
    ask(client, CREATE_PERMISSION, std::slice::from_ref(&address))?;
    let [high, low] = FIRST_CHANNEL.to_be_bytes();
    ask(client, CHANNEL_BIND, &[(CHANNEL_NUMBER, vec![high, low, 0, 0]), address])?;
    Ok(relayed)
}

/// The request that ends the allocation (RFC 8656 section 7.1), or the next load from the same port would meet it.
fn release() -> Result<Vec<u8>> {
    Ok(message(REFRESH, random()?, &[(LIFETIME, vec![0; 4])]))
}

/// Sends a request until it is answered; returns the attributes of the success.
fn ask(socket: &UdpSocket, method: u16, attributes: &[(u16, Vec<u8>)]) -> Result<Vec<u8>> {
    let transaction = random()?;
    let request = message(method, transaction, attributes);
    let mut buffer = [0; 1500];
    for _ in 0..TRIES {
        let sent = Instant::now();
        // An ICMP error, while the server is not listening yet, comes at once from here or from the answer.
        let answer = socket.send(&request).and_then(|_| socket.recv(&mut buffer));
        let Ok(len) = answer else {
            std::thread::sleep(ANSWER_LIMIT.saturating_sub(sent.elapsed()));
            continue;
        };
        let answer = &buffer[..len];
        if answer.len() < HEADER_LEN || answer[8..HEADER_LEN] != transaction {
            continue;
        }
        let kind = u16::from_be_bytes([answer[0], answer[1]]);
        if kind != method | SUCCESS {
            bail!("the TURN server refuses method {method:#05x}: {}", answer[HEADER_LEN..].escape_ascii());
        }
        return Ok(answer[HEADER_LEN..].to_vec());
    }
    bail!("no answer to TURN method {method:#05x} from {:?} after {TRIES} requests", socket.peer_addr())
}

/// A STUN message (RFC 8489 section 5); the attributes' values are multiples of 4 bytes long.
fn message(method: u16, transaction: [u8; 12], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend(length(value));
        body.extend(value);
    }
    [&method.to_be_bytes()[..], &length(&body), &COOKIE.to_be_bytes(), &transaction, &body].concat()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    // No message here is longer than a datagram.
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// The value of the first attribute of this kind (RFC 8489 section 14).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..len)?;
        if u16::from_be_bytes([head[0], head[1]]) == wanted {
            return Some(value);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// An XOR-PEER-ADDRESS (RFC 8489 section 14.2).
fn xored(address: SocketAddrV4) -> Vec<u8> {
    let [a, b, ..] = COOKIE.to_be_bytes();
    let port = address.port() ^ u16::from_be_bytes([a, b]);
    let ip = address.ip().to_bits() ^ COOKIE;
    [&[0, 1][..], &port.to_be_bytes(), &ip.to_be_bytes()].concat()
}

fn xor_address(value: &[u8]) -> Option<SocketAddrV4> {
    let [0, 1, p0, p1, ip @ ..] = value.first_chunk::<8>()? else { return None };
    let [a, b, ..] = COOKIE.to_be_bytes();
    let ip = Ipv4Addr::from_bits(u32::from_be_bytes(*ip) ^ COOKIE);
    Some(SocketAddrV4::new(ip, u16::from_be_bytes([p0 ^ a, p1 ^ b])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        // The address of RFC 5769 section 2.2.
        let address = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 32853);
        assert_eq!(xored(address), [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert_eq!(xor_address(&xored(address)), Some(address));
    }

    #[test]
    fn attributes_are_found_behind_padding() {
        let text =
            message(ALLOCATE, [9; 12], &[(0x8022, b"abcd".to_vec()), (XOR_RELAYED_ADDRESS, vec![1; 8])]);
        assert_eq!(text[..4], [0, 3, 0, 20]);
        assert_eq!(attribute(&text[HEADER_LEN..], XOR_RELAYED_ADDRESS), Some(&[1; 8][..]));
        assert_eq!(attribute(&text[HEADER_LEN..], CHANNEL_NUMBER), None);
        assert_eq!(
            attribute(&[0x80, 0x22, 0, 1, b'x', 0, 0, 0, 0, 0x0c, 0, 0], CHANNEL_NUMBER),
            Some(&[][..])
        );
    }
}
