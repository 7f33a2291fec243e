//! The relay's UDP sockets and the threads that forward.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Relay, TlsBinding};

/// The relay's sockets and threads; the threads end when it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    relay: Arc<Relay>,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A relay port cannot be had.
    #[error("cannot forward on UDP {address}: {source}")]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A forwarding thread cannot be started.
    #[error("cannot start the relay's forwarding: {0}")]
    Start(io::Error),
}

#[allow(clippy::unused_self, unused_variables, clippy::unused_async, clippy::needless_pass_by_value)]
impl Forwarder {
    /// Binds every port at every address (`::` serves IPv4 too, where the host has it) and starts the threads.
    ///
    /// # Errors
    /// [`ForwardError`] names the address that is the trouble.
    pub fn start(
        relay: Arc<Relay>,
        addresses: &[IpAddr],
        ports: RangeInclusive<u16>,
        threads: usize,
    ) -> Result<Self, ForwardError> {
        Ok(Self { relay })
    }

    /// The relay itself.
    pub const fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    /// A packet came over TLS. Never waits.
    pub fn from_tls(&self, now: Instant, binding: TlsBinding, packet: &[u8]) {}

    /// Calls [`Relay::tick`] when it is due, for ever.
    pub async fn serve_time(&self) {
        std::future::pending::<()>().await;
    }
}
