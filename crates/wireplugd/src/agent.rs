//! The event loop: one interface, looked after until it is told to stop.
//!
//! | part | what |
//! |---|---|
//! | `session` | the loop itself: what happened goes into the scheduler, what it decides is done |
//! | `device` | the task that reads and updates the WireGuard device |
//! | `port` | the shared port, open only while it is needed |
//! | `bindings` | STUN requests to servers, without IO |
//! | `verify` | verification of our own candidates, without IO |
//! | `servers` | all rendezvous servers, used together |
//! | `network` | this host's addresses and ways out, and when they change |
//! | `pairs` | the secrets shared with each peer |
//! | `host` | what strategies get |
//! | `report` | status |

mod bindings;
mod device;
mod host;
mod network;
mod pairs;
mod port;
mod report;
mod servers;
mod session;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wireplug_net::{Device, DeviceError, DeviceState, InterfaceLock};

use crate::config::InterfaceConfig;
use crate::control::{ControlServer, Request};
use crate::interface::InterfaceName;
use crate::rendezvous::Pool;
use session::End;

/// How often an interface that went away is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What one interface is looked after with.
pub struct AgentConfig {
    /// The interface, which must exist at the start.
    pub name: InterfaceName,
    /// Strategies and peers.
    pub interface: InterfaceConfig,
    /// The rendezvous servers.
    pub pool: Pool,
    /// Where the control socket, the record and the lock are kept: [`crate::files::run_directory`].
    pub run_directory: PathBuf,
}

/// Looks after one interface until `stop`. An interface that goes away later is waited for.
///
/// # Errors
/// What makes it useless to begin: no such interface, no permission, another daemon on it.
pub async fn run(config: AgentConfig, stop: CancellationToken) -> anyhow::Result<()> {
    let mut first = Some(find(&config.name).await?);
    let _lock = InterfaceLock::acquire(&config.run_directory, config.name.as_str())?;
    let (requests, mut received) = mpsc::channel::<Request>(8);
    let _control = ControlServer::open(&config.run_directory, &config.name, requests)?;
    loop {
        let found = match first.take() {
            Some(found) => Some(found),
            None => tokio::select! {
                () = stop.cancelled() => None,
                found = wait_for(&config.name) => Some(found),
            },
        };
        let Some((device, state)) = found else { return Ok(()) };
        info!(interface = %config.name, backend = %device.backend(), peers = state.peers.len(), "looking after");
        match session::run(&config, device, state, &mut received, &stop).await? {
            End::Stopped => return Ok(()),
            End::Gone(why) => warn!(interface = %config.name, why, "waiting for the interface"),
        }
    }
}

async fn find(name: &InterfaceName) -> Result<(Device, DeviceState), DeviceError> {
    let device = Device::find(name.as_str()).await?;
    let state = device.read().await?;
    Ok((device, state))
}

async fn wait_for(name: &InterfaceName) -> (Device, DeviceState) {
    loop {
        match find(name).await {
            Ok(found) => return found,
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
