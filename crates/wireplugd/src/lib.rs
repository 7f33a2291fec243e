//! The daemon beside a WireGuard interface: config, rendezvous, strategies, control, and the event loop.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod files;
pub mod interface;
pub mod kept;
pub mod log;
pub mod memory;
pub mod record;
pub mod relay_link;
pub mod rendezvous;
pub mod state;
pub mod status;
pub mod strategies;
pub mod tls;

#[cfg(feature = "direct")]
use wireplug_direct as _;
#[cfg(feature = "hole-punch")]
use wireplug_hole_punch as _;
#[cfg(feature = "lan-mdns")]
use wireplug_lan_mdns as _;
#[cfg(feature = "nat-pmp")]
use wireplug_nat_pmp as _;
#[cfg(feature = "pcp")]
use wireplug_pcp as _;
#[cfg(feature = "relay")]
use wireplug_relay as _;
#[cfg(feature = "upnp-igd")]
use wireplug_upnp_igd as _;
