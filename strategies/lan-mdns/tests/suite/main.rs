//! The strategy on links without a network, on paused time.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod behaviour;
mod fake;
mod rules;
