//! WireGuard's messages, as far as the model tells them apart (whitepaper section 5.4).

use wireplug_core::PublicKey;

/// One message. The keys and numbers that cryptography would hide or prove are plain here: nobody in the
/// simulation reads or forges them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Section 5.4.2: first message of a handshake.
    Initiation {
        /// Who sends it.
        from: PublicKey,
        /// For whom it is.
        to: PublicKey,
        /// Tells it from others.
        id: u64,
        /// Its TAI64N time stamp: must rise (section 5.1).
        stamp: u128,
    },
    /// Section 5.4.3: the answer to an initiation.
    Response {
        /// Who sends it.
        from: PublicKey,
        /// The initiation that it answers.
        answers: u64,
        /// The session that both now have.
        session: u64,
    },
    /// Section 5.4.6: transport data.
    Data {
        /// Who sends it.
        from: PublicKey,
        /// Under which session.
        session: u64,
        /// What is inside.
        body: Body,
    },
}

/// What is inside a data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing: a keepalive.
    Keepalive,
    /// An echo request.
    Ping(u64),
    /// The answer to one.
    Pong(u64),
    /// Something that is not answered: one direction of a stream.
    Stream(u64),
}

impl Message {
    /// Its length as a UDP payload, bytes (whitepaper section 5.4; 84 bytes of ping inside).
    pub fn length(&self) -> u64 {
        match self {
            Self::Initiation { .. } => 148,
            Self::Response { .. } => 92,
            Self::Data { body: Body::Keepalive, .. } => 32,
            Self::Data { .. } => 32 + 96,
        }
    }
}
