//! WireGuard's own messages, as far as one without its keys can tell them (WireGuard whitepaper section 5.4).

/// The kind of a WireGuard message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The first message of a handshake.
    Initiation = 1,
    /// The second message of a handshake.
    Response = 2,
    /// A cookie, sent instead of a handshake message by a host under load.
    CookieReply = 3,
    /// A sealed IP packet, or an empty keepalive.
    Data = 4,
}

/// Bytes of an initiation (section 5.4.2).
pub const INITIATION_LEN: usize = 148;
/// Bytes of a response (section 5.4.3).
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply (section 5.4.7).
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes of the shortest data message, the keepalive: 16 of header, 16 of tag (section 5.4.6).
pub const KEEPALIVE_LEN: usize = 32;

/// What kind of WireGuard message a datagram has the shape of: the type, three zero bytes, and a length.
///
/// Nothing is asked of a data message's length but the minimum: its plaintext is padded to 16 bytes, yet
/// never beyond the interface's MTU, and the usual MTU of 1420 is not a multiple of 16.
pub fn kind(datagram: &[u8]) -> Option<Kind> {
    match (datagram.first_chunk::<4>()?, datagram.len()) {
        ([1, 0, 0, 0], INITIATION_LEN) => Some(Kind::Initiation),
        ([2, 0, 0, 0], RESPONSE_LEN) => Some(Kind::Response),
        ([3, 0, 0, 0], COOKIE_REPLY_LEN) => Some(Kind::CookieReply),
        ([4, 0, 0, 0], KEEPALIVE_LEN..) => Some(Kind::Data),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, len: usize) -> Vec<u8> {
        let mut message = vec![0xaa; len];
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message
    }

    #[test]
    fn each_kind_has_its_length() {
        for (number, len, expected) in [
            (1, 148, Some(Kind::Initiation)),
            (1, 147, None),
            (2, 92, Some(Kind::Response)),
            (2, 148, None),
            (3, 64, Some(Kind::CookieReply)),
            (3, 65, None),
            (4, 31, None),
            (4, 32, Some(Kind::Data)),
            (4, 1452, Some(Kind::Data)), // a full packet at MTU 1420
            (5, 148, None),
            (0, 32, None),
        ] {
            assert_eq!(kind(&message(number, len)), expected, "type {number}, {len} bytes");
        }
    }

    #[test]
    fn reserved_bytes_are_zero() {
        let mut wrong = message(4, 32);
        wrong[2] = 1;
        assert_eq!(kind(&wrong), None);
        assert_eq!(kind(&[4, 0, 0]), None);
        assert_eq!(kind(&[]), None);
    }
}
