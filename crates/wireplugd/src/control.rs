//! The control socket: how `wireplug status`, `wireplug strategies` and `wireplug reload` ask a running daemon. Root
//! only.
//!
//! One socket per interface, `/run/wireplug/NETNS/INTERFACE.sock`. One line of JSON asks, one line answers, and
//! the connection ends.

mod client;
#[doc(hidden)]
pub mod fuzzing;
mod reload;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use client::{ask, ask_all, ask_all_strategies, ask_reload, ask_strategies, reload_all};
pub use reload::{ReloadReport, Reloaded};
pub use server::ControlServer;

use crate::interface::InterfaceName;
use crate::status::{InterfaceStatus, StrategyInfo};

/// What the event loop is asked.
#[derive(Debug)]
pub enum Request {
    /// How it goes. Dropping the sender answers that the daemon is stopping.
    Status(oneshot::Sender<InterfaceStatus>),
    /// How it goes with the strategies of its build, each on this interface alone. Dropped likewise.
    Strategies(oneshot::Sender<Vec<StrategyInfo>>),
    /// Read the config again. Dropped likewise.
    Reload(oneshot::Sender<ReloadReport>),
}

/// Why there is no control socket, or no answer from it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody looks after this interface.
    #[error(
        "no wireplug runs for {0} in this network namespace: start it with `wireplug {0}`, or see `wireplug status`"
    )]
    NotRunning(InterfaceName),
    /// Nobody looks after any.
    #[error("no wireplug runs in this network namespace: start it with `wireplug INTERFACE`")]
    NoneRunning,
    /// Somebody does already.
    #[error("{0} is already looked after: `wireplug status {0}` shows it")]
    AlreadyRunning(InterfaceName),
    /// Only root may.
    #[error("no permission to use {}: run as root", path.display())]
    NotPermitted {
        /// The socket or its directory.
        path: PathBuf,
    },
    /// The daemon answered something else.
    #[error("{} answered what cannot be understood: {why}; is it another version of wireplug?", path.display())]
    BadAnswer {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
    /// Anything else that the system said.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket or its directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ControlError {
    fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::PermissionDenied => Self::NotPermitted { path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// A request as it is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Question {
    Status,
    Strategies,
    Reload,
}

/// An answer as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Status(Box<InterfaceStatus>),
    Strategies(Vec<StrategyInfo>),
    Reload(ReloadReport),
    Error(String),
}

fn socket_path(run_directory: &Path, interface: &InterfaceName) -> PathBuf {
    run_directory.join(format!("{interface}.sock"))
}
