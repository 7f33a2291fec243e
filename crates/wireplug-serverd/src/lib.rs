//! The server that lets two wireplug daemons find each other: rendezvous over WebSocket, STUN, and
//! probes that prove candidates; and that relays the packets of those that cannot meet.
//!
//! What decides has no IO and no clock: [`rendezvous`] (topics, offers, limits, ownership, who may have a place on
//! the relay) takes an instant with each input and gives its effects as data, and so does [`stun`]. [`relay`] has the
//! places, and its own threads forward. Around them are the event loops: the web (HTTPS, WebSocket sessions), UDP, and
//! the hub between, all started by [`server`].

pub mod access;
pub mod certificate;
pub mod config;
pub mod limits;
pub mod relay;
pub mod rendezvous;
pub mod server;
pub mod stun;

mod gate;
mod hub;
mod metrics;
mod outbox;
mod places;
mod proxy;
mod relay_session;
mod session;
mod tls;
mod udp;
mod web;

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
