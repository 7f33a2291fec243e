//! Running one-shot programs, and waiting for a condition.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};

/// How often a condition is looked at while waiting for it. Short, because a lab's steps take milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Runs a program with `input` on its standard input; returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started or does not exit with success.
pub(crate) fn run(argv: &[&str], input: &str) -> Result<String> {
    let output = output(argv, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Failed {
        command: argv.join(" "),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs a program to its end, however it ends.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn output(argv: &[&str], input: &str) -> Result<Output> {
    let start = |source| LabError::Start { command: argv.join(" "), source };
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says so by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().map_err(start)
}

/// Looks until `look` gives something, at most `limit` long on an ordinary machine.
///
/// # Errors
/// [`LabError::Timeout`] naming `what`; an error of `look` at once.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let limit = patient(limit);
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() >= limit {
            return Err(LabError::Timeout { what: what.to_owned(), after: limit });
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A limit for this machine: `WIREPLUG_LAB_PATIENCE` says how many times as long as on an ordinary one things may take.
pub(crate) fn patient(limit: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let text = std::env::var("WIREPLUG_LAB_PATIENCE").unwrap_or_default();
        text.parse().unwrap_or(1).max(1)
    });
    limit.saturating_mul(*FACTOR)
}
