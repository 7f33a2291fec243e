//! Binding between daemon and server: what mapping a NAT gives the WireGuard port (RFC 8489), how it depends on
//! the destination (RFC 5780), and whose address it is (our ownership token).
//!
//! The client's request is [`REQUEST_LEN`] bytes, as long as the longest answer, so that the server, who knows
//! no sender, multiplies nobody's traffic. It answers with what fits the request, but for two attributes that are
//! sent even if the request was shorter: XOR-MAPPED-ADDRESS, which RFC 8489 demands, and from a server with two
//! addresses OTHER-ADDRESS, without which other clients of RFC 5780, whose first request is bare, take it for one that
//! cannot tell NATs apart. A bare header so gets 24 bytes more over IPv4 and 48 over IPv6: with the headers of IP and UDP,
//! 1.5 and 1.7 times what was asked.

mod client;
mod server;

pub use client::{BindingError, BindingResponse, parse_response, request};
pub use server::{BindingRequest, Received, receive};

/// Length of the client's request in bytes: 20 of header, three IPv6 addresses of 24 each, and 8 of
/// fingerprint, as the longest answer has.
pub const REQUEST_LEN: usize = 20 + 3 * 24 + 8;

/// CHANGE-REQUEST (RFC 5780 section 7.2).
const CHANGE_REQUEST: u16 = 0x0003;
/// RESPONSE-ORIGIN (RFC 5780 section 7.3).
const RESPONSE_ORIGIN: u16 = 0x802b;
/// OTHER-ADDRESS (RFC 5780 section 7.4).
const OTHER_ADDRESS: u16 = 0x802c;

/// From where the server shall answer (RFC 5780 section 7.2, CHANGE-REQUEST).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Change {
    /// From where the request arrived; without the attribute.
    #[default]
    None,
    /// From the same address and another port.
    Port,
    /// From another address and the same port.
    Address,
    /// From another address and another port.
    AddressAndPort,
}

impl Change {
    /// "change port" is bit 1 of the last byte, "change IP" bit 2 (RFC 5780 section 7.2).
    const fn flags(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Port => 2,
            Self::Address => 4,
            Self::AddressAndPort => 6,
        }
    }

    const fn from_flags(flags: u32) -> Self {
        match flags & 6 {
            2 => Self::Port,
            4 => Self::Address,
            6 => Self::AddressAndPort,
            _ => Self::None,
        }
    }
}
