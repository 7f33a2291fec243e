//! A UDP socket in a WireGuard port's place.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_lab::{LabError, Result};
use wireplug_proto::relay::Credential;
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};

use crate::failed;

/// What has not come by then was lost, or never sent. The lab has no delay but its processes' own.
const SOON: Duration = Duration::from_millis(1500);
/// How long silence must last to be taken as such.
const SILENCE: Duration = Duration::from_millis(300);
/// The longest datagram.
const LONGEST: usize = 65_535;

/// A UDP socket that binds to a relay, and sends and receives through it.
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    order: u64,
    /// Packets that came while an answer was waited for.
    packets: Vec<(SocketAddr, Vec<u8>)>,
}

impl Port {
    /// A port of this socket.
    pub const fn new(socket: UdpSocket) -> Self {
        Self { socket, order: 0, packets: Vec::new() }
    }

    /// Its own address.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(failed("tell a socket's address"))
    }

    /// A request to bind with the next ORDER, to be sent by whoever likes.
    pub fn request(&mut self, credential: &Credential, nonce: Option<&[u8; 16]>) -> Vec<u8> {
        self.order += 1;
        request(credential, transaction(), self.order, nonce)
    }

    /// Goes on from another port's last ORDER, as a WireGuard port that roams.
    pub const fn go_on_from(&mut self, order: u64) {
        self.order = order;
    }

    /// The ORDER of its last request.
    pub const fn order(&self) -> u64 {
        self.order
    }

    /// Sends a datagram and gives what the relay at `to` answers to it, if anything soon.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn ask(
        &mut self,
        to: SocketAddr,
        request: &[u8],
        credential: &Credential,
    ) -> Result<Option<BindAnswer>> {
        self.send(to, request)?;
        let deadline = Instant::now() + SOON;
        while let Some((from, datagram)) = self.take(deadline)? {
            match parse_answer(&datagram, &credential.key) {
                Ok((_, answer)) if from == to => return Ok(Some(answer)),
                _ => self.packets.push((from, datagram)),
            }
        }
        Ok(None)
    }

    /// Binds to a relay port, with the nonce that the relay asks for; gives the last answer.
    ///
    /// # Errors
    /// When the relay does not answer.
    pub fn bind(&mut self, relay: SocketAddr, credential: &Credential) -> Result<BindAnswer> {
        let mut nonce = None;
        for _ in 0..3 {
            let request = self.request(credential, nonce.as_ref());
            match self.ask(relay, &request, credential)? {
                Some(BindAnswer::Challenge { nonce: told }) => nonce = Some(told),
                Some(answer) => return Ok(answer),
                None => return Err(LabError::unexpected(format!("the relay at {relay} does not answer"))),
            }
        }
        Err(LabError::unexpected(format!("the relay at {relay} asks for a nonce again and again")))
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> Result<()> {
        self.socket.send_to(datagram, to).map_err(failed(&format!("send to {to}"))).map(drop)
    }

    /// The next datagram that is no answer, and where it came from.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn receive(&mut self) -> Result<(SocketAddr, Vec<u8>)> {
        if !self.packets.is_empty() {
            return Ok(self.packets.remove(0));
        }
        self.take(Instant::now() + SOON)?.ok_or_else(|| LabError::unexpected("no packet came".to_owned()))
    }

    /// All that has come, once nothing more comes.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn drain(&mut self) -> Result<Vec<(SocketAddr, Vec<u8>)>> {
        while let Some(came) = self.take(Instant::now() + SILENCE)? {
            self.packets.push(came);
        }
        Ok(std::mem::take(&mut self.packets))
    }

    fn take(&self, deadline: Instant) -> Result<Option<(SocketAddr, Vec<u8>)>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        self.socket.set_read_timeout(Some(left)).map_err(failed("set a socket's timeout"))?;
        let mut buffer = vec![0; LONGEST];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                buffer.truncate(length);
                Ok(Some((SocketAddr::new(from.ip().to_canonical(), from.port()), buffer)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(source) => Err(failed("receive on a played port")(source)),
        }
    }
}

fn transaction() -> TransactionId {
    TransactionId::from_bytes(crate::random())
}
