//! The server that lets two wireplug daemons find each other: rendezvous over WebSocket, STUN, and
//! probes that prove candidates.
//!
//! What decides has no IO and no clock: [`rendezvous`] (topics, offers, limits, ownership) takes an
//! instant with each input and gives its effects as data, and so does [`stun`]. The event loops around
//! them are in [`server`].

pub mod certificate;
pub mod config;
pub mod limits;
pub mod rendezvous;
