//! The kernel's notices that links, addresses, routes or rules changed.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv};
use rtnetlink::MulticastGroup;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness::watch;

/// What the kernel puts into one datagram at most (linux/netlink.h, `NLMSG_GOODSIZE`), in bytes, and more.
const DATAGRAM: usize = 32 << 10;

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// A subscription to changes of this network namespace.
#[derive(Debug)]
pub struct Changes {
    socket: AsyncFd<Socket>,
}

/// What kinds of things changed. What exactly, the caller reads for itself: notices can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // four independent kinds
pub struct Change {
    /// Interfaces came, went, or went up or down.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes.
    pub routes: bool,
    /// Policy routing rules.
    pub rules: bool,
}

/// Why changes cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch for network changes (netlink): {0}")]
pub struct ChangesError(#[from] io::Error);

impl Changes {
    /// Subscribes: what changes from now on is told by [`Changes::next`].
    ///
    /// # Errors
    /// [`ChangesError`].
    pub fn new() -> Result<Self, ChangesError> {
        let netlink = (Domain::from(libc::AF_NETLINK), Protocol::from(libc::NETLINK_ROUTE));
        let socket = Socket::new(netlink.0, Type::RAW, Some(netlink.1)).map_err(ChangesError)?;
        let groups = GROUPS.iter().fold(0, |bits, group| bits | 1 << (*group as u32 - 1));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(|errno| ChangesError(errno.into()))?;
        Ok(Self { socket: watch(socket, Interest::READABLE)? })
    }

    /// Waits for a change and returns all that is known by then. Not debounced: an interface that comes up
    /// changes several things, one after another. Cancel-safe.
    ///
    /// # Errors
    /// [`ChangesError`] when the subscription is broken.
    pub async fn next(&mut self) -> Result<Change, ChangesError> {
        loop {
            let change = self.socket.async_io(Interest::READABLE, read_all).await?;
            if change != Change::default() {
                return Ok(change);
            }
        }
    }
}

impl Change {
    const ALL: Self = Self { links: true, addresses: true, routes: true, rules: true };

    /// Notes the kind of one netlink message (linux/rtnetlink.h).
    fn note(&mut self, kind: u16) {
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => self.links = true,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => self.addresses = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => self.routes = true,
            libc::RTM_NEWRULE | libc::RTM_DELRULE => self.rules = true,
            _ => {}
        }
    }
}

/// Reads all that is queued; would-block only if nothing was.
fn read_all(socket: &Socket) -> io::Result<Change> {
    let mut change = Change::default();
    let mut any = false;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from) {
            Ok(length) => note_messages(&buffer[..length], &mut change),
            // The queue overran, so anything may have changed.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => change = Change::ALL,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if any && error.kind() == io::ErrorKind::WouldBlock => return Ok(change),
            Err(error) => return Err(error),
        }
        any = true;
    }
}

/// Walks the messages of one datagram by their headers alone (netlink(7)): length in 4 bytes, type in 2, host order.
fn note_messages(mut bytes: &[u8], change: &mut Change) {
    const HEADER: usize = 16;
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        change.note(u16::from_ne_bytes([header[4], header[5]]));
        let next = length.max(HEADER).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(length.next_multiple_of(4).max(16) as usize, 0);
        bytes
    }

    #[test]
    fn every_message_of_a_datagram_is_noted() {
        let mut change = Change::default();
        let bytes =
            [message(libc::RTM_NEWADDR, 33), message(libc::RTM_DELROUTE, 16), message(1, 16)].concat();
        note_messages(&bytes, &mut change);
        assert_eq!(change, Change { addresses: true, routes: true, ..Change::default() });
    }

    #[test]
    fn lying_lengths_end_the_walk() {
        for length in [0, 3, u32::MAX - 16] {
            let mut bytes = message(libc::RTM_NEWLINK, 16);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            let mut change = Change::default();
            note_messages(&bytes, &mut change);
            assert!(change.links);
        }
    }
}
