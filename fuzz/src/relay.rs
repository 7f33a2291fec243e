//! The relay's binds over UDP, and its frames over TLS.

use std::time::Duration;

use wireplug_core::TransactionId;
use wireplug_proto::relay::{Bound, Credential, CredentialId, CredentialKey, Frame, HEADER, data_header};
use wireplug_proto::stun::relay::{BindAnswer, challenge, parse_answer, receive, refusal, request, success};
use wireplug_proto::stun::{Incoming, classify};

use crate::stun::socket_addr;

/// That of docs/PROTOCOL.md.
fn credential() -> Credential {
    Credential { id: CredentialId::from_bytes([0x66; 16]), key: CredentialKey::from_bytes([0x77; 32]) }
}

pub(crate) fn bind(data: &[u8]) {
    let credential = credential();
    if let Some(read) = receive(data)
        && read.is_by(&credential.key)
    {
        // Nobody else makes one, and there is one way to make it.
        let made = request(&credential, read.transaction, read.order, read.nonce.as_ref());
        assert!(made == data && read.id == credential.id);
    }
    if let Ok((transaction, answer)) = parse_answer(data, &credential.key) {
        assert_eq!(classify(data), Incoming::Response { transaction });
        let again = match answer {
            BindAnswer::Bound { mapped, bound } => {
                let made = success(&credential.key, transaction, mapped, bound);
                assert_eq!(made, data);
                made
            }
            BindAnswer::Challenge { nonce } => challenge(transaction, &nonce),
            BindAnswer::Refused(why) => refusal(transaction, why),
        };
        assert_eq!(parse_answer(&again, &credential.key), Ok((transaction, answer)));
    }
    made(data, &credential);
}

/// Requests and answers made from the bytes, and altered.
fn made(data: &[u8], credential: &Credential) {
    let Some((&[at, mask, ref id @ ..], rest)) = data.split_first_chunk::<14>() else { return };
    let Some((order, rest)) = rest.split_first_chunk::<8>() else { return };
    let transaction = TransactionId::from_bytes(*id);
    let (order, nonce) = (u64::from_be_bytes(*order), rest.first_chunk::<16>());
    let alter = |message: &[u8]| {
        let mut message = message.to_vec();
        let at = usize::from(at) % message.len();
        message[at] ^= mask.max(1);
        message
    };
    let asked = request(credential, transaction, order, nonce);
    let Some(read) = receive(&asked) else { panic!("our own request is none") };
    let said = (read.transaction, read.id, read.order, read.nonce.as_ref());
    assert_eq!(said, (transaction, credential.id, order, nonce));
    assert!(read.is_by(&credential.key));
    assert!(!receive(&alter(&asked)).is_some_and(|read| read.is_by(&credential.key)));

    let mapped = socket_addr(rest);
    let lifetime = Duration::from_secs(order & u64::from(u32::MAX));
    let bound = Bound { other_side: at % 2 == 0, lifetime };
    let answer = success(&credential.key, transaction, mapped, bound);
    let shortest = request(credential, transaction, order, None).len();
    assert!(answer.len() <= shortest, "an answer longer than its request");
    let expected = BindAnswer::Bound { mapped, bound };
    assert_eq!(parse_answer(&answer, &credential.key), Ok((transaction, expected)));
    assert!(parse_answer(&alter(&answer), &credential.key).is_err());
    assert!(receive(&answer).is_none(), "an answer that comes back is no request");
}

pub(crate) fn frame(data: &[u8]) {
    let Some(frame) = Frame::parse(data) else { return };
    let encoded = frame.encode();
    assert_eq!(encoded.len(), data.len());
    assert_eq!(Frame::parse(&encoded).as_ref(), Some(&frame));
    if let Frame::Data { channel, packet } = frame {
        assert_eq!(data[..HEADER], data_header(channel));
        assert_eq!(&data[HEADER..], packet);
    }
}
