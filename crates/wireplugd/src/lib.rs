//! The daemon beside a WireGuard interface: config, rendezvous, strategies, control, and the event loop.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod files;
pub mod interface;
pub mod log;
pub mod memory;
pub mod record;
pub mod relay_link;
pub mod rendezvous;
pub mod state;
pub mod status;
pub mod strategies;
pub mod tls;

use wireplug_direct as _;
use wireplug_hole_punch as _;
use wireplug_lan_mdns as _;
use wireplug_nat_pmp as _;
use wireplug_pcp as _;
use wireplug_relay as _;
use wireplug_upnp_igd as _;
