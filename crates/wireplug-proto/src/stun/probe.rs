//! The server's verification probe: one Binding indication to a candidate, from an address that the daemon
//! never sent to. An indication is never answered, so a probe to a stranger provokes nothing.

use wireplug_core::TransactionId;

use super::frame::{Class, Frame};
use super::private;
use super::writer::Writer;

/// Length of a probe in bytes.
pub const PROBE_LEN: usize = 48;

/// The probe with the nonce that the daemon asked for. `transaction` must be random.
pub fn probe(transaction: TransactionId, nonce: &[u8; 16]) -> Vec<u8> {
    Writer::new(Class::Indication, transaction).raw(private::NONCE, nonce).fingerprint().finish()
}

/// The nonce of a probe; `None` if the payload is not one.
pub fn parse_probe(payload: &[u8]) -> Option<[u8; 16]> {
    let frame = Frame::parse(payload).filter(|frame| frame.class() == Class::Indication)?;
    nonce(&frame)
}

pub(super) fn nonce(frame: &Frame<'_>) -> Option<[u8; 16]> {
    if !frame.has_fingerprint() || frame.not_understood(&[]).next().is_some() {
        return None;
    }
    frame.value(private::NONCE)?.try_into().ok()
}
