//! Waiting for any of many sockets.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::BatchSocket;

/// The event of the waker; sockets have their own numbers.
const WOKEN: u64 = u64::MAX;
/// The most events taken at once; the rest come with the next wait, in turn.
const EVENTS: usize = 64;

/// Waits until sockets have something. A wait costs nothing while they have nothing.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    woken: Arc<EventFd>,
    events: Vec<EpollEvent>,
}

/// Ends the wait of a [`Poller`] on another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<EventFd>);

impl Poller {
    /// A poller for one thread.
    ///
    /// # Errors
    /// What the system says, such as too many open files.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let woken = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC.union(EfdFlags::EFD_NONBLOCK))?);
        epoll.add(woken.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WOKEN))?;
        Ok(Self { epoll, woken, events: vec![EpollEvent::empty(); EVENTS] })
    }

    /// Watches a socket from now on, under a number of the caller's.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, socket: &BatchSocket, number: usize) -> io::Result<()> {
        Ok(self.epoll.add(&socket.socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?)
    }

    /// What ends a wait.
    pub fn waker(&self) -> Waker {
        Waker(self.woken.clone())
    }

    /// Waits for sockets that have something, and puts their numbers into `ready`, which is cleared. It ends
    /// without any after a timeout, a wake or a signal.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&mut self, ready: &mut Vec<usize>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
            EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &self.events[..count] {
            match usize::try_from(event.data()) {
                Ok(number) if event.data() != WOKEN => ready.push(number),
                _ => {
                    self.woken.read().ok();
                }
            }
        }
        Ok(())
    }
}

impl Waker {
    /// Ends the wait that lasts, or else the next one.
    pub fn wake(&self) {
        // Proof that a failure is none: the counter is full only if there were 2^64 wakes that nobody saw.
        self.0.write(1).ok();
    }
}
