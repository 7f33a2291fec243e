//! The relay: forwards WireGuard packets between the two sides of a pair that cannot meet.
//!
//! [`Relay`] decides and has no IO and no clock; it is shared by the hub, the connections and the forwarding
//! threads. [`Forwarder`] owns the UDP sockets and the threads.
//!
//! An *allocation* is a pair's place, named by its topic, with two sides. A *binding* is one leg of one side: for
//! UDP a source address and the relay address that it sends to, over TLS a connection and a channel. A packet
//! goes from a binding to the other side's active leg, or nowhere.

mod budget;
mod counters;
mod forwarder;
#[doc(hidden)]
pub mod fuzzing;
mod ledger;
mod nonce;
mod pace;
mod settings;
mod state;
mod stun;
mod table;
mod terms;
mod tls;
mod worker;

pub use counters::{Counters, Dropped, Tally};
pub use forwarder::{ForwardError, Forwarder};
pub use settings::Settings;
pub use state::Relay;
pub use terms::{Ask, Asker, Gauges, Grant, Refusal, TlsBinding};
pub use tls::{TlsLeg, TlsOutgoing, TlsQueue};

#[cfg(test)]
mod tests;
