//! One test for each quirk of routers' UPnP that is known from the field, U1 to U24, and A1 to A5 as far as they are
//! this strategy's.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "../common/mod.rs"]
mod common;
mod mapping;
mod search;
mod together;

use wireplug_upnp_igd as _;

/// Where a mapping is, where nothing is in its way.
const HERE: &str = "5.6.7.8:51820";
