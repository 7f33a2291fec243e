//! IPv4 and UDP headers, as far as raw sockets leave them to us.

use std::net::Ipv4Addr;

use super::filter::{COOKIE_OFFSET, MAGIC_COOKIE};

/// Length of a UDP header (RFC 768), in bytes.
pub(super) const UDP_HEADER: usize = 8;

/// Length of an IPv4 header without options (RFC 791 section 3.1), in bytes.
const IPV4_HEADER: usize = 20;

/// The protocol number of UDP (RFC 768).
const PROTOCOL_UDP: u8 = 17;

/// An IPv4 packet with a UDP datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ipv4<'a> {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) udp: Udp<'a>,
}

/// A UDP datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Udp<'a> {
    pub(super) from_port: u16,
    pub(super) to_port: u16,
    pub(super) payload: &'a [u8],
}

/// Reads a whole IPv4 packet (RFC 791 section 3.1) as a raw socket gives it.
pub(super) fn parse_ipv4(packet: &[u8]) -> Option<Ipv4<'_>> {
    let header = packet.first_chunk::<IPV4_HEADER>()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < IPV4_HEADER || header[9] != PROTOCOL_UDP {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Some(Ipv4 { from: address(12), to: address(16), udp: parse_udp(packet.get(length..)?)? })
}

/// Reads a UDP datagram (RFC 768). Bytes after its own length are no part of it.
///
/// The checksum is not looked at: what a host sends to itself or over a virtual link carries none that is whole
/// yet, and who wrote a message is proven by its integrity.
pub(super) fn parse_udp(datagram: &[u8]) -> Option<Udp<'_>> {
    let header = datagram.first_chunk::<UDP_HEADER>()?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let payload = datagram.get(UDP_HEADER..usize::from(field(4)))?;
    Some(Udp { from_port: field(0), to_port: field(2), payload })
}

/// Whether a payload has STUN's magic cookie where STUN has it (RFC 8489 section 5). The filter has seen so already,
/// but in bytes that a lying UDP length may have cut off since.
pub(super) fn is_stun(payload: &[u8]) -> bool {
    payload.get(COOKIE_OFFSET as usize..).is_some_and(|rest| rest.starts_with(&MAGIC_COOKIE.to_be_bytes()))
}

/// A UDP datagram with a checksum of 0, or `None` for a payload beyond what its length field holds.
pub(super) fn build_udp(from_port: u16, to_port: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend(from_port.to_be_bytes());
    datagram.extend(to_port.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend_from_slice(payload);
    Some(datagram)
}

/// Writes the checksum of a datagram of [`build_udp`] for IPv4 (RFC 768). Not left at 0, which is
/// allowed, because translators to IPv6 may drop that (RFC 7915 section 4.5).
pub(super) fn set_checksum(datagram: &mut [u8], from: Ipv4Addr, to: Ipv4Addr) {
    let mut pseudo = [0; 12];
    pseudo[0..4].copy_from_slice(&from.octets());
    pseudo[4..8].copy_from_slice(&to.octets());
    pseudo[9] = PROTOCOL_UDP;
    pseudo[10..12].copy_from_slice(&datagram[4..6]);
    datagram[6..8].fill(0);
    let sum = match !fold(word_sum(&pseudo) + word_sum(datagram)) {
        0 => 0xffff, // RFC 768: a computed 0 is sent as all ones, for 0 says that there is none
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// The sum of 16-bit words (RFC 1071 section 1), the last one padded with 0.
fn word_sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u64::from(*byte))).sum()
}

/// Folds the carries of a sum back into 16 bits (RFC 1071 section 1).
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop leaves no more than 16 bits.
    (sum & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        // Section 3, the example: 00 01 f2 03 f4 f5 f6 f7 gives ddf2.
        assert_eq!(fold(word_sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn the_checksum_is_known() {
        let mut datagram = build_udp(1234, 5678, b"abc").unwrap();
        set_checksum(&mut datagram, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        // 0a00 0001 0a00 0002 0011 000b, 04d2 162e 000b 0000 6162 6300: sum f38c once folded.
        let sum = 0x0a00u64 + 1 + 0x0a00 + 2 + 0x11 + 0xb + 0x04d2 + 0x162e + 0xb + 0x6162 + 0x6300;
        let expected = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        assert_eq!(datagram[6..8], expected.to_be_bytes());
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ones() {
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut datagram = build_udp(1, 2, &[0, 0]).unwrap();
        set_checksum(&mut datagram, from, to);
        let missing = u16::from_be_bytes([datagram[6], datagram[7]]);
        datagram[8..10].copy_from_slice(&missing.to_be_bytes());
        set_checksum(&mut datagram, from, to);
        assert_eq!(datagram[6..8], [0xff, 0xff]);
    }

    #[test]
    fn options_are_skipped_and_trailing_bytes_are_cut() {
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet[9] = PROTOCOL_UDP;
        packet[12..16].copy_from_slice(&[5, 6, 7, 8]);
        packet[16..20].copy_from_slice(&[1, 2, 3, 4]);
        packet.extend(build_udp(9, 51820, b"hello").unwrap());
        packet.extend(b"padding of the link");
        let parsed = parse_ipv4(&packet).unwrap();
        assert_eq!(parsed.from, Ipv4Addr::new(5, 6, 7, 8));
        assert_eq!(parsed.to, Ipv4Addr::new(1, 2, 3, 4));
        assert_eq!(parsed.udp, Udp { from_port: 9, to_port: 51820, payload: b"hello" });
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = parse_ipv4(&bytes);
            let _ = parse_udp(&bytes);
            let _ = is_stun(&bytes);
        }

        #[test]
        fn a_whole_datagram_sums_to_all_ones(
            payload in proptest::collection::vec(any::<u8>(), 0..64), from: u32, to: u32,
        ) {
            let (from, to) = (Ipv4Addr::from_bits(from), Ipv4Addr::from_bits(to));
            let mut datagram = build_udp(51820, 9, &payload).unwrap();
            set_checksum(&mut datagram, from, to);
            let length = u64::from(u16::from_be_bytes([datagram[4], datagram[5]]));
            let pseudo = word_sum(&from.octets()) + word_sum(&to.octets()) + 17 + length;
            prop_assert_eq!(fold(pseudo + word_sum(&datagram)), 0xffff);
        }
    }
}
