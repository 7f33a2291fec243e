//! One network namespace: made, entered, configured, removed.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cmd;
use crate::error::{LabError, Result};

/// Every namespace's name starts so; the number that follows is the process that made it.
const PREFIX: &str = "wplab-";

/// A named network namespace without a route to anywhere but what the lab links to it.
///
/// The [`crate::Lab`] that made it removes it; this is a handle.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace for the lab `lab_id` (which starts with the process id), with its loopback up.
    pub(crate) fn create(lab_id: &str, label: &str) -> Result<Self> {
        let this = Self { name: format!("{PREFIX}{lab_id}-{label}") };
        cmd::run(&["ip", "netns", "add", &this.name], "")?;
        match this.prepare() {
            Ok(()) => Ok(this),
            Err(error) => {
                this.delete();
                Err(error)
            }
        }
    }

    fn prepare(&self) -> Result<()> {
        self.ip(&["link set lo up"])?;
        // No waiting for duplicate addresses: every address in the lab is given by hand.
        // The lab's own pings come from ordinary ICMP sockets.
        self.sysctl(&[
            ("net.ipv6.conf.all.accept_dad", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ])
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the namespace. Its devices go once no process holds it any more.
    pub(crate) fn delete(&self) {
        // Nothing can be done about a failure here; the next lab's sweep tries again.
        let _ = cmd::output(&["ip", "netns", "del", &self.name], "");
    }

    /// Runs lines of `ip -batch` in the namespace.
    ///
    /// # Errors
    /// When a line fails.
    pub fn ip(&self, lines: &[impl AsRef<str>]) -> Result<()> {
        cmd::run(&["ip", "-n", &self.name, "-batch", "-"], &joined(lines)).map(drop)
    }

    /// Runs lines of `ip -6 -batch` in the namespace, for rules, whose family no address tells.
    ///
    /// # Errors
    /// When a line fails.
    pub fn ip6(&self, lines: &[impl AsRef<str>]) -> Result<()> {
        cmd::run(&["ip", "-6", "-n", &self.name, "-batch", "-"], &joined(lines)).map(drop)
    }

    /// Loads an nftables ruleset.
    ///
    /// # Errors
    /// When nft refuses it.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.run_with(&["nft", "-f", "-"], rules).map(drop)
    }

    /// Sets sysctls.
    ///
    /// # Errors
    /// When one is not known or may not be set.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        let pairs: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut argv = vec!["sysctl", "-q", "-w"];
        argv.extend(pairs.iter().map(String::as_str));
        self.run(&argv).map(drop)
    }

    /// Runs a program in the namespace to its end and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        self.run_with(argv, "")
    }

    /// As [`Self::run`], with text for the program's standard input.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run_with(&self, argv: &[&str], input: &str) -> Result<String> {
        let mut all = vec!["ip", "netns", "exec", &self.name];
        all.extend_from_slice(argv);
        cmd::run(&all, input)
    }

    /// A command that will run in the namespace; its process is the program itself, not a wrapper.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on a thread inside the namespace. Sockets that it opens stay there for good.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or what `work` returns.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(&path).map_err(LabError::io(format!("open {path}")))?;
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| LabError::io(format!("enter {path}"))(errno.into()))?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

fn joined(lines: &[impl AsRef<str>]) -> String {
    lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect()
}

/// Removes what labs of processes that are gone have left: a killed test cannot clean up after itself.
pub(crate) fn sweep() {
    remove_of(|maker| !Path::new(&format!("/proc/{maker}")).exists());
}

/// Ends and removes all labs of this process at once, for a program that is about to end by a signal.
pub fn abandon_labs() {
    remove_of(|maker| maker == std::process::id());
}

/// Removes the namespaces of labs whose process is meant, with all that runs there: the lab started it.
fn remove_of(meant: impl Fn(u32) -> bool) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let Some(maker) = rest.split('-').next().and_then(|pid| pid.parse().ok()) else { continue };
        if !meant(maker) {
            continue;
        }
        let pids = cmd::run(&["ip", "netns", "pids", &name], "").unwrap_or_default();
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // It may be gone by now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(Path::new("/etc/netns").join(&name));
        Namespace { name }.delete();
    }
}
