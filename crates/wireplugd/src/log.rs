//! Where log lines go: standard error, which journald reads.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What is logged, in the language of `tracing`'s `EnvFilter`: `debug`, or `info,wireplugd=trace`.
pub const VARIABLE: &str = "WIREPLUG_LOG";

/// Sends events to standard error, from `info` on where [`VARIABLE`] does not say else. Under journald, which
/// has its own clock, without times. A second call does nothing.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(VARIABLE)
        .from_env_lossy();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // Fails only where somebody has set up logging already: then theirs is the one.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().try_init()
    } else {
        lines.try_init()
    };
}
