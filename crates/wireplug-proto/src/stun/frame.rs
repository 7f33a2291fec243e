//! Reading: a Binding message whose every part is inside its bounds.

use std::net::SocketAddr;

use stun_types::attribute::{Fingerprint, MappedSocketAddr, RawAttribute};
use stun_types::prelude::AttributeFromRaw;
use wireplug_core::TransactionId;

use super::writer::canonical;
use super::{MAGIC_COOKIE, MAX_MESSAGE};

/// Bytes of a STUN header (RFC 8489 section 5).
pub(super) const HEADER: usize = 20;
/// MESSAGE-INTEGRITY (RFC 8489 section 14.5).
const MESSAGE_INTEGRITY: u16 = 0x0008;
/// MESSAGE-INTEGRITY-SHA256 (RFC 8489 section 14.6).
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
/// FINGERPRINT (RFC 8489 section 14.7).
const FINGERPRINT: u16 = 0x8028;
/// What the CRC-32 of a FINGERPRINT is combined with (RFC 8489 section 14.7).
const FINGERPRINT_XOR: [u8; 4] = *b"STUN";
/// Attributes below this number must be understood (RFC 8489 section 14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// The class of a message (RFC 8489 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A Binding message: complete, exactly as long as it says, all attributes in bounds, and the fingerprint
/// right if it has one.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    bytes: &'a [u8],
    class: Class,
    transaction: TransactionId,
    /// Offset of the first integrity attribute or fingerprint, or the message's end: what follows is not
    /// covered by it and so not read as attributes (RFC 8489 section 14.5).
    covered: usize,
    /// Whether a right fingerprint ends the message.
    fingerprint: bool,
}

/// One attribute: where it begins, what it is, and its value without padding.
struct Attribute<'a> {
    offset: usize,
    number: u16,
    value: &'a [u8],
    next: usize,
}

impl<'a> Frame<'a> {
    /// Reads a datagram's payload; `None` if it is not a sound Binding message.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let [t0, t1, l0, l1, cookie @ ..] = bytes.first_chunk::<8>()?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if *cookie != MAGIC_COOKIE
            || bytes.len() > MAX_MESSAGE
            || bytes.len() < HEADER
            || length != bytes.len() - HEADER
            || !length.is_multiple_of(4)
        {
            return None;
        }
        // RFC 8489 section 5: class and method share the type; Binding is method 1.
        let class = match u16::from_be_bytes([*t0, *t1]) {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return None,
        };
        let mut covered = bytes.len();
        let mut fingerprint = false;
        let mut offset = HEADER;
        while offset < bytes.len() {
            let attribute = attribute_at(bytes, offset)?;
            if matches!(attribute.number, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 | FINGERPRINT) {
                covered = covered.min(offset);
            }
            if attribute.number == FINGERPRINT {
                if attribute.next != bytes.len() || !fingerprint_is_right(bytes, &attribute) {
                    return None;
                }
                fingerprint = true;
            }
            offset = attribute.next;
        }
        let transaction = TransactionId::from_bytes(*bytes[8..].first_chunk()?);
        Some(Self { bytes, class, transaction, covered, fingerprint })
    }

    pub(super) const fn class(&self) -> Class {
        self.class
    }

    pub(super) const fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// Length of the whole message in bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a right fingerprint ends the message.
    pub(super) const fn has_fingerprint(&self) -> bool {
        self.fingerprint
    }

    /// Number and value of the attributes before integrity and fingerprint, in order.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let Self { bytes, covered, .. } = *self;
        let mut offset = HEADER;
        std::iter::from_fn(move || {
            let attribute = (offset < covered).then(|| attribute_at(bytes, offset)).flatten()?;
            offset = attribute.next;
            Some((attribute.number, attribute.value))
        })
    }

    /// The value of the first attribute with this number.
    pub(super) fn value(&self, number: u16) -> Option<&'a [u8]> {
        self.attributes().find_map(|(found, value)| (found == number).then_some(value))
    }

    /// The first attribute of a type that `stun-types` knows.
    pub(super) fn typed<A: AttributeFromRaw<'a>>(&self, number: u16) -> Option<A> {
        let raw = RawAttribute::new(number.into(), self.value(number)?);
        A::from_raw_ref(&raw).ok()
    }

    /// An address that is not XOR-ed (the form of RFC 8489 section 14.1).
    pub(super) fn plain_address(&self, number: u16) -> Option<SocketAddr> {
        let raw = RawAttribute::new(number.into(), self.value(number)?);
        Some(canonical(MappedSocketAddr::from_raw(&raw).ok()?.addr()))
    }

    /// Numbers of attributes that must be understood and are not among `known`.
    pub(super) fn not_understood(&self, known: &[u16]) -> impl Iterator<Item = u16> {
        self.attributes()
            .map(|(number, _)| number)
            .filter(|number| *number < COMPREHENSION_OPTIONAL && !known.contains(number))
    }

    /// What MESSAGE-INTEGRITY-SHA256 covers, in two parts, and its 32 bytes, if this is a message that ends
    /// with that attribute, unshortened, and a fingerprint.
    pub(super) fn integrity(&self) -> Option<([u8; 4], &'a [u8], &'a [u8; 32])> {
        let attribute =
            (self.covered < self.bytes.len()).then(|| attribute_at(self.bytes, self.covered))??;
        let last = attribute_at(self.bytes, attribute.next)?;
        if attribute.number != MESSAGE_INTEGRITY_SHA256 || !self.fingerprint || last.next != self.bytes.len()
        {
            return None;
        }
        let header = header_until(self.bytes, attribute.next);
        Some((header, &self.bytes[4..attribute.offset], attribute.value.try_into().ok()?))
    }
}

fn attribute_at(bytes: &[u8], offset: usize) -> Option<Attribute<'_>> {
    let (header, rest) = bytes.get(offset..)?.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let padded = length.next_multiple_of(4);
    if padded > rest.len() {
        return None;
    }
    Some(Attribute {
        offset,
        number: u16::from_be_bytes([header[0], header[1]]),
        value: &rest[..length],
        next: offset + 4 + padded,
    })
}

/// The type and the length that the message would have if it ended at `end` (RFC 8489 sections 14.5 to 14.7).
fn header_until(bytes: &[u8], end: usize) -> [u8; 4] {
    // Proof: `end` is at most MAX_MESSAGE, 1232.
    #[expect(clippy::cast_possible_truncation)]
    let [l0, l1] = ((end - HEADER) as u16).to_be_bytes();
    [bytes[0], bytes[1], l0, l1]
}

fn fingerprint_is_right(bytes: &[u8], attribute: &Attribute<'_>) -> bool {
    let header = header_until(bytes, attribute.next);
    let crc = Fingerprint::compute(&[&header, &bytes[4..attribute.offset]]);
    let expected: [u8; 4] = std::array::from_fn(|i| crc[i] ^ FINGERPRINT_XOR[i]);
    attribute.value == expected
}
