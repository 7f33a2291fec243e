//! Whole processes under attack, under faults, and at rest.
//!
//! The tests run the real `wireplug` and `wireplug-serverd` beside real WireGuard in the lab of `wireplug-lab`.
//! What they need beside it is here:
//!
//! | part | what |
//! |---|---|
//! | [`Rogue`] | a rendezvous server in the real one's place, with its certificate, that does what its [`Temper`] says |
//! | [`Attacker`] | a UDP socket in the way of checks, and what it does with them |
//! | [`witness`] | which endpoints were applied, read from the daemons' logs and from `wg` |
//! | [`played`] | daemons that a test plays by hand against the real server: rendezvous, binds, packets |
//! | [`secrets`] | the keys of a lab's interfaces, for tests that play the peer or look for leaks |

mod attacker;
pub mod played;
mod rogue;
pub mod secrets;
pub mod witness;

pub use attacker::{Attacker, Manner, Seen};
pub use rogue::{Babble, Rogue, Temper};

use wireplug_lab::LabError;

/// Random bytes; a machine without any cannot run the lab either.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the system gives no randomness: {error}");
    }
    bytes
}

/// An error of the operating system with what was tried.
pub(crate) fn failed(what: &str) -> impl FnOnce(std::io::Error) -> LabError {
    let what = what.to_owned();
    move |source| LabError::Io { what, source }
}
