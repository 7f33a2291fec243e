//! Programs that run in a namespace while a test goes on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::namespace::Namespace;

/// A program that was started in a namespace; its output goes to a log file.
///
/// A handle: the lab ends the program when it is dropped.
#[derive(Clone, Debug)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    pid: u32,
    started: SystemTime,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `program` in `namespace` with its output in `log`.
    pub(crate) fn start(
        namespace: &Namespace,
        name: String,
        program: &Path,
        args: &[&str],
        env: &[(&str, &str)],
        log: PathBuf,
    ) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(&log);
        let out = open().map_err(LabError::io(format!("open log {}", log.display())))?;
        let err = out.try_clone().map_err(LabError::io(format!("open log {}", log.display())))?;
        let started = SystemTime::now();
        let child = namespace
            .command(program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| LabError::Start { command: program.display().to_string(), source })?;
        let pid = child.id();
        Ok(Self { inner: Arc::new(Inner { name, pid, started, log, child: Mutex::new(child) }) })
    }

    /// What it is called in logs.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// The wall clock just before it was started.
    pub fn started(&self) -> SystemTime {
        self.inner.started
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.inner.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until it has written a line with `text`.
    ///
    /// # Errors
    /// When it has not after `limit`, or has ended without.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("{text:?} in the log of {}", self.inner.name), limit, || {
            let ended = self.exited();
            if self.log().contains(text) {
                return Ok(Some(()));
            }
            match ended {
                Some(status) => Err(LabError::unexpected(format!(
                    "{} ended with {status} and never said {text:?}: {}",
                    self.inner.name,
                    self.log()
                ))),
                None => Ok(None),
            }
        })
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        // Both fail only when it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        self.send(Signal::SIGTERM);
    }

    /// Keeps it from running (SIGSTOP) until [`Self::resume`]: it is there and does nothing.
    pub fn pause(&self) {
        self.send(Signal::SIGSTOP);
    }

    /// Lets it run on (SIGCONT).
    pub fn resume(&self) {
        self.send(Signal::SIGCONT);
    }

    /// How it ended, or none while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        wait_for(&format!("the end of {}", self.inner.name), limit, || Ok(self.exited()))
    }

    fn send(&self, signal: Signal) {
        if let (true, Ok(pid)) = (self.exited().is_none(), i32::try_from(self.inner.pid)) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.inner.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
