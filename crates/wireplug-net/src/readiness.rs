//! Sockets of our own making on tokio's reactor.

use std::io;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A non-blocking socket whose readiness tokio watches. Panics outside of a tokio runtime, as tokio's own
/// sockets do.
pub(crate) fn watch(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    socket.set_nonblocking(true)?;
    // SAFETY: a `Socket` owns one open descriptor from its making to its drop, has no way to exchange it, and returns
    // it from every `as_raw_fd`. It is moved into the `AsyncFd`, which gives out `&Socket` only (nobody here calls
    // `get_mut` or `into_inner`), so nothing can close the descriptor or put another socket in its place before.
    let watched = unsafe { AsyncFd::register_with_interest(socket, interest) };
    Ok(watched?)
}
