//! TLS for new connections, with the certificate as it is now: given files are renewed by other programs
//! every few weeks, and a server runs longer than that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;

use crate::certificate::{Identity, Pin};

/// How often given files are looked at. A renewal is made weeks ahead, so this need not be fast.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Accepts TLS connections.
pub(crate) struct Tls {
    current: Mutex<Current>,
    files: Option<(PathBuf, PathBuf)>,
}

struct Current {
    acceptor: TlsAcceptor,
    pin: Pin,
    /// When the given files were last written.
    written: Option<[SystemTime; 2]>,
}

impl Tls {
    /// Serves `identity`, which was read from `files` (certificate and key) if there are any.
    pub(crate) fn new(identity: &Identity, files: Option<(PathBuf, PathBuf)>) -> Result<Self, rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
        let written = files.as_ref().and_then(written);
        Ok(Self { current: Mutex::new(Current { acceptor, pin: identity.pin(), written }), files })
    }

    /// The acceptor for one more connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.lock().acceptor.clone()
    }

    /// The pin of the certificate that is served.
    pub(crate) fn pin(&self) -> Pin {
        self.lock().pin
    }

    /// Takes up renewed files, for ever.
    pub(crate) async fn serve_renewals(&self) {
        if self.files.is_none() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(SystemTime::now());
        }
    }

    /// Takes up the given files if they were written since. What is wrong with them is told, and the
    /// certificate served so far stays.
    fn look(&self, now: SystemTime) {
        let Some(files) = &self.files else { return };
        let written = written(files);
        if written.is_none() || written == self.lock().written {
            return;
        }
        let read = Identity::given(&files.0, &files.1, now).map_err(|error| error.to_string());
        let config = read.and_then(|identity| match identity.server_config() {
            Ok(config) => Ok((identity.pin(), config)),
            Err(error) => Err(error.to_string()),
        });
        let mut current = self.lock();
        match config {
            Ok((pin, config)) => {
                *current = Current { acceptor: TlsAcceptor::from(Arc::new(config)), pin, written };
                tracing::info!(%pin, "serving the renewed certificate");
            }
            Err(error) => tracing::warn!(%error, "the new certificate cannot be served; keeping the old one"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written((certificate, key): &(PathBuf, PathBuf)) -> Option<[SystemTime; 2]> {
    let of = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    Some([of(certificate)?, of(key)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_files_are_taken_up_and_bad_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let made = |name: &str| {
            let state = dir.path().join(name);
            let pin = Identity::own(&state, now).unwrap().pin();
            (pin, std::fs::read(state.join("certificate.pem")).unwrap())
        };
        let ((old_pin, old), (new_pin, new)) = (made("old"), made("new"));
        let given = dir.path().join("given.pem");
        let files = (given.clone(), given.clone());
        let mut at = now;
        let mut write = |pem: &[u8]| {
            at += Duration::from_secs(1);
            std::fs::write(&given, pem).unwrap();
            std::fs::File::options().write(true).open(&given).unwrap().set_modified(at).unwrap();
        };
        write(&old);
        let tls = Tls::new(&Identity::given(&files.0, &files.1, now).unwrap(), Some(files)).unwrap();
        write(b"half a file");
        tls.look(now);
        assert_eq!(tls.pin(), old_pin);
        write(&new);
        tls.look(now);
        assert_eq!(tls.pin(), new_pin);
    }
}
