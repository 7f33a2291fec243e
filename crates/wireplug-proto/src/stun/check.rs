//! Checks: two daemons prove a path from WireGuard port to WireGuard port.
//!
//! ```text
//! request   USERNAME (tag of pair and direction, 16 hex digits), PRIORITY (tier), [USE-CANDIDATE],
//!           MESSAGE-INTEGRITY-SHA256 (check key), FINGERPRINT
//! response  XOR-MAPPED-ADDRESS (where the request came from), MESSAGE-INTEGRITY-SHA256, FINGERPRINT
//! ```
//!
//! A request that is reflected to its sender carries the tag of the wrong direction and is refused; a response
//! answers one transaction, whose id is random.

use std::net::SocketAddr;

use stun_types::attribute::XorMappedAddress;
use wireplug_core::{Tier, TransactionId};

use super::frame::{Class, Frame};
use super::integrity::{from_hex_digits, hex_digits, verify};
use super::writer::{Writer, canonical, transaction_number};
use crate::pair::{CheckTag, Pair};

/// USERNAME (RFC 8489 section 14.3).
const USERNAME: u16 = 0x0006;
/// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// PRIORITY (RFC 8445 section 16.1).
const PRIORITY: u16 = 0x0024;
/// USE-CANDIDATE (RFC 8445 section 16.1).
const USE_CANDIDATE: u16 = 0x0025;

/// A check that the peer sent, proven to be the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRequest {
    /// For the response.
    pub transaction: TransactionId,
    /// What kind of path the peer tries: for a source that is not yet known as a candidate.
    pub tier: Tier,
    /// Whether the peer means to apply this path.
    pub nominate: bool,
}

/// An answer that the peer sent, proven to be the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckResponse {
    /// Of the request.
    pub transaction: TransactionId,
    /// Where the request came from, as the peer saw it.
    pub mapped: SocketAddr,
}

/// Why a datagram is not the peer's check. All of it can come from anyone: ignore the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Not of this shape.
    #[error("the datagram is not a check: ignored")]
    NotACheck,
    /// Of another pair, or of the other direction.
    #[error("the check is not from this peer to us: ignored")]
    WrongTag,
    /// The MAC is wrong.
    #[error("the check was not made by this peer, or was altered on its way: ignored")]
    Forged,
    /// Genuine, from a version that knows more kinds of paths.
    #[error("the peer checks a kind of path that this version does not know (priority {0:#010x}): update it")]
    UnknownTier(u32),
}

impl Pair {
    /// A check to the peer. `transaction` must be random.
    pub fn check_request(&self, transaction: TransactionId, tier: Tier, nominate: bool) -> Vec<u8> {
        let mut digits = [0; 16];
        for (digits, byte) in digits.chunks_exact_mut(2).zip(self.tag_out().as_bytes()) {
            digits.copy_from_slice(&hex_digits(*byte));
        }
        let mut writer = Writer::new(Class::Request, transaction)
            .raw(USERNAME, &digits)
            .raw(PRIORITY, &priority(tier).to_be_bytes());
        if nominate {
            writer = writer.raw(USE_CANDIDATE, &[]);
        }
        writer.integrity(self.check_key()).fingerprint().finish()
    }

    /// The answer to a peer's check that came from `mapped`. Never longer than the request was.
    pub fn check_response(&self, transaction: TransactionId, mapped: SocketAddr) -> Vec<u8> {
        Writer::new(Class::Success, transaction)
            .xor_mapped_address(mapped)
            .integrity(self.check_key())
            .fingerprint()
            .finish()
    }

    /// Proves a check to be the peer's.
    ///
    /// # Errors
    /// [`CheckError`] if it is not, or not to be understood.
    pub fn open_check_request(&self, payload: &[u8]) -> Result<CheckRequest, CheckError> {
        let frame = Frame::parse(payload).filter(|f| f.class() == Class::Request);
        let frame = frame.ok_or(CheckError::NotACheck)?;
        if tag(&frame).ok_or(CheckError::NotACheck)? != self.tag_in() {
            return Err(CheckError::WrongTag);
        }
        self.prove(&frame)?;
        if frame.not_understood(&[USERNAME, PRIORITY, USE_CANDIDATE]).next().is_some() {
            return Err(CheckError::NotACheck);
        }
        let priority = frame.value(PRIORITY).and_then(|value| value.try_into().ok());
        let priority = u32::from_be_bytes(priority.ok_or(CheckError::NotACheck)?);
        Ok(CheckRequest {
            transaction: frame.transaction(),
            tier: tier(priority).ok_or(CheckError::UnknownTier(priority))?,
            nominate: frame.value(USE_CANDIDATE).is_some(),
        })
    }

    /// Proves an answer to be the peer's. The caller knows the transaction and where it was sent to.
    ///
    /// # Errors
    /// [`CheckError`] if it is not, or not to be understood.
    pub fn open_check_response(&self, payload: &[u8]) -> Result<CheckResponse, CheckError> {
        let frame = Frame::parse(payload).filter(|f| f.class() == Class::Success);
        let frame = frame.ok_or(CheckError::NotACheck)?;
        self.prove(&frame)?;
        if frame.not_understood(&[XOR_MAPPED_ADDRESS]).next().is_some() {
            return Err(CheckError::NotACheck);
        }
        Ok(CheckResponse {
            transaction: frame.transaction(),
            mapped: xor_mapped_address(&frame).ok_or(CheckError::NotACheck)?,
        })
    }

    fn prove(&self, frame: &Frame<'_>) -> Result<(), CheckError> {
        let (header, body, mac) = frame.integrity().ok_or(CheckError::NotACheck)?;
        if verify(self.check_key(), &[&header, body], mac) { Ok(()) } else { Err(CheckError::Forged) }
    }
}

/// The tag in a request's USERNAME, if it has the form of one: 16 lower-case hex digits.
pub(super) fn tag(frame: &Frame<'_>) -> Option<CheckTag> {
    Some(CheckTag::from_bytes(from_hex_digits(frame.value(USERNAME)?)?))
}

/// The address that a response says it saw, if it says one.
pub(super) fn xor_mapped_address(frame: &Frame<'_>) -> Option<SocketAddr> {
    let mapped: XorMappedAddress = frame.typed(XOR_MAPPED_ADDRESS)?;
    Some(canonical(mapped.addr(transaction_number(frame.transaction()).into())))
}

/// The PRIORITY of a tier (RFC 8445 section 5.1.2.1): type preference 110 − 10 · tier, so that a better tier has
/// the higher one; local preference 65535; component 1. Of it, only the type preference is read back.
fn priority(tier: Tier) -> u32 {
    let type_preference = 110 - 10 * u32::from(tier as u8);
    type_preference << 24 | 65535 << 8 | (256 - 1)
}

/// The reverse of [`priority`].
fn tier(priority: u32) -> Option<Tier> {
    let below = 110u32.checked_sub(priority >> 24)?;
    let number = u8::try_from(below / 10).ok()?;
    below.is_multiple_of(10).then(|| Tier::from_number(number)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_order_as_tiers_do_and_turn_back() {
        for (better, worse) in Tier::ALL.iter().zip(&Tier::ALL[1..]) {
            assert!(priority(*better) > priority(*worse));
        }
        for known in Tier::ALL {
            assert_eq!(tier(priority(known)), Some(known));
        }
        assert_eq!(tier(126 << 24), None, "an ICE host candidate's");
        assert_eq!(tier(105 << 24), None);
        assert_eq!(tier(50 << 24), None, "one worse than the worst");
        assert_eq!(tier(0), None);
    }
}
