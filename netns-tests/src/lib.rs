//! A lab of network namespaces: routers, NATs, a server, real WireGuard.
//!
//! [`Lab::new`] makes an internet of its own. [`Lab::site`] adds a customer behind a [`Nat`], [`Site::host`]
//! a computer there, [`Host::wireguard`] a real WireGuard interface on it. [`Lab::server`] runs
//! `wireplug-serverd`, [`Host::wireplug`] the daemon. [`Pair`] puts two of them together: the matrix,
//! `cargo xtask demo` and `cargo xtask bench` all use it. A [`Cell`] of the matrix is judged by the simulator's oracle.
//!
//! Nothing in a lab reaches the world outside, and everything in it goes with the [`Lab`]. What a
//! killed test leaves behind, the next lab sweeps up.
//!
//! The lab runs the product's binaries and knows nothing else of it.

mod avahi;
mod binaries;
mod capture;
mod cell;
mod checks;
mod cmd;
mod coturn;
mod crowd;
mod daemon;
mod delay;
mod dns;
mod error;
mod front;
mod gateway;
mod host;
mod internet;
mod lab;
mod line;
mod load;
mod many;
mod namespace;
mod nat;
mod outage;
mod pair;
mod ping;
mod place;
mod process;
mod roam;
mod server;
mod site;
mod stream;
mod wireguard;

pub use avahi::Avahi;
pub use binaries::Binaries;
pub use capture::Capture;
pub use cell::{Cell, Measured};
pub use checks::UNREACHABLE_LIMIT;
pub use cmd::wait_for;
pub use crowd::{Crowd, CrowdPlan, CrowdReport, CrowdSays};
pub use daemon::{Daemon, InterfaceStatus, PeerStatus, ServerStatus};
pub use dns::Dns;
pub use error::{LabError, Result};
pub use gateway::Miniupnpd;
pub use host::Host;
pub use internet::{BLACKHOLE, Stack};
pub use lab::Lab;
pub use line::{Line, has_netem};
pub use load::{
    Cutting, HighestRate, IdleReport, LOAD_CORE, LoadLab, LoadReport, Priority, SERVER_CORE, Through, Traffic,
};
pub use many::{Many, ManyInterfaces, ManyReport};
pub use namespace::{Namespace, abandon_labs};
pub use nat::{FIXED_PORT, Nat, WIREGUARD_PORT};
pub use outage::{Outage, Track};
pub use pair::{CONNECT_LIMIT, End, Pair, PairOptions, SETTLE};
pub use ping::{Answer, Ping, Pinging, Pings};
pub use place::{End as PathEnd, expected};
pub use process::Process;
pub use roam::Left;
pub use server::{STUN_PORT, Server};
pub use site::Site;
pub use stream::Stream;
pub use wireguard::{Peer, PeerState, Wireguard, by_kernel, wireguard_at};
pub use wireplug_core::Tier;
