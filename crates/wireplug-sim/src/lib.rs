//! A simulated internet on virtual time, for tests of the scheduler.
//!
//! Nothing here reads a clock, sleeps or opens a socket: time is a [`Time`] since the world began, and all
//! chance comes from one seed, so the same seed gives the same run, event by event.
//!
//! From the wire upwards: [`link`] delays, loses and doubles packets; [`nat`] and [`firewall`] are the boxes on
//! the way, as RFC 4787 names their behaviours; [`net`] routes packets through them; [`wireguard`] is WireGuard as
//! the scheduler meets it; [`server`] is the rendezvous server, honest or not; [`daemon`] and [`strategies`]
//! are the thinnest event loop around the real scheduler; [`world`] runs all of it. Beside them, [`site`] describes
//! where a host lives, [`scenario`] draws two such places by chance, [`oracle`] says from the description
//! alone whether a direct path is possible, and [`experiment`] tries that out without the scheduler.

pub mod daemon;
pub mod experiment;
pub mod firewall;
pub mod link;
pub mod nat;
pub mod net;
pub mod oracle;
pub mod payload;
pub mod scenario;
pub mod server;
pub mod site;
pub mod strategies;
pub mod trace;
pub mod wireguard;
pub mod world;

/// Virtual time since the world began.
pub type Time = std::time::Duration;

/// The one kind of seeded generator: fast, and the same on every machine.
pub type Chance = rand::rngs::ChaCha8Rng;

/// A time of so many milliseconds.
pub const fn ms(milliseconds: u64) -> Time {
    Time::from_millis(milliseconds)
}

/// A time of so many seconds.
pub const fn secs(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

/// The earlier of two times that may not come at all.
pub(crate) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
