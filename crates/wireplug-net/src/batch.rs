//! UDP for a server that forwards: many datagrams for each system call, and many sockets on one thread.
//!
//! [`Pool`] receives bursts of datagrams into memory of its own, [`BatchSocket::send`] sends parts of that memory
//! on, and [`Poller`] tells which sockets have something. Runs of equal size from one source arrive as one burst
//! (`UDP_GRO`) and leave as one message (`UDP_SEGMENT`) where the kernel can. Nothing is allocated for a datagram.

mod poller;
mod pool;
mod send;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

pub use poller::{Poller, Waker};
pub use pool::{Burst, Part, Pool};
pub use send::{Message, Outcome, SendScratch};

/// A UDP socket of one family, for batches. Datagrams may be fragmented on their way (DF is off), as those
/// of a WireGuard device are.
#[derive(Debug)]
pub struct BatchSocket {
    socket: Socket,
    local: SocketAddr,
    /// Whether the socket is bound to all addresses, and each datagram tells and needs its own.
    any: bool,
    /// Whether runs may be left to the kernel or the network card to cut up.
    segments: AtomicBool,
    receive_buffer: usize,
}

impl BatchSocket {
    /// Binds so many sockets to one address, among which the kernel shares out the flows (`SO_REUSEPORT`): a
    /// thread that has one of each group receives whole flows and can send from every address. IPv6 sockets
    /// serve IPv6 only. Nobody else's socket is joined: an address in use is an error.
    ///
    /// # Errors
    /// What the system says, such as an address in use.
    pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        let mut group: Vec<Self> = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            match group.first() {
                // The first is bound alone, and opens the address to the others only then.
                None => {
                    socket.bind(&address.into())?;
                    socket.set_reuse_port(true)?;
                }
                Some(first) => {
                    socket.set_reuse_port(true)?;
                    socket.bind(&first.local.into())?;
                }
            }
            group.push(Self::new(socket)?);
        }
        Ok(group)
    }

    fn new(socket: Socket) -> io::Result<Self> {
        let local = socket.local_addr()?.as_socket();
        let local = local.ok_or_else(|| io::Error::other("a UDP socket without an address"))?;
        let any = local.ip().is_unspecified();
        if local.is_ipv4() {
            send::set_int(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &any)?;
        } else {
            send::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &any)?;
        }
        // A kernel without one of these still forwards, datagram by datagram (both came by Linux 5.0).
        setsockopt(&socket, sockopt::UdpGroSegment, &true).ok();
        let segments = AtomicBool::new(setsockopt(&socket, sockopt::UdpGsoSegment, &0).is_ok());
        Ok(Self { socket, local, any, segments, receive_buffer: 0 })
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Asks for buffers of that many bytes, beyond the system's usual limit where the process may
    /// (`CAP_NET_ADMIN`). Returns what the receive buffer is; the kernel counts its own overhead in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_buffers(&mut self, bytes: usize) -> io::Result<usize> {
        if setsockopt(&self.socket, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&self.socket, sockopt::RcvBuf, &bytes)?;
        }
        if setsockopt(&self.socket, sockopt::SndBufForce, &bytes).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &bytes)?;
        }
        self.receive_buffer = getsockopt(&self.socket, sockopt::RcvBuf)?;
        Ok(self.receive_buffer)
    }

    /// Sends one datagram now, from that address of this host if one is given.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::WouldBlock`] if the buffer is full.
    pub fn send_one(&self, payload: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        crate::udp::send(&self.socket, self.local, payload, to, from.filter(|_| self.any))
    }

    /// Whether runs of datagrams may be sent as one.
    pub fn segments(&self) -> bool {
        self.segments.load(Ordering::Relaxed)
    }

    fn stop_segments(&self) {
        self.segments.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
