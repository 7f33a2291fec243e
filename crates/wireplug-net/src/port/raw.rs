//! One raw UDP socket of one address family.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wireplug_core::Family;

use super::filter::{self, Instruction};
use super::packet::{build_udp, is_stun, parse_ipv4, parse_udp, set_checksum};
use super::{Datagram, Outgoing, PortError};
use crate::readiness::watch;
use crate::source::{cannot_mark, source_towards};

/// Receive buffer in bytes, of which the kernel makes twice as much and counts some 800 for each datagram: what 500 peers
/// send at once when their daemon starts. More would only queue what a flood sends.
const RECEIVE_BUFFER: usize = 512 << 10;

/// The largest packet that is looked at, in bytes: any STUN message of ours with room for IP options.
const MAX_PACKET: usize = 2048;

/// Offset of the checksum in a UDP header (RFC 768), for the kernel to fill in.
const UDP_CHECKSUM_OFFSET: libc::c_int = 6;

#[derive(Debug)]
pub(super) struct RawSocket {
    family: Family,
    socket: AsyncFd<Socket>,
    /// The mark that the socket has now. Held while a datagram is sent, so that each goes out with its own.
    mark: Mutex<u32>,
}

impl RawSocket {
    /// Opens a socket for these ports; `None` if the host lacks the family.
    pub(super) fn open(family: Family, ports: &[u16]) -> Result<Option<Self>, PortError> {
        let failed = |source| PortError::Io { action: "open", family, source };
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = match Socket::new(domain, Type::RAW, Some(Protocol::UDP)) {
            Ok(socket) => socket,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EPERM | libc::EACCES) => Err(PortError::NotPermitted),
                    Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => Ok(None),
                    _ => Err(failed(error)),
                };
            }
        };
        // A raw socket receives from its first moment on, so what came before the filter is thrown away.
        attach(&socket, &filter::nothing()).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        drain(&socket);
        // Beyond what the system allows everybody (net.core.rmem_max), which takes CAP_NET_ADMIN.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(failed)?;
        }
        match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(io::Error::from),
            Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
                .map_err(io::Error::from)
                .and_then(|()| let_kernel_sum(&socket)),
        }
        .map_err(failed)?;
        let socket = watch(socket, Interest::READABLE).map_err(failed)?;
        let raw = Self { family, socket, mark: Mutex::new(0) };
        raw.set_ports(ports)?;
        Ok(Some(raw))
    }

    pub(super) fn set_ports(&self, ports: &[u16]) -> Result<(), PortError> {
        if ports.len() > filter::MAX_PORTS {
            return Err(PortError::TooManyPorts(ports.len()));
        }
        attach(self.socket.get_ref(), &filter::program(self.family, ports)).map_err(|source| PortError::Io {
            action: "filter",
            family: self.family,
            source,
        })
    }

    pub(super) async fn recv(&self) -> Result<Datagram, PortError> {
        let mut buffer = [0; MAX_PACKET];
        loop {
            let received = self.socket.async_io(Interest::READABLE, |socket| match self.family {
                Family::V4 => recv_v4(socket, &mut buffer),
                Family::V6 => recv_v6(socket, &mut buffer),
            });
            match received.await {
                Ok(Some(datagram)) => return Ok(datagram),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(PortError::Io { action: "receive on", family: self.family, source });
                }
            }
        }
    }

    pub(super) fn send(&self, outgoing: &Outgoing) -> io::Result<()> {
        let to = outgoing.to;
        let mut datagram = build_udp(outgoing.from_port, to.port(), &outgoing.payload)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        let ttl = outgoing.ttl.map(libc::c_int::from);
        let socket = self.socket.get_ref();
        let fd = socket.as_raw_fd();
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if *mark != outgoing.fwmark {
            socket.set_mark(outgoing.fwmark).map_err(|error| cannot_mark(&error))?;
            *mark = outgoing.fwmark;
        }
        match to.addr() {
            SocketAddr::V4(v4) => {
                let from = match outgoing.source {
                    Some(IpAddr::V4(from)) => from,
                    _ => match source_towards(v4.into(), outgoing.fwmark)? {
                        IpAddr::V4(from) => from,
                        IpAddr::V6(_) => return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
                    },
                };
                set_checksum(&mut datagram, from, *v4.ip());
                let control = ttl.as_ref().map(ControlMessage::Ipv4Ttl);
                let addr = SockaddrIn::from(v4);
                sendmsg(fd, &[IoSlice::new(&datagram)], control.as_slice(), MsgFlags::empty(), Some(&addr))?;
            }
            SocketAddr::V6(v6) => {
                let control = ttl.as_ref().map(ControlMessage::Ipv6HopLimit);
                // Raw sockets take a port for a protocol number (ipv6(7)), so there is none.
                let addr = SockaddrIn6::from(SocketAddrV6::new(*v6.ip(), 0, 0, v6.scope_id()));
                sendmsg(fd, &[IoSlice::new(&datagram)], control.as_slice(), MsgFlags::empty(), Some(&addr))?;
            }
        }
        Ok(())
    }
}

fn recv_v4(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let (length, whole) = (message.bytes, !message.flags.contains(MsgFlags::MSG_TRUNC));
    let ifindex = message.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
        _ => None,
    });
    let Some(packet) = parse_ipv4(&buffer[..length]).filter(|packet| whole && is_stun(packet.udp.payload))
    else {
        return Ok(None);
    };
    Ok(Some(Datagram {
        from: SocketAddr::new(packet.from.into(), packet.udp.from_port),
        to: Some(packet.to.into()),
        to_port: packet.udp.to_port,
        ifindex: ifindex.unwrap_or(0),
        payload: packet.udp.payload.to_vec(),
    }))
}

fn recv_v6(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let (length, whole) = (message.bytes, !message.flags.contains(MsgFlags::MSG_TRUNC));
    let info = message.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    let sender = message
        .address
        .as_ref()
        .and_then(SockaddrStorage::as_sockaddr_in6)
        .map(|v6| (v6.ip(), v6.scope_id()));
    let udp = parse_udp(&buffer[..length]).filter(|udp| whole && is_stun(udp.payload));
    let (Some((ip, scope)), Some(udp)) = (sender, udp) else { return Ok(None) };
    Ok(Some(Datagram {
        from: SocketAddrV6::new(ip, udp.from_port, 0, scope).into(),
        to: info.map(|info| IpAddr::from(info.ipi6_addr.s6_addr)),
        to_port: udp.to_port,
        ifindex: info.map_or(0, |info| info.ipi6_ifindex),
        payload: udp.payload.to_vec(),
    }))
}

fn attach(socket: &Socket, program: &[Instruction]) -> io::Result<()> {
    let program: Vec<SockFilter> = program.iter().copied().map(SockFilter::from).collect();
    socket.attach_filter(&program)
}

/// Throws away what is queued. The filter that passes nothing is on, so there is an end.
fn drain(socket: &Socket) {
    let mut byte = [0; 1];
    while recvmsg::<()>(socket.as_raw_fd(), &mut [IoSliceMut::new(&mut byte)], None, MsgFlags::empty())
        .is_ok()
    {}
}

/// Lets the kernel fill in the UDP checksum of IPv6, over the source address that it chooses
/// (RFC 3542 section 3.1, `IPV6_CHECKSUM`).
fn let_kernel_sum(socket: &Socket) -> io::Result<()> {
    const SIZE: libc::socklen_t = 4;
    const { assert!(size_of::<libc::c_int>() == SIZE as usize) };
    let offset = UDP_CHECKSUM_OFFSET;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the option's value is a C int that
    // outlives the call, passed with its own size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_CHECKSUM,
            (&raw const offset).cast(),
            SIZE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
