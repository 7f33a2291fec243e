//! Ending by a signal leaves no namespaces and no virtual machine behind.

use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

/// Lets SIGINT, SIGTERM and SIGHUP remove this process's labs and end its virtual machine before it ends. To be called before any
/// other thread is there.
pub(crate) fn clean_up_when_ended() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    // Threads made later inherit this; children that are started begin with no signal blocked.
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            crate::vm::end_running();
            wireplug_lab::abandon_labs();
            // What shells report for a program that a signal has ended.
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}
