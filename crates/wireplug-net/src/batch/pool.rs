//! Receiving: memory for bursts of datagrams, filled by `recvmmsg`.

// Proof: sizes of C structures, up to 1024 slots and offsets below 1024 strides (71 MB) fit 32 bits.
#![expect(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use super::BatchSocket;

/// Bytes between two slots. A slot takes the longest burst; the rest keeps slots off each other's cache lines.
const STRIDE: usize = SLOT + 4096 + 64;
/// Bytes of a slot: more than any UDP payload, and than any burst (the kernel ends one at 64 KiB).
const SLOT: usize = 65_536;
/// Bytes of ancillary data: an address of this host and a segment size.
const CONTROL: usize = 96;

/// Memory for what is received in one round. Its pages are used only when that much arrives.
pub struct Pool {
    bytes: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    bursts: Vec<Burst>,
}

/// Datagrams of one source that arrived together at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Who sent them.
    pub from: SocketAddr,
    /// The address of this host that they were sent to.
    pub to: IpAddr,
    /// Where in the pool they are.
    whole: Part,
    /// Bytes of each, but for the last, which may have fewer.
    segment: u32,
}

/// A stretch of a [`Pool`]'s memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// Ancillary data, aligned as the system wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

impl Pool {
    /// Memory for so many bursts, at most 1024; each takes up to 64 KiB.
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, 1024);
        // SAFETY: all four are plain C structures, for which zeros are a value (null pointers, empty names).
        let (name, vector, header): (libc::sockaddr_storage, libc::iovec, libc::mmsghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            bytes: vec![0; slots * STRIDE].into_boxed_slice(),
            names: vec![name; slots].into_boxed_slice(),
            controls: vec![Control([0; CONTROL]); slots].into_boxed_slice(),
            vectors: vec![vector; slots].into_boxed_slice(),
            headers: vec![header; slots].into_boxed_slice(),
            bursts: Vec::with_capacity(slots),
        }
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        self.bursts.clear();
    }

    /// How many more bursts there is room for.
    pub fn room(&self) -> usize {
        self.headers.len() - self.bursts.len()
    }

    /// What was received since the pool was last cleared, in order.
    pub fn bursts(&self) -> &[Burst] {
        &self.bursts
    }

    /// The bytes of a part of this pool.
    pub fn bytes(&self, part: Part) -> &[u8] {
        let start = part.start as usize;
        self.bytes.get(start..start + part.length as usize).unwrap_or_default()
    }

    /// Receives up to `limit` bursts that wait at the socket, after those that the pool has. Returns how many.
    ///
    /// # Errors
    /// What the system says; nothing waiting is no error but 0.
    pub fn receive(&mut self, socket: &BatchSocket, limit: usize) -> io::Result<usize> {
        let first = self.bursts.len();
        let count = limit.min(self.room());
        let slots = self.bytes.chunks_exact_mut(STRIDE).skip(first).take(count);
        for (index, slot) in (first..).zip(slots) {
            self.vectors[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the `count` headers from `first` on were just made; each points to a name, a vector, a slot of
        // SLOT bytes and CONTROL bytes of ancillary data, which belong to this pool, are its index's own, and stay
        // where they are while the exclusive borrow lasts. `count` is at most 1024 and so fits.
        let received = unsafe {
            libc::recvmmsg(
                socket.socket.as_raw_fd(),
                self.headers[first..].as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for index in first..first + received {
            let burst = self.burst(index, socket);
            self.bursts.push(burst);
        }
        Ok(received)
    }

    /// What the system wrote for one slot.
    fn burst(&self, index: usize, socket: &BatchSocket) -> Burst {
        let header = &self.headers[index];
        let whole = Part { start: (index * STRIDE) as u32, length: header.msg_len.min(SLOT as u32) };
        let mut burst = Burst { from: unspecified(), to: socket.local.ip(), whole, segment: whole.length };
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            burst.whole.length = 0;
            burst.segment = 0;
        }
        if let Some(from) = address(&self.names[index]) {
            burst.from = from;
        }
        // SAFETY: the system has filled the header's ancillary data and set its length; the macros stay within
        // these, and each value read is of the type that the system writes for its level and kind, unaligned.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&raw const header.msg_hdr);
            while let Some(control) = next.as_ref() {
                let data = libc::CMSG_DATA(control);
                match (control.cmsg_level, control.cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        burst.to = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into();
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        burst.to = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let size = data.cast::<libc::c_int>().read_unaligned();
                        burst.segment = u32::try_from(size).unwrap_or(0).min(burst.whole.length);
                    }
                    _ => {}
                }
                next = libc::CMSG_NXTHDR(&raw const header.msg_hdr, control);
            }
        }
        burst
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("bursts", &self.bursts).finish_non_exhaustive()
    }
}

impl Burst {
    /// All its datagrams in one stretch.
    pub const fn whole(&self) -> Part {
        self.whole
    }

    /// Bytes of each datagram but the last, which may have fewer.
    pub const fn segment(&self) -> u32 {
        self.segment
    }

    /// Its datagrams, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = Part> + use<> {
        cut(self.whole, self.segment)
    }
}

impl Part {
    /// Its length in bytes.
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// A stretch in pieces of `size` bytes, the last of which may have fewer; an empty one is one empty piece.
pub(super) fn cut(whole: Part, size: u32) -> impl Iterator<Item = Part> + use<> {
    let size = size.max(1);
    let count = whole.length.div_ceil(size).max(1);
    (0..count).map(move |index| {
        let offset = index * size;
        Part { start: whole.start + offset, length: size.min(whole.length - offset) }
    })
}

const fn unspecified() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a name of this family has this layout, and the storage is larger and aligned for all.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}
