//! Sending: many messages of one socket with one `sendmmsg`, runs of equal size as one message.

// Proof: sizes of C structures and counts of messages fit 32 bits.
#![expect(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use socket2::{SockAddr, Socket};

use super::pool::cut;
use super::{BatchSocket, Part, Pool};

/// Bytes of ancillary data: an address of this host and a segment size.
const CONTROL: usize = 64;
/// The most messages that are handed over at once.
const BATCH: usize = 128;

/// One or more datagrams to one destination.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Where to.
    pub to: SocketAddr,
    /// From which address of this host; used where the socket is bound to all.
    pub from: IpAddr,
    /// Its bytes: so many parts from this index on.
    pub first: u32,
    /// How many parts.
    pub parts: u32,
    /// Bytes of each datagram but the last, which may have fewer, if these are several. At most 64 datagrams
    /// and 65,000 bytes together; each part has whole datagrams.
    pub segment: Option<u16>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not tried yet.
    Waiting,
    /// The system took it.
    Sent,
    /// The system took its datagrams one by one only, because they do not fit the way to the destination: it is
    /// of no use to send several as one there.
    SentApart,
    /// The system did not take it, or not all of it.
    Lost,
}

/// Memory that sending needs, to be used again and again.
pub struct SendScratch {
    names: Vec<SockAddr>,
    vectors: Vec<libc::iovec>,
    controls: Box<[Control]>,
    headers: Vec<libc::mmsghdr>,
}

/// Ancillary data, aligned as the system wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

impl SendScratch {
    /// Memory for one thread.
    pub fn new() -> Self {
        Self {
            names: Vec::with_capacity(BATCH),
            vectors: Vec::with_capacity(4 * BATCH),
            controls: vec![Control([0; CONTROL]); BATCH].into_boxed_slice(),
            headers: Vec::with_capacity(BATCH),
        }
    }
}

impl Default for SendScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SendScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendScratch").finish_non_exhaustive()
    }
}

impl BatchSocket {
    /// Sends messages in order, now; `parts` are stretches of `pool`. Each message is told its outcome; what
    /// finds the buffers full is lost, as in a network.
    pub fn send(&self, scratch: &mut SendScratch, pool: &Pool, parts: &[Part], messages: &mut [Message]) {
        for batch in messages.chunks_mut(BATCH) {
            self.send_batch(scratch, pool, parts, batch);
        }
    }

    fn send_batch(&self, scratch: &mut SendScratch, pool: &Pool, parts: &[Part], messages: &mut [Message]) {
        self.prepare(scratch, pool, parts, messages);
        let mut done = 0;
        while done < messages.len() {
            // SAFETY: `prepare` has made one header for each message; each points to a name, to vectors and to
            // ancillary data that belong to `scratch` and have not moved since, and the vectors to bytes of `pool`,
            // which is borrowed. The system only reads these, but for the headers' lengths.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    scratch.headers[done..].as_mut_ptr(),
                    (messages.len() - done) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if let Ok(sent) = usize::try_from(sent)
                && sent > 0
            {
                messages[done..done + sent].iter_mut().for_each(|message| message.outcome = Outcome::Sent);
                done += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            match (error.raw_os_error(), messages[done].segment) {
                (Some(libc::EINTR), _) => continue,
                (Some(libc::EAGAIN), _) => {
                    messages[done..].iter_mut().for_each(|message| message.outcome = Outcome::Lost);
                    return;
                }
                // The device cannot do the checksums that cutting needs, or the kernel knows no segments.
                (Some(libc::EIO | libc::EOPNOTSUPP), Some(_)) => {
                    self.stop_segments();
                    messages[done].outcome = self.send_apart(pool, parts, &messages[done], Outcome::Sent);
                }
                // They are too large for the way: the kernel makes fragments of datagrams, not of segments.
                (Some(libc::EMSGSIZE | libc::EINVAL), Some(_)) => {
                    messages[done].outcome =
                        self.send_apart(pool, parts, &messages[done], Outcome::SentApart);
                }
                _ => messages[done].outcome = Outcome::Lost,
            }
            done += 1;
        }
    }

    /// Sends the datagrams of a run one by one.
    fn send_apart(&self, pool: &Pool, parts: &[Part], message: &Message, sent: Outcome) -> Outcome {
        let mut outcome = sent;
        let range = message.first as usize..(message.first + message.parts) as usize;
        for part in parts.get(range).unwrap_or_default() {
            for datagram in cut(*part, message.segment.map_or(part.length, u32::from)) {
                if self.send_one(pool.bytes(datagram), message.to, Some(message.from)).is_err() {
                    outcome = Outcome::Lost;
                }
            }
        }
        outcome
    }

    /// Makes a header for each of at most [`BATCH`] messages.
    fn prepare(&self, scratch: &mut SendScratch, pool: &Pool, parts: &[Part], messages: &[Message]) {
        let SendScratch { names, vectors, controls, headers } = scratch;
        names.clear();
        vectors.clear();
        headers.clear();
        names.extend(messages.iter().map(|message| SockAddr::from(message.to)));
        let chosen = |message: &Message| {
            let range = message.first as usize..(message.first + message.parts) as usize;
            parts.get(range).unwrap_or_default()
        };
        for part in messages.iter().flat_map(chosen) {
            let bytes = pool.bytes(*part);
            vectors.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        }
        // From here on, neither names nor vectors grow, so pointers into them stay right.
        let mut vector = vectors.as_mut_ptr();
        for ((message, name), control) in messages.iter().zip(names.iter()).zip(controls.iter_mut()) {
            // SAFETY: zeros are a value of this plain C structure.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            let count = chosen(message).len();
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = count as _;
            // SAFETY: the vectors of all messages were pushed in this order, so this is at most their end.
            vector = unsafe { vector.add(count) };
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = self.control(control, message) as _;
            if header.msg_hdr.msg_controllen == 0 {
                header.msg_hdr.msg_control = std::ptr::null_mut();
            }
            headers.push(header);
        }
    }

    /// Writes the ancillary data of one message; returns its length.
    fn control(&self, control: &mut Control, message: &Message) -> usize {
        let mut length = 0;
        if let Some(segment) = message.segment {
            length += put(control, length, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        match message.from {
            _ if !self.any => {}
            IpAddr::V4(from) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                length += put(control, length, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(from) => {
                let scope = if let SocketAddr::V6(to) = message.to { to.scope_id() } else { 0 };
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                    ipi6_ifindex: scope as _,
                };
                length += put(control, length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
        length
    }
}

/// Writes one piece of ancillary data at an offset; returns the space that it takes.
#[expect(clippy::cast_ptr_alignment)] // the array is aligned for a header, and `at` keeps that
fn put<T>(control: &mut Control, at: usize, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: these two only compute.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
    assert!(at + space <= CONTROL, "ancillary data is at most a segment size and an address");
    // SAFETY: the assertion keeps header and value inside the array; `at` is a sum of CMSG_SPACEs and so
    // aligned for a header as the array is; the value is written unaligned.
    unsafe {
        let header = control.0.as_mut_ptr().add(at).cast::<libc::cmsghdr>();
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = length as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
    space
}

/// Sets an option whose value is an int.
pub(super) fn set_int(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int that lives during the call, and its size is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
