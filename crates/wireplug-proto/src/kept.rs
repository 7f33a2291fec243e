//! What a daemon keeps on disk for its next run, sealed with the interface's own key: it tells where peers live and
//! which networks this machine has been in, and is nobody else's.
//!
//! ```text
//! prk     = HKDF-Extract(SHA-256, salt "wireplug kept v1", own private key)
//! seal    = HKDF-Expand(prk, "seal"), 32 bytes
//! network = HKDF-Expand(prk, "network" ‖ what tells it from others), 16 bytes
//! sealed  = version (1 byte, 1) ‖ nonce (24 bytes) ‖ XChaCha20-Poly1305(seal, nonce, version, fields)
//!
//! message Kept    { repeated Peer peers = 1; repeated Network networks = 2; }
//! message Peer    { bytes key = 1; repeated Candidate candidates = 2; }
//! message Network { bytes id = 1; uint32 keepalive = 2; bool suspected = 3; bool on_trial = 4; uint32 failed_trials = 5; }
//! ```
//!
//! `Candidate` is that of an offer. Peers and networks are in the order in which they were last of use, the latest first.
//! Another private key cannot open it: then nothing is known.

use hkdf::Hkdf;
use prost::Message as _;
use sha2::Sha256;
use wireplug_core::scheduler::{Learnt, MAX_GOOD};
use wireplug_core::{PrivateKey, PublicKey, RemoteCandidate};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::envelope::{self, Unopened, VERSION, sealed_size};
use crate::offer::CandidateFields;

/// Domain of both keys; another version takes another.
const SALT: &[u8] = b"wireplug kept v1";

/// The most peers that are kept: more than one interface has in practice.
pub const MAX_KEPT_PEERS: usize = 2048;
/// The most candidates that are kept of one peer.
pub const MAX_KEPT_CANDIDATES: usize = MAX_GOOD;
/// The most networks that are kept.
pub const MAX_KEPT_NETWORKS: usize = 64;
/// The longest sealed file in bytes that these limits allow: 44 and 62 for each candidate of a peer, 38 of a network.
pub const MAX_KEPT: usize =
    sealed_size(MAX_KEPT_PEERS * (44 + MAX_KEPT_CANDIDATES * 62) + MAX_KEPT_NETWORKS * 38);

/// What is kept of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Where peers were reached, the latest first. At most [`MAX_KEPT_PEERS`].
    pub peers: Vec<KeptPeer>,
    /// What was learnt of networks, the latest first. At most [`MAX_KEPT_NETWORKS`].
    pub networks: Vec<KeptNetwork>,
}

/// Where one peer was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPeer {
    /// Whose.
    pub key: PublicKey,
    /// Best first, at most [`MAX_KEPT_CANDIDATES`].
    pub candidates: Vec<RemoteCandidate>,
}

/// What was learnt of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptNetwork {
    /// Which.
    pub id: NetworkId,
    /// What was learnt.
    pub learnt: Learnt,
}

/// A network's name, that only the interface's private key can make. `Debug` prints nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId([u8; 16]);

/// What seals and opens. It is wiped when it is dropped, and its `Debug` prints nothing.
pub struct KeptKey {
    seal: SealKey,
    kdf: Hkdf<Sha256>,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct SealKey([u8; 32]);

/// Why a file says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Too short or too long.
    #[error("{0} bytes cannot be what was kept: it is made anew")]
    Size(usize),
    /// Of a later version of wireplug.
    #[error("it was kept in version {0}, this wireplug knows version {VERSION}: it is made anew")]
    Version(u8),
    /// Of another private key, or altered.
    #[error("it was kept by an interface with another private key, or altered: it is made anew")]
    Foreign,
    /// Sealed, but not to be understood.
    #[error("it was kept, but cannot be read: it is made anew")]
    Malformed,
}

impl KeptKey {
    /// The key of an interface.
    pub fn derive(own: &PrivateKey) -> Self {
        let kdf = Hkdf::new(Some(SALT), own.expose());
        let mut seal = SealKey([0; 32]);
        expand(&kdf, &[b"seal"], &mut seal.0);
        Self { seal, kdf }
    }

    /// The name of the network that these bytes tell from others.
    pub fn network(&self, features: &[u8]) -> NetworkId {
        let mut id = [0; 16];
        expand(&self.kdf, &[b"network", features], &mut id);
        NetworkId(id)
    }

    /// Seals what is to be kept. `nonce` must be random and fresh for every call. What is beyond the limits is left out.
    pub fn seal(&self, kept: &Kept, nonce: [u8; 24]) -> Vec<u8> {
        envelope::seal(&self.seal.0, &[VERSION], nonce, &Zeroizing::new(encode(kept)))
    }

    /// Opens what [`KeptKey::seal`] sealed.
    ///
    /// # Errors
    /// [`KeptError`]; all of it means that nothing is known.
    pub fn open(&self, sealed: &[u8]) -> Result<Kept, KeptError> {
        let size = KeptError::Size(sealed.len());
        if sealed.len() > MAX_KEPT {
            return Err(size);
        }
        let plain = envelope::open(&self.seal.0, &[VERSION], sealed).map_err(|why| match why {
            Unopened::Size => size,
            Unopened::Version(version) => KeptError::Version(version),
            Unopened::Foreign => KeptError::Foreign,
        })?;
        decode(&plain)
    }
}

impl std::fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptKey(redacted)")
    }
}

impl std::fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NetworkId(redacted)")
    }
}

/// What is sealed.
pub(crate) fn encode(kept: &Kept) -> Vec<u8> {
    KeptFields::from(kept).encode_to_vec()
}

/// The reverse; entries that are not to be understood, and those beyond the limits, are left out.
pub(crate) fn decode(plain: &[u8]) -> Result<Kept, KeptError> {
    KeptFields::decode(plain).map(Kept::from).map_err(|_| KeptError::Malformed)
}

/// RFC 5869 section 2.3.
fn expand(kdf: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8]) {
    let done = kdf.expand_multi_info(info, out);
    debug_assert!(done.is_ok(), "at most 32 bytes, of 255 blocks");
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptFields {
    #[prost(message, repeated, tag = "1")]
    peers: Vec<PeerFields>,
    #[prost(message, repeated, tag = "2")]
    networks: Vec<NetworkFields>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PeerFields {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    candidates: Vec<CandidateFields>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NetworkFields {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    keepalive: u32,
    #[prost(bool, tag = "3")]
    suspected: bool,
    #[prost(bool, tag = "4")]
    on_trial: bool,
    #[prost(uint32, tag = "5")]
    failed_trials: u32,
}

impl From<&Kept> for KeptFields {
    fn from(kept: &Kept) -> Self {
        let peers = kept.peers.iter().take(MAX_KEPT_PEERS).map(|peer| PeerFields {
            key: peer.key.as_bytes().to_vec(),
            candidates: peer.candidates.iter().take(MAX_KEPT_CANDIDATES).map(CandidateFields::from).collect(),
        });
        let networks = kept.networks.iter().take(MAX_KEPT_NETWORKS).map(|network| NetworkFields {
            id: network.id.0.to_vec(),
            keepalive: network.learnt.keepalive.into(),
            suspected: network.learnt.suspected,
            on_trial: network.learnt.on_trial,
            failed_trials: network.learnt.failed_trials.into(),
        });
        Self { peers: peers.collect(), networks: networks.collect() }
    }
}

impl From<KeptFields> for Kept {
    fn from(fields: KeptFields) -> Self {
        let peers = fields.peers.into_iter().filter_map(|peer| {
            let key = PublicKey::from_bytes(peer.key.try_into().ok()?);
            let candidates = peer.candidates.into_iter().filter_map(CandidateFields::parse);
            let candidates = candidates.take(MAX_KEPT_CANDIDATES).collect();
            Some(KeptPeer { key, candidates })
        });
        let networks = fields.networks.into_iter().filter_map(|network| {
            let learnt = Learnt {
                keepalive: u16::try_from(network.keepalive).ok()?,
                suspected: network.suspected,
                on_trial: network.on_trial,
                failed_trials: u8::try_from(network.failed_trials).ok()?,
            };
            Some(KeptNetwork { id: NetworkId(network.id.try_into().ok()?), learnt })
        });
        Self {
            peers: peers.take(MAX_KEPT_PEERS).collect(),
            networks: networks.take(MAX_KEPT_NETWORKS).collect(),
        }
    }
}
