//! Writing: the attributes of a Binding message in the order that RFC 8489 wants them.

use std::net::SocketAddr;

use stun_types::attribute::{
    Fingerprint, MappedSocketAddr, MessageIntegritySha256, RawAttribute, XorMappedAddress,
};
use stun_types::message::{BINDING, Message, MessageClass, MessageType, MessageWriteVec};
use stun_types::prelude::{AttributeWrite, MessageWrite as _, MessageWriteExt as _};
use wireplug_core::TransactionId;

use super::frame::{Class, HEADER};
use super::integrity;

/// Bytes of MESSAGE-INTEGRITY-SHA256 with its header.
const INTEGRITY: usize = 36;
/// Bytes of FINGERPRINT with its header.
pub(super) const FINGERPRINT: usize = 8;

/// A Binding message in the making.
pub(super) struct Writer(MessageWriteVec);

impl Writer {
    pub(super) fn new(class: Class, transaction: TransactionId) -> Self {
        let class = match class {
            Class::Request => MessageClass::Request,
            Class::Indication => MessageClass::Indication,
            Class::Success => MessageClass::Success,
            Class::Error => MessageClass::Error,
        };
        let kind = MessageType::from_class_method(class, BINDING);
        Self(Message::builder(kind, transaction_number(transaction).into(), MessageWriteVec::new()))
    }

    pub(super) fn attribute(mut self, attribute: &dyn AttributeWrite) -> Self {
        self.0.push_attribute_unchecked(attribute);
        self
    }

    pub(super) fn raw(self, number: u16, value: &[u8]) -> Self {
        self.attribute(&RawAttribute::new(number.into(), value))
    }

    pub(super) fn xor_mapped_address(self, addr: SocketAddr) -> Self {
        let transaction = self.0.transaction_id();
        self.attribute(&XorMappedAddress::new(canonical(addr), transaction))
    }

    /// An address that is not XOR-ed (the form of RFC 8489 section 14.1).
    pub(super) fn plain_address(self, number: u16, addr: SocketAddr) -> Self {
        self.attribute(&MappedSocketAddr::new(canonical(addr)).to_raw(number.into()))
    }

    /// Length so far in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.data().len()
    }

    pub(super) fn integrity(mut self, key: &[u8; 32]) -> Self {
        // Proof: 32 bytes are the length that the attribute has.
        #[expect(clippy::expect_used)]
        let blank = MessageIntegritySha256::new(&[0; 32]).expect("32 bytes are accepted");
        self.0.push_attribute_unchecked(&blank);
        let (covered, attribute) = self.split(INTEGRITY);
        let mac = integrity::mac(key, &[covered]);
        attribute[4..].copy_from_slice(&mac);
        self
    }

    pub(super) fn fingerprint(mut self) -> Self {
        self.0.push_attribute_unchecked(&Fingerprint::new([0; 4]));
        let (covered, attribute) = self.split(FINGERPRINT);
        Fingerprint::new(Fingerprint::compute(&[covered])).write_into_unchecked(attribute);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.finish()
    }

    /// What the last attribute covers, and the attribute itself. The header's length includes it already, as
    /// RFC 8489 sections 14.6 and 14.7 ask for.
    fn split(&mut self, attribute: usize) -> (&[u8], &mut [u8]) {
        let data = self.0.mut_data();
        let (covered, attribute) = data.split_at_mut(data.len() - attribute);
        debug_assert!(covered.len() >= HEADER);
        (covered, attribute)
    }
}

/// The transaction id as `stun-types` counts it: the low 96 bits in network order.
pub(super) fn transaction_number(transaction: TransactionId) -> u128 {
    transaction.as_bytes().iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// An IPv4-mapped IPv6 address as the IPv4 one that it stands for, scope and flow left out.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
