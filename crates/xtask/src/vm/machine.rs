//! The virtual machine: started, listened to, and ended in every case.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = "qemu-system-x86_64";

/// The line on the console that tells how the command ended.
const STATUS: &str = "wireplug-vm: status ";

/// What the kernel is told. A panic ends the machine at once. The clock is the processor's counter, which the emulator
/// keeps the same on all CPUs; without these words the kernel would distrust it and take a slow one. It would also try for a few
/// milliseconds whether the timer ticks, and give up on a busy host that does not let it. Waiting for
/// grace periods of RCU makes namespaces slow, and protections against other tenants have no use here.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off nokaslr \
    rcupdate.rcu_expedited=1 apparmor=0 selinux=0";

/// The process id of the emulator that runs now, or 0.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// A virtual machine that runs one command.
#[derive(Debug)]
pub(super) struct Machine {
    /// The kernel's image.
    pub(super) kernel: PathBuf,
    /// The initial file system, with the command in it.
    pub(super) initramfs: PathBuf,
    /// With the processor's support instead of emulation.
    pub(super) kvm: bool,
    /// How long it may run.
    pub(super) limit: Duration,
}

impl Machine {
    /// Boots, shows the console, and returns the command's exit status. The machine is gone then.
    pub(super) fn run(&self) -> Result<i32> {
        let started = Instant::now();
        let mut emulator = Emulator::start(&mut self.command())?;
        let lines = emulator.lines()?;
        loop {
            let left = self.limit.saturating_sub(started.elapsed());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the virtual machine was ended after {} s: its last output is above; --limit allows more",
                    self.limit.as_secs()
                ),
                Err(RecvTimeoutError::Disconnected) => bail!(
                    "the virtual machine ended by itself ({}) before its command did: did its kernel panic?",
                    emulator.wait()?
                ),
            };
            if let Some(status) = line.strip_prefix(STATUS) {
                return status.parse().with_context(|| format!("cannot read a status from {line:?}"));
            }
            // A closed pipe ends the program, and with it the machine.
            writeln!(std::io::stdout(), "{line}").context("cannot print what the virtual machine says")?;
        }
    }

    fn command(&self) -> Command {
        // The kernel ends the emulator with this process, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM]);
        command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
        let accelerator: &[&str] = if self.kvm {
            &["-accel", "kvm", "-cpu", "host"]
        } else {
            &["-accel", "tcg,thread=multi", "-cpu", "max"]
        };
        command.args(accelerator).args(["-smp", "2", "-m", "2G"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        command.args(["-append", COMMAND_LINE]);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        let tree = "local,id=host,path=/,readonly=on,security_model=none,multidevs=remap";
        command.args(["-fsdev", tree, "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
        command
    }
}

/// Ends the emulator that runs now, for a program that is about to end by a signal.
pub(crate) fn end_running() {
    let pid = RUNNING.swap(0, Ordering::SeqCst);
    if pid > 0 {
        // It may be gone by now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// A running emulator; dropping it ends it.
struct Emulator {
    child: Child,
}

impl Emulator {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.context("cannot start setpriv (of util-linux), which starts the emulator")?;
        RUNNING.store(i32::try_from(child.id()).unwrap_or(0), Ordering::SeqCst);
        Ok(Self { child })
    }

    /// The console's lines as they come.
    fn lines(&mut self) -> Result<Receiver<String>> {
        let console = self.child.stdout.take().context("the emulator's output was taken before")?;
        let (sender, receiver) = channel();
        thread::spawn(move || read_lines(console, &sender));
        Ok(receiver)
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus> {
        self.child.wait().context("cannot wait for the emulator")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        RUNNING.store(0, Ordering::SeqCst);
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(console: ChildStdout, out: &Sender<String>) {
    let mut console = BufReader::new(console);
    let mut line = Vec::new();
    while next_line(&mut console, &mut line).is_ok_and(|more| more) {
        let text = String::from_utf8_lossy(&line);
        if out.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
            return;
        }
    }
}

fn next_line(console: &mut BufReader<impl Read>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    Ok(console.read_until(b'\n', line)? > 0)
}
