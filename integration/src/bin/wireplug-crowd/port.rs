//! A member's UDP port.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use wireplug_lab::{LabError, Result};

use crate::member::{Member, Outcome};
use crate::tally::Tally;

/// Longest datagram that is looked at, in bytes.
const LONGEST: usize = 2048;

/// A UDP port, and whose it is.
pub(crate) struct Port {
    socket: UdpSocket,
    member: Member,
    offers: mpsc::UnboundedReceiver<Vec<u8>>,
}

/// The address of a member's port.
pub(crate) fn of(first: SocketAddr, number: usize) -> Result<SocketAddr> {
    let port = u16::try_from(number).ok().and_then(|number| first.port().checked_add(number));
    let port = port.ok_or_else(|| LabError::unexpected(format!("no UDP port for member {number}")))?;
    Ok(SocketAddr::new(first.ip(), port))
}

impl Port {
    /// Opens it. Must be called in a runtime.
    pub(crate) fn open(
        address: SocketAddr,
        member: Member,
        offers: mpsc::UnboundedReceiver<Vec<u8>>,
    ) -> Result<Self> {
        let io = |source| LabError::Io { what: format!("bind UDP {address}"), source };
        let socket = std::net::UdpSocket::bind(address).map_err(io)?;
        socket.set_nonblocking(true).map_err(io)?;
        Ok(Self { socket: UdpSocket::from_std(socket).map_err(io)?, member, offers })
    }

    /// Plays the member; returns why that ended.
    pub(crate) async fn run(mut self, tally: Tally) -> LabError {
        let mut buffer = [0; LONGEST];
        let mut connected = false;
        loop {
            let outcome = tokio::select! {
                came = self.socket.recv_from(&mut buffer) => match came {
                    Ok((length, from)) => self.member.received(Instant::now(), from, &buffer[..length]),
                    // An ICMP error of something that was sent before: a router had no way yet.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Outcome::default(),
                    Err(source) => return LabError::Io { what: "receive on a member's port".to_owned(), source },
                },
                Some(sealed) = self.offers.recv() => self.member.offered(Instant::now(), &sealed),
                () = tokio::time::sleep_until(self.member.next().into()) => self.member.time_passed(Instant::now()),
            };
            let mut report = tally.report();
            report.checks += outcome.checks;
            report.checked += outcome.checked;
            drop(report);
            for (to, datagram) in outcome.send {
                // As lost on its way.
                let _ = self.socket.try_send_to(&datagram, to);
            }
            if self.member.is_connected() && !connected && !self.member.floods() {
                connected = true;
                tally.connected();
            }
        }
    }
}
