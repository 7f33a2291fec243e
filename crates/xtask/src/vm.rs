//! `cargo xtask vm`: the lab in a virtual machine whose kernel has the WireGuard module and netem.
//!
//! The machine is QEMU without hardware support by default, so that it runs wherever a program may run.
//! Its kernel is Debian's, its disk the host's own tree, read-only with changes in memory ([`machine`]).
//! What runs in it was built before on the host ([`programs`]).

mod initramfs;
mod kernel;
mod machine;
mod programs;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{VmArguments, cargo, packages};

pub(crate) use machine::end_running;

/// How long the virtual machine may run if nobody says otherwise, in seconds: its own tests take half of it on a busy
/// machine with two cores.
pub(crate) const LIMIT: u64 = 600;

/// All that the virtual machine needs is there.
#[derive(Debug)]
pub(crate) struct Vm {
    dir: PathBuf,
    kernel: kernel::Kernel,
}

impl Vm {
    /// Installs and fetches what is missing.
    ///
    /// Fails where the packages cannot be had, which says nothing about the code.
    pub(crate) fn prepare() -> Result<Self> {
        packages::ensure_for_vm()?;
        let dir = cargo::target_dir()?.join("vm");
        let kernel = kernel::Kernel::prepare(&dir)?;
        Ok(Self { dir, kernel })
    }

    /// Runs the tests that are proven on the module, or those that filters name, then the measurement.
    pub(crate) fn run(&self, arguments: &VmArguments) -> Result<()> {
        let script = match &arguments.shell {
            Some(command) => format!("{command}\n"),
            None => programs::build(&arguments.filters, arguments.measure)?,
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
