//! The plugin interface of wireplug.
//!
//! A *strategy* finds ways in which this host's WireGuard port may be reached (or places where a peer may
//! be), and says so until it is cancelled. It is a crate of its own: it implements [`Strategy`], submits a
//! [`Registration`] to the registry, and is linked in by one line of the binary:
//!
//! ```ignore
//! use my_strategy as _;
//! ```
//!
//! What it may rely on, said once:
//! - It gets its own table of the config, and refuses keys that it does not know ([`options::parse`]).
//! - It is a task. It may wait as long as it likes, hang or panic: nobody else is hurt, and it is ended one
//!   second after [`Context::cancelled`] at the latest.
//! - It sees the world as a [`Situation`], and is told when that changes. A higher `generation` voids all
//!   that was found before: find it again, and say for which generation it was found.
//! - It never decides. It finds, with evidence; the scheduler verifies, offers, checks and applies.
//! - A settled tunnel must cost nothing: when [`Situation::wanted`] is false, it sends nothing.

mod context;
mod event;
pub mod kit;
pub mod mapping;
mod nearby;
pub mod options;
mod registry;
mod relay;
mod router;
mod situation;

pub use context::{Binding, Context, Host, MAX_MEMORY, MemoryError, PortError, ResolveError, Resolved};
pub use event::Event;
pub use nearby::{Connection, Letters, Nearby};
pub use options::ConfigError;
pub use registry::{BoxFuture, Failure, Registration, Strategy, find, registered};
pub use relay::{
    LegStanding, RelayLeg, RelayPlace, RelayRefusal, RelayStanding, RelayWish, Relaying, Secret,
};
pub use router::{Datagrams, Dial, Listen, MAX_DATAGRAM};
pub use situation::{Gateway, HostAddress, Mapped, PeerSituation, Situation, StunServer};

/// For strategies: `wireplug_strategy::inventory::submit! { Registration { ... } }`.
pub use inventory;
