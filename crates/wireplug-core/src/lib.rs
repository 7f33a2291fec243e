//! What wireplug decides, without IO, clock or global randomness.
//!
//! The words are those of `docs/ARCHITECTURE.md`: a *candidate* is one place where a WireGuard port may
//! be reached, an *offer* is all candidates of one side for one pair, a *check* proves a path beside
//! WireGuard, and only then is it *applied*.

mod address;
mod candidate;
mod check;
mod evidence;
mod key;
mod naps;
mod offer;
pub mod scheduler;

pub use address::{Endpoint, Family, NotAnEndpoint, is_global, is_link_local, same_host};
pub use candidate::{BadStrategyName, Candidate, Mapping, Proof, Reach, RemoteCandidate, StrategyName, Tier};
pub use check::TransactionId;
pub use evidence::Evidence;
pub use key::{ParseKeyError, PrivateKey, PublicKey};
pub use naps::{Naps, Woken};
pub use offer::{MAX_CANDIDATES, Offer, OfferVersion};
