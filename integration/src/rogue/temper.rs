//! What a rogue server does wrong.

use std::net::SocketAddr;

use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::protocol::Message;
use wireplug_proto::rendezvous::{About, MAX_FRAME, Reason, ServerMessage};
use wireplug_proto::{MAX_SEALED, Topic};

use crate::random;

/// Offers that nobody made, of each flood.
const FLOOD: usize = 400;
/// Messages of each babble.
const WORDS: usize = 2000;
/// Where a sealed offer is changed, in bytes from its start: its version, its nonce, its first sealed byte.
const SPOTS: [usize; 3] = [0, 1, 25];

/// How a server behaves.
#[derive(Debug, Clone, Default)]
pub enum Temper {
    /// As it should.
    #[default]
    Honest,
    /// Tells everybody this address as their own, by STUN, and says of every probe that it was sent.
    LiesInStun(SocketAddr),
    /// Tells no genuine offer. Instead: altered, truncated and invented ones, the reader's own, those of
    /// other topics, and these, which are sealed for others.
    Forges(Vec<Vec<u8>>),
    /// Before and after each new offer, tells all older ones of the topic, newest first, those of former runs
    /// and places included.
    Replays,
    /// Says what no server says; each connection is told the next one, from the first again after the last.
    Babbles(Vec<Babble>),
}

/// What no server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Babble {
    /// Hangs up before TLS.
    HangsUp,
    /// Accepts, and does not even begin TLS.
    HoldsOff,
    /// Answers the request for a WebSocket with something else.
    IsSomethingElse,
    /// Says nothing at all, not even hello.
    IsSilent,
    /// Random bytes in binary frames.
    Garbage,
    /// A text frame.
    Text,
    /// A frame that is longer than allowed.
    Giant,
    /// An offer that is longer than any.
    GiantOffer,
    /// Well-formed messages about nothing: probes, refusals, offers and joins that nobody asked for.
    Chatter,
}

/// What comes of a new offer, first things first.
pub(super) struct Told {
    /// To the writer itself.
    pub(super) back: Vec<Vec<u8>>,
    /// To the other side.
    pub(super) on: Vec<Vec<u8>>,
    /// How many of all are lies.
    pub(super) lies: usize,
}

impl Temper {
    /// Who a client is told to be.
    pub(super) fn mapped(&self, seen: SocketAddr) -> SocketAddr {
        if let Self::LiesInStun(address) = self { *address } else { seen }
    }

    /// What to tell of a new offer. `older` are all of its side before it, oldest first; `elsewhere` are the
    /// offers of other topics.
    pub(super) fn tell(&self, new: &[u8], older: &[Vec<u8>], elsewhere: &[Vec<u8>]) -> Told {
        match self {
            Self::Honest | Self::LiesInStun(_) | Self::Babbles(_) => {
                Told { back: Vec::new(), on: vec![new.to_vec()], lies: 0 }
            }
            Self::Forges(foreign) => {
                let mut on = altered(new);
                on.extend(elsewhere.iter().chain(foreign).cloned());
                on.extend((0..FLOOD).map(|_| invented(new.len())));
                let back = [&[new.to_vec()], &foreign[..]].concat();
                Told { lies: on.len() + back.len(), on, back }
            }
            Self::Replays => {
                let backwards = || older.iter().rev().cloned();
                let on: Vec<_> = backwards().chain([new.to_vec()]).chain(backwards()).collect();
                Told { back: vec![new.to_vec()], lies: on.len(), on }
            }
        }
    }
}

/// One offer, changed in every way that leaves it looking like one.
fn altered(sealed: &[u8]) -> Vec<Vec<u8>> {
    let flipped = SPOTS.into_iter().chain([sealed.len().saturating_sub(1)]).map(|spot| {
        let mut copy = sealed.to_vec();
        if let Some(byte) = copy.get_mut(spot) {
            *byte ^= 1;
        }
        copy
    });
    let cut =
        [0, 1, sealed.len() / 2, sealed.len().saturating_sub(1)].map(|length| sealed[..length].to_vec());
    let longer = [sealed, &[0]].concat();
    flipped.chain(cut).chain([longer]).filter(|offer| offer.len() <= MAX_SEALED).collect()
}

/// An offer of the right version and length, and nothing else right.
fn invented(length: usize) -> Vec<u8> {
    let mut offer: Vec<u8> = std::iter::repeat_with(random::<32>).take(length / 32 + 1).flatten().collect();
    offer.truncate(length);
    if let Some(version) = offer.first_mut() {
        *version = 1;
    }
    offer
}

impl Babble {
    /// All kinds, those that take longest last.
    pub const ALL: [Self; 9] = [
        Self::Garbage,
        Self::Chatter,
        Self::GiantOffer,
        Self::IsSomethingElse,
        Self::Text,
        Self::Giant,
        Self::HangsUp,
        Self::IsSilent,
        Self::HoldsOff,
    ];

    /// What is said on an open WebSocket, after a proper hello.
    pub(super) fn words(self) -> Vec<Message> {
        let endless = || std::iter::repeat_n((), WORDS);
        match self {
            Self::HangsUp | Self::HoldsOff | Self::IsSomethingElse | Self::IsSilent => Vec::new(),
            Self::Garbage => endless().map(|()| Message::binary(random::<48>().to_vec())).collect(),
            Self::Text => vec![Message::text("who are you?")],
            Self::Giant => vec![Message::binary(vec![0; 64 * MAX_FRAME])],
            Self::GiantOffer => vec![Message::binary(giant_offer())],
            Self::Chatter => endless().flat_map(|()| chatter()).map(Message::binary).collect(),
        }
    }
}

/// An `Offer` whose `sealed` has one byte more than any: the encoding of the rendezvous protocol by hand, since
/// its own codec would not write it.
fn giant_offer() -> Vec<u8> {
    /// The key of a length-delimited field in Protocol Buffers: the field's number, and wire type 2.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let (low, high) = (bytes.len() & 0x7f, bytes.len() >> 7);
        let mut out = vec![number << 3 | 2];
        // The mask and the shift leave 7 and, for what fits a frame, at most 5 bits.
        out.extend([low, high].map(|part| u8::try_from(part).unwrap_or(0x7f)));
        out[1] |= 0x80;
        out.extend_from_slice(bytes);
        out
    }
    field(3, &[field(1, &[7; 32]), field(2, &[1; MAX_SEALED + 1])].concat())
}

fn chatter() -> Vec<Bytes> {
    let id = u64::from_ne_bytes(random());
    let topic = Topic::from_bytes(random());
    let refused = |about| ServerMessage::Refused {
        about,
        reason: Reason::NotYours,
        detail: "no\u{7}".repeat(300),
        retry_after: None,
    };
    let messages = [
        ServerMessage::Probed { id },
        ServerMessage::Probed { id: id % 8 },
        ServerMessage::Pong { id },
        ServerMessage::Joined { topic },
        ServerMessage::Offer { topic, sealed: random::<32>().to_vec() },
        refused(About::Verify(id)),
        refused(About::Publish(topic)),
        refused(About::Join(topic)),
        ServerMessage::Unknown,
    ];
    messages.iter().map(|message| message.encode().into()).collect()
}

#[cfg(test)]
mod tests {
    use wireplug_proto::rendezvous::FrameError;

    use super::*;

    #[test]
    fn a_giant_offer_is_an_offer_but_for_its_size() {
        let error = ServerMessage::decode(&giant_offer()).unwrap_err();
        assert!(matches!(error, FrameError::Field { message: "Offer", field: "sealed", .. }), "{error}");
    }

    #[test]
    fn forging_tells_nothing_genuine_to_the_other_side() {
        let new = vec![1; 297];
        let told = Temper::Forges(vec![vec![2; 297]]).tell(&new, &[], &[vec![3; 297]]);
        assert!(told.on.iter().all(|offer| *offer != new));
        assert!(told.on.len() > FLOOD && told.back.contains(&new));
    }

    #[test]
    fn replaying_ends_with_the_oldest() {
        let told = Temper::Replays.tell(&[3], &[vec![1], vec![2]], &[]);
        assert_eq!(told.on, [[2], [1], [3], [2], [1]]);
    }
}
