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
//! | `naps` | what sleeps of the machine mean, without IO |
//! | `network` | this host's addresses and ways out, and when they change |
//! | `looks` | when they are looked at, without IO |
//! | `pairs` | the secrets shared with each peer |
//! | `pace` | how many checks a peer may have sent, without IO |
//! | `relays` | places at relays and binds to them, without IO |
//! | `legs` | the legs of pairs over TLS |
//! | `wishes` | what strategies want of relays |
//! | `host` | what strategies get |
//! | `report` | status |
//! | `waiting` | while there is no such interface |

mod bindings;
mod device;
mod host;
mod legs;
mod looks;
mod network;
mod pace;
mod pairs;
mod port;
mod relays;
mod report;
mod servers;
mod session;
mod verify;
mod waiting;
mod wishes;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wireplug_net::{
    AddressesError, ChangesError, Device, DeviceError, DeviceState, InterfaceLock, LockError, RouteError,
};

use crate::config::InterfaceConfig;
use crate::control::{ControlError, ControlServer, ReloadReport};
use crate::files;
use crate::interface::InterfaceName;
use crate::rendezvous::Pool;
use session::End;

/// How often an interface that is not there is looked for: what the person does to a device is followed within this time.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What one interface is looked after with.
#[derive(Clone)]
pub struct AgentConfig {
    /// The interface.
    pub interface: InterfaceName,
    /// Strategies and peers, and every change of them.
    pub config: watch::Receiver<Arc<InterfaceConfig>>,
    /// The rendezvous servers. After a change of them `config` is sent once more.
    pub servers: Pool,
    /// Where it is asked for that the config be read again.
    pub reloads: mpsc::Sender<ReloadAsked>,
    /// What is done about an interface that is not there at the start.
    pub missing: Missing,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Who waits for the outcome of a reload.
pub type ReloadAsked = oneshot::Sender<ReloadReport>;

/// What is done about an interface that is not there at the start. One that goes away later is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Refused,
    /// It is waited for.
    Awaited,
}

/// Why an interface cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Another daemon has it, or the lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Nobody could ask for status.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Addresses cannot be read.
    #[error(transparent)]
    Addresses(#[from] AddressesError),
    /// Routes cannot be looked up.
    #[error(transparent)]
    Routes(#[from] RouteError),
    /// Network changes cannot be followed.
    #[error(transparent)]
    Changes(#[from] ChangesError),
    /// The namespace of the network cannot be told.
    #[error("cannot tell the network namespace: {0}; is /proc mounted?")]
    Namespace(io::Error),
    /// There is no place for the control socket and the lock.
    #[error("cannot make {}: {source}; run as root", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AgentError {
    /// Whether trying again later is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Device(error) => Self::is_of_no_use(error),
            Self::Lock(_) | Self::Control(_) | Self::Namespace(_) | Self::RunDirectory { .. } => true,
            Self::Addresses(_) | Self::Routes(_) | Self::Changes(_) => false,
        }
    }

    fn is_of_no_use(error: &DeviceError) -> bool {
        matches!(error, DeviceError::BadName(_) | DeviceError::NotPermitted { .. })
    }
}

impl AgentConfig {
    /// Has the config read again.
    fn pass_on(&self, asked: ReloadAsked) {
        if self.reloads.try_send(asked).is_err() {
            warn!(interface = %self.interface, "a reload is not done: too many are asked for");
        }
    }
}

/// Looks after one interface until it is told to stop.
///
/// # Errors
/// What makes it useless to begin: no permission, another daemon on it, or no such interface where that is not
/// [awaited](Missing).
pub async fn run(config: AgentConfig) -> Result<(), AgentError> {
    let (mut found, mut why) = match find(&config.interface).await {
        Ok(found) => (Some(found), String::new()),
        Err(error) if config.missing == Missing::Awaited && !AgentError::is_of_no_use(&error) => {
            (None, error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    let run_directory = files::run_directory().map_err(AgentError::Namespace)?;
    files::make_directory(&run_directory)
        .map_err(|source| AgentError::RunDirectory { path: run_directory.clone(), source })?;
    let _lock = InterfaceLock::acquire(&run_directory, config.interface.as_str())?;
    let (_control, mut requests) = ControlServer::open(&run_directory, &config.interface)?;
    loop {
        let interface = &config.interface;
        if found.is_none() {
            warn!(%interface, why, "waiting for the interface");
            found = waiting::wait(&config, why, &mut requests).await;
        }
        let Some((device, state)) = found.take() else { return Ok(()) };
        let (backend, peers) = (device.backend(), state.peers.len());
        info!(%interface, %backend, peers, "looking after");
        match session::run(&config, &run_directory, device, state, &mut requests).await? {
            End::Stopped => return Ok(()),
            End::Gone(reason) => why = reason,
        }
    }
}

async fn find(name: &InterfaceName) -> Result<(Device, DeviceState), DeviceError> {
    let device = Device::find(name.as_str()).await?;
    let state = device.read().await?;
    Ok((device, state))
}
