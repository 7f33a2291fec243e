//! The scheduler: gather → verify → offer → check → apply → confirm → watch, for all peers of one interface.

mod io;

pub use io::{
    Command, Demand, DeviceView, Handshake, Input, Keepalive, PeerView, Stimulus, Unsendable, Verdict,
};
