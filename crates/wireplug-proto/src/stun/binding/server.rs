//! The server's half: what a request asks, and an answer that is no longer than it may be.

use std::net::SocketAddr;

use stun_types::attribute::UnknownAttributes;
use wireplug_core::TransactionId;

use super::super::frame::{Class, Frame};
use super::super::private;
use super::super::writer::{FINGERPRINT, Writer};
use super::{CHANGE_REQUEST, Change, OTHER_ADDRESS, RESPONSE_ORIGIN};

/// ERROR-CODE (RFC 8489 section 14.8).
const ERROR_CODE: u16 = 0x0009;
/// Class 4, number 20, no words: Unknown Attribute (RFC 8489 section 14.8).
const UNKNOWN_ATTRIBUTE: [u8; 4] = [0, 0, 4, 20];
/// The most unknown attributes that one answer names.
const MAX_NAMED: usize = 8;
/// What a request may hold that must be understood: all of RFC 8489 section 14 that a server without accounts
/// can pass over, and CHANGE-REQUEST.
const UNDERSTOOD: [u16; 10] = [
    0x0001, // MAPPED-ADDRESS
    CHANGE_REQUEST,
    0x0006, // USERNAME
    0x0009, // ERROR-CODE
    0x000a, // UNKNOWN-ATTRIBUTES
    0x0014, // REALM
    0x0015, // NONCE
    0x001d, // PASSWORD-ALGORITHM
    0x001e, // USERHASH
    0x0020, // XOR-MAPPED-ADDRESS
];

/// What the server shall do with a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Answer it with [`BindingRequest::response`].
    Request(BindingRequest),
    /// Send this back: the request must be refused, and the refusal is not longer than it was.
    Refuse(Vec<u8>),
    /// Nothing.
    Ignore,
}

/// A sound Binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRequest {
    /// Of the request.
    pub transaction: TransactionId,
    /// The ownership token that it shows.
    pub token: Option<[u8; 16]>,
    /// From where it wants the answer.
    pub change: Change,
    /// Length of the request in bytes: what the answer may have.
    len: usize,
}

/// Reads a datagram that came to the server.
pub fn receive(payload: &[u8]) -> Received {
    let Some(frame) = Frame::parse(payload).filter(|frame| frame.class() == Class::Request) else {
        return Received::Ignore;
    };
    let unknown: Vec<u16> = frame.not_understood(&UNDERSTOOD).take(MAX_NAMED).collect();
    if !unknown.is_empty() {
        return refusal(&frame, &unknown).map_or(Received::Ignore, Received::Refuse);
    }
    let change = match frame.value(CHANGE_REQUEST).map(<[u8; 4]>::try_from) {
        None => Change::None,
        Some(Ok(flags)) => Change::from_flags(u32::from_be_bytes(flags)),
        Some(Err(_)) => return Received::Ignore,
    };
    Received::Request(BindingRequest {
        transaction: frame.transaction(),
        token: frame.value(private::TOKEN).and_then(|token| token.try_into().ok()),
        change,
        len: frame.len(),
    })
}

impl BindingRequest {
    /// The answer to the source `mapped`: `origin` is where it is sent from, `other` the server's other address
    /// and port if it has one (RFC 5780 sections 7.3 and 7.4). Of `origin` and FINGERPRINT what does not fit the request's
    /// length is left out.
    pub fn response(
        &self,
        mapped: SocketAddr,
        origin: Option<SocketAddr>,
        other: Option<SocketAddr>,
    ) -> Vec<u8> {
        let mut writer = Writer::new(Class::Success, self.transaction).xor_mapped_address(mapped);
        let needed = other.map_or(0, address_len);
        if let Some(origin) = origin
            && writer.len() + address_len(origin) + needed <= self.len
        {
            writer = writer.plain_address(RESPONSE_ORIGIN, origin);
        }
        // Whatever the length: by it a client tells that the server can change addresses, and its first request is bare.
        if let Some(other) = other {
            writer = writer.plain_address(OTHER_ADDRESS, other);
        }
        if writer.len() + FINGERPRINT <= self.len {
            writer = writer.fingerprint();
        }
        writer.finish()
    }

    /// The refusal of a [`Change`] that this server cannot do (RFC 5780 section 6.1: error 420); `None` if it would
    /// be longer than the request.
    pub fn refuse_change(&self) -> Option<Vec<u8>> {
        error_420(self.transaction, &[CHANGE_REQUEST], self.len)
    }
}

fn refusal(frame: &Frame<'_>, unknown: &[u16]) -> Option<Vec<u8>> {
    error_420(frame.transaction(), unknown, frame.len())
}

/// RFC 8489 section 6.3.1: an error 420 that names the attributes, with as many of them as fit.
fn error_420(transaction: TransactionId, unknown: &[u16], room: usize) -> Option<Vec<u8>> {
    (1..=unknown.len()).rev().find_map(|named| {
        let named: Vec<_> = unknown[..named].iter().map(|number| (*number).into()).collect();
        let error = Writer::new(Class::Error, transaction)
            .raw(ERROR_CODE, &UNKNOWN_ATTRIBUTE)
            .attribute(&UnknownAttributes::new(&named))
            .finish();
        (error.len() <= room).then_some(error)
    })
}

/// Bytes of an address attribute with its header (RFC 8489 section 14.1).
fn address_len(addr: SocketAddr) -> usize {
    if addr.ip().to_canonical().is_ipv4() { 12 } else { 24 }
}
