//! The machine: which core the load runs on, and what another process has used.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Keeps this thread on one core.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("there is no core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot stay on core {core}"))
}

/// Runs `work` in the network namespace of this name. Sockets that it opens stay there.
pub(crate) fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/run/netns/{name}");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
            setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {path}"))?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The CPU time that a process has used in all its threads, user's and system's: the sum of utime and stime in
/// /proc/PID/stat, in nanoseconds instead of ticks.
pub(crate) fn cpu_time(pid: i32) -> Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid))
        .with_context(|| format!("there is no process {pid} to measure"))?;
    Ok(clock_gettime(clock).with_context(|| format!("cannot read the CPU time of process {pid}"))?.into())
}

/// The CPU time that this thread has used.
pub(crate) fn own_cpu_time() -> Duration {
    // The clock of the calling thread is always there (clock_gettime(2)).
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// The resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no VmRSS"))
}
