//! Asking running daemons. Blocking: it is all that such a command does.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, ControlError, Question, ReloadReport, socket_path};
use crate::interface::InterfaceName;
use crate::status::{InterfaceStatus, StrategyInfo};

/// How long one daemon may take; longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(6);
/// The longest answer, in bytes: some ten thousand peers.
const MAX_ANSWER: u64 = 8 << 20;

/// The status of one interface in this network namespace.
///
/// # Errors
/// [`ControlError::NotRunning`] where no daemon answers for it.
pub fn ask(run_directory: &Path, interface: &InterfaceName) -> Result<InterfaceStatus, ControlError> {
    ask_one(run_directory, interface)
}

/// The status of all interfaces that are looked after in this network namespace, by name, and what went wrong
/// with daemons that did not answer.
///
/// # Errors
/// [`ControlError::NoneRunning`] where there is none.
pub fn ask_all(run_directory: &Path) -> Result<(Vec<InterfaceStatus>, Vec<ControlError>), ControlError> {
    ask_each(run_directory, |_, _| true)
}

/// The strategies of one interface's daemon, and how they go there.
///
/// # Errors
/// As [`ask`].
pub fn ask_strategies(
    run_directory: &Path,
    interface: &InterfaceName,
) -> Result<Vec<StrategyInfo>, ControlError> {
    ask_one(run_directory, interface)
}

/// The strategies of all daemons in this network namespace, by the names of their interfaces; one that several
/// daemons have is told by each. With it comes what went wrong with daemons that did not answer.
///
/// # Errors
/// As [`ask_all`].
pub fn ask_all_strategies(
    run_directory: &Path,
) -> Result<(Vec<StrategyInfo>, Vec<ControlError>), ControlError> {
    let (all, silent): (Vec<Vec<StrategyInfo>>, _) = ask_each(run_directory, |_, _| true)?;
    Ok((all.into_iter().flatten().collect(), silent))
}

/// Has the daemon of one interface read its config again.
///
/// # Errors
/// As [`ask`].
pub fn ask_reload(run_directory: &Path, interface: &InterfaceName) -> Result<ReloadReport, ControlError> {
    ask_one(run_directory, interface)
}

/// Has all daemons in this network namespace read their configs again, each once, however many interfaces it looks
/// after. With it comes what went wrong with daemons that did not answer.
///
/// # Errors
/// As [`ask_all`].
pub fn reload_all(run_directory: &Path) -> Result<(Vec<ReloadReport>, Vec<ControlError>), ControlError> {
    let named =
        |report: &ReloadReport, name: &OsStr| report.interfaces.iter().any(|one| *one.interface == *name);
    ask_each(run_directory, |all, name| !all.iter().any(|report| named(report, name)))
}

/// Something that a daemon can be asked for.
trait Told: Sized {
    const QUESTION: Question;

    /// None for the answer to another question.
    fn read(answer: Answer) -> Option<Self>;
}

impl Told for InterfaceStatus {
    const QUESTION: Question = Question::Status;

    fn read(answer: Answer) -> Option<Self> {
        if let Answer::Status(status) = answer { Some(*status) } else { None }
    }
}

impl Told for Vec<StrategyInfo> {
    const QUESTION: Question = Question::Strategies;

    fn read(answer: Answer) -> Option<Self> {
        if let Answer::Strategies(strategies) = answer { Some(strategies) } else { None }
    }
}

impl Told for ReloadReport {
    const QUESTION: Question = Question::Reload;

    fn read(answer: Answer) -> Option<Self> {
        if let Answer::Reload(report) = answer { Some(report) } else { None }
    }
}

fn ask_one<T: Told>(run_directory: &Path, interface: &InterfaceName) -> Result<T, ControlError> {
    match ask_at(&socket_path(run_directory, interface)) {
        Ok(Some(told)) => Ok(told),
        Ok(None) => Err(ControlError::NotRunning(interface.clone())),
        Err(error) => Err(error),
    }
}

/// Asks the daemons of all interfaces, one after another: those that are `wanted` by what others said and their own name.
fn ask_each<T: Told>(
    run_directory: &Path,
    wanted: impl Fn(&[T], &OsStr) -> bool,
) -> Result<(Vec<T>, Vec<ControlError>), ControlError> {
    let (mut all, mut silent) = (Vec::new(), Vec::new());
    for path in sockets(run_directory)? {
        if !wanted(&all, path.file_stem().unwrap_or_default()) {
            continue;
        }
        match ask_at(&path) {
            Ok(told) => all.extend(told),
            Err(error) => silent.push(error),
        }
    }
    if all.is_empty() && silent.is_empty() {
        return Err(ControlError::NoneRunning);
    }
    Ok((all, silent))
}

/// The control sockets of this network namespace, by the names of their interfaces.
fn sockets(run_directory: &Path) -> Result<Vec<PathBuf>, ControlError> {
    let failed = |error| ControlError::io("read", run_directory, error);
    let entries = match std::fs::read_dir(run_directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ControlError::NoneRunning),
        entries => entries.map_err(failed)?,
    };
    let mut sockets = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            sockets.push(path);
        }
    }
    // They are named after their interfaces.
    sockets.sort();
    Ok(sockets)
}

/// `None` where nobody listens.
fn ask_at<T: Told>(path: &Path) -> Result<Option<T>, ControlError> {
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
    let mut question = serde_json::to_vec(&T::QUESTION).map_err(|error| failed(error.into()))?;
    question.push(b'\n');
    stream.write_all(&question).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut line).map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Error(why)) => Err(bad(why)),
        Ok(answer) => match T::read(answer) {
            Some(told) => Ok(Some(told)),
            None => Err(bad("it answered another question".to_owned())),
        },
        Err(_) if line.is_empty() => Err(bad("it hung up without a word; only root may ask".to_owned())),
        Err(error) => Err(bad(error.to_string())),
    }
}
