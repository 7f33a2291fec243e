//! `cargo xtask vm`: the lab in a virtual machine whose kernel has the WireGuard module and netem.
//!
//! The machine is QEMU without hardware support by default, so that it runs wherever a program may run.
//! Its kernel is Debian's, its disk the host's own tree, read-only with changes in memory ([`machine`]).
//! What runs in it was built before on the host ([`programs`]).

mod initramfs;
mod kernel;
mod machine;
mod programs;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{VmArguments, cargo, packages};

pub(crate) use machine::end_running;

/// How long the virtual machine may run if nobody says otherwise, in seconds: its own tests take about four minutes on a machine
/// with two cores and nothing else to do, and a busy or slower one has five times that.
pub(crate) const LIMIT: u64 = 1200;

/// The variable that leaves the virtual machine out of `cargo xtask test` when it is 1.
const SKIP: &str = "WIREPLUG_SKIP_VM";

/// All that the virtual machine needs is there.
#[derive(Debug)]
pub(crate) struct Vm {
    dir: PathBuf,
    kernel: kernel::Kernel,
    /// One at a time in this target directory.
    _lock: File,
}

impl Vm {
    /// Installs and fetches what is missing.
    ///
    /// Fails where the packages cannot be had, which says nothing about the code.
    pub(crate) fn prepare() -> Result<Self> {
        packages::ensure_for_vm()?;
        let dir = cargo::target_dir()?.join("vm");
        let lock = lock(&dir).with_context(|| format!("cannot lock {}", dir.display()))?;
        let kernel = kernel::Kernel::prepare(&dir)?;
        Ok(Self { dir, kernel, _lock: lock })
    }

    /// Runs the tests that are proven on the module, or those that filters name, then the measurement.
    pub(crate) fn run(&self, arguments: &VmArguments) -> Result<()> {
        let measure = programs::Measure { runs: arguments.measure, unoptimised: arguments.unoptimised };
        let script = match &arguments.shell {
            Some(command) => format!("{command}\n"),
            None => programs::build(&self.dir, &arguments.filters, measure)?,
        };
        let machine = machine::Machine {
            kernel: self.kernel.image.clone(),
            initramfs: initramfs::build(&self.dir, &self.kernel, &script)?,
            kvm: arguments.kvm,
            limit: Duration::from_secs(arguments.limit),
        };
        let pace = if arguments.kvm { "" } else { ", emulated: about ten times slower than this one" };
        eprintln!("==> Linux {} in a virtual machine{pace}", self.kernel.version);
        match machine.run()? {
            0 => Ok(()),
            status => {
                bail!("what ran in the virtual machine failed with status {status}; its output is above")
            }
        }
    }
}

/// Runs the virtual machine's own tests as a part of all tests. Where it cannot be had, or is not wanted, that is said
/// and no failure.
pub(crate) fn run_with_all_tests() -> Result<()> {
    const NOT_RUN: &str = "==> NOT RUN: the tests against the kernel's own WireGuard, in a virtual machine:";
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        eprintln!("{NOT_RUN} {SKIP} is 1");
        return Ok(());
    }
    match Vm::prepare() {
        Ok(vm) => {
            vm.run(&VmArguments { limit: LIMIT, measure: 1, unoptimised: true, ..VmArguments::default() })
        }
        Err(error) => {
            eprintln!("{NOT_RUN} {error:#}");
            Ok(())
        }
    }
}

/// Waits until no other process uses the directory, which is made if there is none.
fn lock(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let file = File::create(dir.join("lock"))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another `cargo xtask vm`");
        file.lock()?;
    }
    Ok(file)
}
