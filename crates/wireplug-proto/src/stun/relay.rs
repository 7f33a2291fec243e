//! Binding a WireGuard port to a relay port: the authenticated messages between daemon and relay over UDP.
//!
//! ```text
//! request    USERNAME (credential id, 32 hex digits), ORDER (rises with each request), [NONCE],
//!            MESSAGE-INTEGRITY-SHA256 (credential key), FINGERPRINT
//! success    XOR-MAPPED-ADDRESS, BOUND (flags, lifetime), MESSAGE-INTEGRITY-SHA256, FINGERPRINT
//! challenge  ERROR-CODE 438, NONCE, FINGERPRINT
//! refusal    ERROR-CODE 401, 437 or 486, FINGERPRINT
//! ```
//!
//! The nonce comes back only from who receives at the source address, so nobody binds an address of somebody
//! else's. ORDER makes a recorded request worthless once a later one was accepted. No answer is longer than the
//! shortest request.

use std::net::SocketAddr;
use std::time::Duration;

use wireplug_core::TransactionId;

use super::check::xor_mapped_address;
use super::frame::{Class, Frame};
use super::integrity::{hex_digits, verify};
use super::private;
use super::writer::Writer;
use crate::relay::{
    BindRefusal, Bound, Credential, CredentialId, CredentialKey, OTHER_SIDE, lifetime_seconds,
};

/// USERNAME (RFC 8489 section 14.3).
const USERNAME: u16 = 0x0006;
/// ERROR-CODE (RFC 8489 section 14.8).
const ERROR_CODE: u16 = 0x0009;
/// NONCE (RFC 8489 section 14.10), here 32 hex digits.
const NONCE: u16 = 0x0015;
/// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Stale Nonce (RFC 8489 section 14.8); also where there was none yet.
const STALE_NONCE: u16 = 438;

/// A request that came to a relay port. Nothing of it is proven before [`BindRequest::is_by`].
#[derive(Clone, Copy)]
pub struct BindRequest<'a> {
    /// For the answer.
    pub transaction: TransactionId,
    /// For the look-up.
    pub id: CredentialId,
    /// Rises with each request of one credential.
    pub order: u64,
    /// What the server said in its challenge.
    pub nonce: Option<[u8; 16]>,
    frame: Frame<'a>,
}

/// What a relay said of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAnswer {
    /// It is bound, and the server has shown that it knows the credential.
    Bound {
        /// Where the request came from, as the server saw it.
        mapped: SocketAddr,
        /// What that gives.
        bound: Bound,
    },
    /// To be sent again at once, with this nonce.
    Challenge {
        /// For the next request.
        nonce: [u8; 16],
    },
    /// It is not bound. Anyone on the way could say so: a reason to ask the server, not to believe it.
    Refused(BindRefusal),
}

/// Why there is no answer of a relay in a datagram. All of it can come from anyone: ignore the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Not of this shape.
    #[error("the datagram is not a relay's answer: ignored")]
    NotAnAnswer,
    /// The MAC is wrong.
    #[error("the relay's answer was not made with this credential, or was altered on its way: ignored")]
    Forged,
}

/// A request to bind, from the WireGuard port to the relay port. `transaction` must be random; `order` must be
/// higher than in all requests with this credential before, also repeated ones.
pub fn request(
    credential: &Credential,
    transaction: TransactionId,
    order: u64,
    nonce: Option<&[u8; 16]>,
) -> Vec<u8> {
    let mut writer = Writer::new(Class::Request, transaction)
        .raw(USERNAME, &hex(credential.id.as_bytes()))
        .raw(private::ORDER, &order.to_be_bytes());
    if let Some(nonce) = nonce {
        writer = writer.raw(NONCE, &hex(nonce));
    }
    writer.integrity(credential.key.expose()).fingerprint().finish()
}

/// Reads a datagram that came to a relay port; `None` if it is no request to bind.
pub fn receive(payload: &[u8]) -> Option<BindRequest<'_>> {
    let frame = Frame::parse(payload).filter(|frame| frame.class() == Class::Request)?;
    frame.integrity()?;
    if frame.not_understood(&[USERNAME, NONCE]).next().is_some() {
        return None;
    }
    let nonce = match frame.value(NONCE) {
        None => None,
        Some(digits) => Some(unhex(digits)?),
    };
    Some(BindRequest {
        transaction: frame.transaction(),
        id: CredentialId::from_bytes(unhex(frame.value(USERNAME)?)?),
        order: u64::from_be_bytes(frame.value(private::ORDER)?.try_into().ok()?),
        nonce,
        frame,
    })
}

impl BindRequest<'_> {
    /// Whether it was made with this key and not altered. One MAC.
    pub fn is_by(&self, key: &CredentialKey) -> bool {
        let integrity = self.frame.integrity();
        integrity.is_some_and(|(header, body, mac)| verify(key.expose(), &[&header, body], mac))
    }
}

/// The answer to a source that is bound now; `mapped` is where the request came from.
pub fn success(key: &CredentialKey, transaction: TransactionId, mapped: SocketAddr, bound: Bound) -> Vec<u8> {
    let mut value = [0; 8];
    value[3] = u8::from(bound.other_side) * OTHER_SIDE;
    value[4..].copy_from_slice(&lifetime_seconds(bound.lifetime).to_be_bytes());
    Writer::new(Class::Success, transaction)
        .xor_mapped_address(mapped)
        .raw(private::BOUND, &value)
        .integrity(key.expose())
        .fingerprint()
        .finish()
}

/// The answer to a request without the right nonce.
pub fn challenge(transaction: TransactionId, nonce: &[u8; 16]) -> Vec<u8> {
    Writer::new(Class::Error, transaction)
        .raw(ERROR_CODE, &error_code(STALE_NONCE))
        .raw(NONCE, &hex(nonce))
        .fingerprint()
        .finish()
}

/// The answer to a request that cannot be granted.
pub fn refusal(transaction: TransactionId, refusal: BindRefusal) -> Vec<u8> {
    Writer::new(Class::Error, transaction).raw(ERROR_CODE, &error_code(refusal as u16)).fingerprint().finish()
}

/// Reads a relay's answer. The caller knows the transaction, where it was sent to and with which credential.
///
/// # Errors
/// [`BindError`] if it is none, or not by the server that gave the credential.
pub fn parse_answer(payload: &[u8], key: &CredentialKey) -> Result<(TransactionId, BindAnswer), BindError> {
    let frame = Frame::parse(payload).ok_or(BindError::NotAnAnswer)?;
    let answer = match frame.class() {
        Class::Success => bound(&frame, key)?,
        Class::Error => error(&frame).ok_or(BindError::NotAnAnswer)?,
        Class::Request | Class::Indication => return Err(BindError::NotAnAnswer),
    };
    Ok((frame.transaction(), answer))
}

fn bound(frame: &Frame<'_>, key: &CredentialKey) -> Result<BindAnswer, BindError> {
    let (header, body, mac) = frame.integrity().ok_or(BindError::NotAnAnswer)?;
    if !verify(key.expose(), &[&header, body], mac) {
        return Err(BindError::Forged);
    }
    if frame.not_understood(&[XOR_MAPPED_ADDRESS]).next().is_some() {
        return Err(BindError::NotAnAnswer);
    }
    let value: Option<&[u8; 8]> = frame.value(private::BOUND).and_then(|value| value.try_into().ok());
    let [_, _, _, flags, lifetime @ ..] = value.ok_or(BindError::NotAnAnswer)?;
    Ok(BindAnswer::Bound {
        mapped: xor_mapped_address(frame).ok_or(BindError::NotAnAnswer)?,
        bound: Bound {
            other_side: flags & OTHER_SIDE != 0,
            lifetime: Duration::from_secs(u64::from(u32::from_be_bytes(*lifetime))),
        },
    })
}

fn error(frame: &Frame<'_>) -> Option<BindAnswer> {
    if !frame.has_fingerprint() || frame.not_understood(&[ERROR_CODE, NONCE]).next().is_some() {
        return None;
    }
    let [_, _, class, number, ..] = frame.value(ERROR_CODE)? else { return None };
    match u16::from(class & 7) * 100 + u16::from(*number) {
        STALE_NONCE => Some(BindAnswer::Challenge { nonce: unhex(frame.value(NONCE)?)? }),
        code => BindRefusal::from_code(code).map(BindAnswer::Refused),
    }
}

/// Class and number of an error, without words (RFC 8489 section 14.8).
fn error_code(code: u16) -> [u8; 4] {
    // Proof: codes are below 700, so both parts fit a byte.
    #[expect(clippy::cast_possible_truncation)]
    [0, 0, (code / 100) as u8, (code % 100) as u8]
}

fn hex(bytes: &[u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (digits, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(&hex_digits(*byte));
    }
    digits
}

fn unhex(digits: &[u8]) -> Option<[u8; 16]> {
    super::integrity::from_hex_digits(digits)
}
