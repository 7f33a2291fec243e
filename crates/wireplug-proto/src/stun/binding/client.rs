//! The daemon's half: the request, and what the answer says.

use std::net::SocketAddr;

use stun_types::attribute::ErrorCode;
use wireplug_core::TransactionId;

use super::super::check::{XOR_MAPPED_ADDRESS, xor_mapped_address};
use super::super::frame::{Class, Frame};
use super::super::private;
use super::super::writer::{FINGERPRINT, Writer};
use super::{CHANGE_REQUEST, Change, OTHER_ADDRESS, REQUEST_LEN, RESPONSE_ORIGIN};

/// ERROR-CODE (RFC 8489 section 14.8).
const ERROR_CODE: u16 = 0x0009;
/// What a success response may hold that must be understood: MAPPED-ADDRESS, which is not read because some
/// NATs rewrite it (RFC 8489 section 14.2), and XOR-MAPPED-ADDRESS.
const UNDERSTOOD: [u16; 2] = [0x0001, XOR_MAPPED_ADDRESS];

/// What a server said of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingResponse {
    /// Of the request.
    pub transaction: TransactionId,
    /// Where the request came from, as the server saw it.
    pub mapped: SocketAddr,
    /// The server's other address and port (RFC 5780 section 7.4), if it has one.
    pub other_address: Option<SocketAddr>,
    /// Where the server sent this from, in its own view (RFC 5780 section 7.3).
    pub response_origin: Option<SocketAddr>,
}

/// Why there is no answer in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Not a Binding response, or one without an address.
    #[error("the datagram is not an answer to a STUN request: ignored")]
    NotAResponse,
    /// The server refused the request (RFC 8489 section 14.8).
    #[error("the STUN server refused the request with error {code}: ask another server, or ask less of it")]
    Refused {
        /// Of the request.
        transaction: TransactionId,
        /// 300 to 699; 420 if the server cannot answer from elsewhere.
        code: u16,
    },
}

/// A request of [`REQUEST_LEN`] bytes. `transaction` must be random; `token` is that of the server's `Hello`,
/// shown once for each family and address that shall be this connection's own.
pub fn request(transaction: TransactionId, token: Option<&[u8; 16]>, change: Change) -> Vec<u8> {
    let mut writer = Writer::new(Class::Request, transaction);
    if change != Change::None {
        writer = writer.raw(CHANGE_REQUEST, &change.flags().to_be_bytes());
    }
    if let Some(token) = token {
        writer = writer.raw(private::TOKEN, token);
    }
    // Header 20, change 8, token 20, filler's own header 4 and fingerprint 8 leave 40 to fill, or more.
    let filler = vec![0; REQUEST_LEN - writer.len() - 4 - FINGERPRINT];
    writer.raw(private::FILLER, &filler).fingerprint().finish()
}

/// Reads a server's answer. The caller knows the transaction and where it was sent to.
///
/// # Errors
/// [`BindingError`] if it is none, or if the server refused.
pub fn parse_response(payload: &[u8]) -> Result<BindingResponse, BindingError> {
    let frame = Frame::parse(payload).ok_or(BindingError::NotAResponse)?;
    let transaction = frame.transaction();
    match frame.class() {
        Class::Success if frame.not_understood(&UNDERSTOOD).next().is_none() => Ok(BindingResponse {
            transaction,
            mapped: xor_mapped_address(&frame).ok_or(BindingError::NotAResponse)?,
            other_address: frame.plain_address(OTHER_ADDRESS),
            response_origin: frame.plain_address(RESPONSE_ORIGIN),
        }),
        Class::Error => {
            let error: ErrorCode = frame.typed(ERROR_CODE).ok_or(BindingError::NotAResponse)?;
            Err(BindingError::Refused { transaction, code: error.code() })
        }
        _ => Err(BindingError::NotAResponse),
    }
}
