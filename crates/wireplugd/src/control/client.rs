//! Asking running daemons. Blocking: it is all that `wireplug status` does.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, ControlError, Question, socket_path};
use crate::interface::InterfaceName;
use crate::status::InterfaceStatus;

/// How long one daemon may take; longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(6);
/// The longest answer, in bytes: some ten thousand peers.
const MAX_ANSWER: u64 = 8 << 20;

/// The status of one interface in this network namespace.
///
/// # Errors
/// [`ControlError::NotRunning`] where no daemon answers for it.
pub fn ask(run_directory: &Path, interface: &InterfaceName) -> Result<InterfaceStatus, ControlError> {
    match ask_at(&socket_path(run_directory, interface)) {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(ControlError::NotRunning(interface.clone())),
        Err(error) => Err(error),
    }
}

/// The status of all interfaces that are looked after in this network namespace, by name, and what went wrong
/// with daemons that did not answer.
///
/// # Errors
/// [`ControlError::NoneRunning`] where there is none.
pub fn ask_all(run_directory: &Path) -> Result<(Vec<InterfaceStatus>, Vec<ControlError>), ControlError> {
    let failed = |error| ControlError::io("read", run_directory, error);
    let entries = match std::fs::read_dir(run_directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ControlError::NoneRunning),
        entries => entries.map_err(failed)?,
    };
    let (mut all, mut silent) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            match ask_at(&path) {
                Ok(status) => all.extend(status),
                Err(error) => silent.push(error),
            }
        }
    }
    if all.is_empty() && silent.is_empty() {
        return Err(ControlError::NoneRunning);
    }
    all.sort_by(|a, b| a.interface.cmp(&b.interface));
    Ok((all, silent))
}

/// `None` where nobody listens.
fn ask_at(path: &Path) -> Result<Option<InterfaceStatus>, ControlError> {
    let failed = |error| ControlError::io("ask", path, error);
    let bad = |why: String| ControlError::BadAnswer { path: path.to_owned(), why };
    let mut stream = match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        stream => stream.map_err(failed)?,
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut question = serde_json::to_vec(&Question::Status).map_err(|error| failed(error.into()))?;
    question.push(b'\n');
    stream.write_all(&question).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut line).map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Status(status)) => Ok(Some(*status)),
        Ok(Answer::Error(why)) => Err(bad(why)),
        Err(_) if line.is_empty() => Err(bad("it hung up without a word; only root may ask".to_owned())),
        Err(error) => Err(bad(error.to_string())),
    }
}
