//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::line::Line;

/// Why a lab could not be built, or did not behave as the test expects.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program could not be started at all.
    #[error(
        "cannot start `{command}`: {source}; is the package that holds it installed? `cargo xtask test` installs what the lab needs"
    )]
    Start {
        /// The command line that was tried.
        command: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed with {status}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status in words.
        status: String,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// One of the product's binaries is not where the test binary is.
    #[error("no binary {name} in {}: run `cargo build --workspace --bins` first (`cargo xtask test` does)", dir.display())]
    Binary {
        /// The binary's file name.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// An operation of the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program's output has not the form that is known here.
    #[error("cannot read {what} from {text:?}")]
    Parse {
        /// What was looked for.
        what: &'static str,
        /// The text that was given.
        text: String,
    },
    /// Something did not happen in time.
    #[error("waited {after:?} for {what}")]
    Timeout {
        /// What was waited for, and what was seen instead.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The lab's network or the product did something else than the test expects.
    #[error("{0}")]
    Unexpected(String),
    /// A line that only the kernel's netem can be.
    #[error(
        "a line with {line:?} needs netem, which this kernel has not (sch_netem): `modprobe sch_netem`, or `cargo xtask vm`, \
         whose kernel has it; only a plain delay for all works without (Lab::delay)"
    )]
    NoNetem {
        /// The line that was asked for.
        line: Line,
    },
    /// The lab makes network namespaces, which only root may.
    #[error(
        "the lab needs root to make network namespaces: run as root (sudo -E env PATH=\"$PATH\" cargo xtask test)"
    )]
    NotRoot,
}

impl LabError {
    /// An error of the operating system with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// An expectation of a test that was not met.
    pub fn unexpected(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }
}

/// The result of everything in the lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
