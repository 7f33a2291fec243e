//! The socket that the crate `natpmp` reads and writes: bound by the daemon, and with the memory of why it failed.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use natpmp::AsyncUdpSocket;
use wireplug_strategy::Datagrams;

/// The most datagrams read for one client that are no proper answers: a flood costs no more.
const MAX_JUNK: u8 = 64;

/// RFC 6886 section 3.2: the shortest answer; an error may leave the rest out (section 3.5).
const HEAD: usize = 8;
/// RFC 6886 section 3.2.
const ADDRESS: usize = 12;
/// RFC 6886 section 3.3.
const MAPPING: usize = 16;

/// Clones are handles: the crate keeps its own to itself.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    inner: Arc<dyn Datagrams>,
    failure: Arc<Mutex<Option<io::Error>>>,
    junk: Arc<AtomicU8>,
}

impl Socket {
    pub(crate) fn new(inner: Arc<dyn Datagrams>) -> Self {
        Self { inner, failure: Arc::default(), junk: Arc::default() }
    }

    /// Why the last call failed, which the crate does not tell.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| {
            let kind = error.kind();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            kind.into()
        })
    }
}

#[async_trait]
impl AsyncUdpSocket for Socket {
    /// The daemon has connected it.
    async fn connect(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.note(self.inner.send(datagram).await).map(|()| datagram.len())
    }

    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // The crate tries nine times what fails, at once; what has failed once stays so.
        if self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        while self.junk.load(Ordering::Relaxed) < MAX_JUNK {
            let datagram = self.note(self.inner.receive().await)?;
            if is_whole(&datagram) {
                let length = datagram.len().min(buffer.len());
                buffer[..length].copy_from_slice(&datagram[..length]);
                return Ok(length);
            }
            self.junk.fetch_add(1, Ordering::Relaxed);
        }
        std::future::pending().await
    }
}

/// Whether it has all that its kind must have: the crate would read zeros behind its end.
fn is_whole(datagram: &[u8]) -> bool {
    let (Some(version), Some(opcode), Some(result)) = (datagram.first(), datagram.get(1), datagram.get(2..4))
    else {
        return false;
    };
    let least = match (*version, result, *opcode) {
        (0, [0, 0], 0x80) => ADDRESS,
        (0, [0, 0], 0x81 | 0x82) => MAPPING,
        _ => HEAD,
    };
    opcode & 0x80 != 0 && datagram.len() >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_end_early_are_none() {
        let address = [0, 0x80, 0, 0, 0, 0, 0, 9, 5, 6, 7, 8];
        let mapping = [0, 0x81, 0, 0, 0, 0, 0, 9, 0, 1, 0, 1, 0, 0, 0, 60];
        let denied = [0, 0x81, 0, 2, 0, 0, 0, 9];
        for whole in [&address[..], &mapping[..], &denied[..]] {
            assert!(is_whole(whole));
            for length in 0..whole.len() {
                assert!(!is_whole(&whole[..length]), "{length} of {whole:?}");
            }
        }
        assert!(!is_whole(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "a question is no answer");
    }
}
