//! Ending by a signal leaves no namespaces and no virtual machine behind.

use std::thread;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Lets SIGINT, SIGTERM and SIGHUP remove this process's labs and end its virtual machine before it ends. By
/// handlers, not by blocking the signals: what is blocked stays blocked in the programs that are started, and
/// the daemons of the tests could not be stopped.
pub(crate) fn clean_up_when_ended() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            crate::vm::end_running();
            wireplug_lab::abandon_labs();
            // What shells report for a program that a signal has ended.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
