//! The pair: everything that follows from this interface's key and one peer's key.
//!
//! ```text
//! shared = X25519(own private, peer public)                     all-zero result refused
//! prk    = HKDF-Extract(SHA-256, salt "wireplug pair v1", shared)
//! X      = HKDF-Expand(prk, label of X ‖ lower public key ‖ higher public key)
//! topic  = SHA-256("wireplug topic v1" ‖ SHA-256(token of Low) ‖ SHA-256(token of High))
//! ```
//!
//! The topic commits to a token of each side, so a server that keeps nothing can tell who may join it
//! ([`verify_join`]), and a stranger who learns the topic's name cannot.

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wireplug_core::{PrivateKey, PublicKey};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Domain of all keys of a pair; another version of the protocol takes another.
const PAIR_SALT: &[u8] = b"wireplug pair v1";
/// Domain of the topic's name.
const TOPIC_DOMAIN: &[u8] = b"wireplug topic v1";

/// What this interface shares with one peer: a mailbox on the server and keys for all they tell each other.
///
/// Both sides derive the same pair, seen from opposite ends. Its secrets are wiped when it is dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Pair {
    #[zeroize(skip)]
    topic: Topic,
    #[zeroize(skip)]
    side: Side,
    token: JoinToken,
    #[zeroize(skip)]
    other_commitment: Commitment,
    seal_out: [u8; 32],
    seal_in: [u8; 32],
    check_key: [u8; 32],
    #[zeroize(skip)]
    tag_out: CheckTag,
    #[zeroize(skip)]
    tag_in: CheckTag,
}

/// Why two keys make no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The peer's key is the interface's own.
    #[error("the peer {0} has this interface's own key: give each machine a key of its own (`wg genkey`)")]
    OwnKey(PublicKey),
    /// The peer's key is a point of small order: the secret would be known to everyone.
    #[error("the peer's key {0} is not a usable WireGuard key: check it against `wg pubkey` on the peer")]
    WeakKey(PublicKey),
}

/// Which of a pair's two sides: told by the public keys, so both agree on it without talking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Side {
    /// The side whose public key is the lower one, as bytes in order.
    Low = 0,
    /// The side whose public key is the higher one.
    High = 1,
}

/// The name of a pair's mailbox on the server. `Debug` is its first eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic([u8; 32]);

/// What one side shows to join a topic. `Debug` prints nothing of it; it is wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct JoinToken([u8; 32]);

/// The SHA-256 of the other side's [`JoinToken`]: enough to check a topic's name, not enough to join.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commitment([u8; 32]);

/// Eight bytes that name a pair and a direction in a check's USERNAME: junk costs one look-up, not a MAC
/// for every peer, and a request that is reflected to its sender names nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckTag([u8; 8]);

impl Pair {
    /// The pair of an interface's own key and a peer's.
    ///
    /// # Errors
    /// [`PairError`] if the keys are equal, or if the peer's would make a secret that everyone knows.
    pub fn derive(own: &PrivateKey, peer: &PublicKey) -> Result<Self, PairError> {
        let secret = StaticSecret::from(*own.expose());
        let own_public = PublicKey::from_bytes(x25519_dalek::PublicKey::from(&secret).to_bytes());
        if own_public == *peer {
            return Err(PairError::OwnKey(*peer));
        }
        // RFC 7748 section 6.1: an all-zero result comes from a point of small order.
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*peer.as_bytes()));
        if !shared.was_contributory() {
            return Err(PairError::WeakKey(*peer));
        }
        let (side, low, high) =
            if own_public < *peer { (Side::Low, &own_public, peer) } else { (Side::High, peer, &own_public) };
        let expand = Expand { kdf: Hkdf::new(Some(PAIR_SALT), shared.as_bytes()), low, high };
        let from_low = Directed {
            token: JoinToken(expand.key(b"join token low")),
            seal: expand.key(b"seal from low"),
            tag: CheckTag(expand.key(b"check tag from low")),
        };
        let from_high = Directed {
            token: JoinToken(expand.key(b"join token high")),
            seal: expand.key(b"seal from high"),
            tag: CheckTag(expand.key(b"check tag from high")),
        };
        let topic = Topic::of(&from_low.token.commitment(), &from_high.token.commitment());
        let (out, inward) = match side {
            Side::Low => (from_low, from_high),
            Side::High => (from_high, from_low),
        };
        Ok(Self {
            topic,
            side,
            other_commitment: inward.token.commitment(),
            token: out.token.clone(),
            seal_out: out.seal,
            seal_in: inward.seal,
            check_key: expand.key(b"check"),
            tag_out: out.tag,
            tag_in: inward.tag,
        })
    }

    /// The pair's mailbox on the server.
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// Which side this interface is; with no session, the low side alone applies first.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// What this side shows to join the topic.
    pub const fn token(&self) -> &JoinToken {
        &self.token
    }

    /// What a joiner of this side knows of the other side's token.
    pub const fn other_commitment(&self) -> Commitment {
        self.other_commitment
    }

    /// The tag in the checks that this side sends.
    pub const fn tag_out(&self) -> CheckTag {
        self.tag_out
    }

    /// The tag in the checks that the peer sends: what a received check is looked up by.
    pub const fn tag_in(&self) -> CheckTag {
        self.tag_in
    }

    pub(crate) const fn seal_out(&self) -> &[u8; 32] {
        &self.seal_out
    }

    pub(crate) const fn seal_in(&self) -> &[u8; 32] {
        &self.seal_in
    }

    pub(crate) const fn check_key(&self) -> &[u8; 32] {
        &self.check_key
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("topic", &self.topic).field("side", &self.side).finish_non_exhaustive()
    }
}

/// Whether a joiner belongs to a topic: its token and the commitment that it shows for the other side are
/// those that the topic's name was made of. The server needs to remember nothing for it.
pub fn verify_join(topic: &Topic, side: Side, token: &JoinToken, other: &Commitment) -> bool {
    let own = token.commitment();
    let made = match side {
        Side::Low => Topic::of(&own, other),
        Side::High => Topic::of(other, &own),
    };
    made.0.ct_eq(&topic.0).into()
}

impl Side {
    /// The side of a number on the wire, if there is one.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Low),
            1 => Some(Self::High),
            _ => None,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl Topic {
    /// A topic from its 32 bytes on the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes on the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(low: &Commitment, high: &Commitment) -> Self {
        Self(
            Sha256::new()
                .chain_update(TOPIC_DOMAIN)
                .chain_update(low.0)
                .chain_update(high.0)
                .finalize()
                .into(),
        )
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..4])?;
        f.write_str("…")
    }
}

impl JoinToken {
    /// A token from its 32 bytes on the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes on the wire: for the join message only.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the other side may know of it.
    pub fn commitment(&self) -> Commitment {
        Commitment(Sha256::digest(self.0).into())
    }
}

impl PartialEq for JoinToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for JoinToken {}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(redacted)")
    }
}

impl Commitment {
    /// A commitment from its 32 bytes on the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes on the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..4])?;
        f.write_str("…")
    }
}

impl CheckTag {
    /// A tag from its 8 bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The 8 bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for CheckTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// What each direction has of its own.
struct Directed {
    token: JoinToken,
    seal: [u8; 32],
    tag: CheckTag,
}

impl Drop for Directed {
    fn drop(&mut self) {
        self.seal.zeroize();
    }
}

/// HKDF-Expand with a label and both public keys (RFC 5869 section 2.3). The keys have a fixed length, so
/// no label can be mistaken for another with a key appended.
struct Expand<'a> {
    kdf: Hkdf<Sha256>,
    low: &'a PublicKey,
    high: &'a PublicKey,
}

impl Expand<'_> {
    fn key<const N: usize>(&self, label: &[u8]) -> [u8; N] {
        const { assert!(N <= 255 * 32, "RFC 5869 section 2.3: at most 255 blocks") };
        let mut out = [0; N];
        let done = self.kdf.expand_multi_info(&[label, self.low.as_bytes(), self.high.as_bytes()], &mut out);
        debug_assert!(done.is_ok(), "the length is asserted above");
        out
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
