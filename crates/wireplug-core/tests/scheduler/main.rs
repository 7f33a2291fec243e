//! What the scheduler promises, one promise a test, on virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod applying;
mod arbitrary;
mod driver;
mod elsewhere;
mod hand;
mod moving;
mod napping;
mod neighbours;
mod offers;
mod ranked;
mod relaying;
mod remembering;
mod rounds;
mod steps;
mod telling;
mod watching;
