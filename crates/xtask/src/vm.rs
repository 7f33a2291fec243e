//! `cargo xtask vm`: the lab in a virtual machine whose kernel has the WireGuard module and netem.
//!
//! The machine is QEMU without hardware support by default, so that it runs wherever a program may run.
//! Its kernel is Debian's, its disk the host's own tree, read-only with changes in memory ([`machine`]).
//! What runs in it was built before on the host ([`programs`]).

mod initramfs;
mod kernel;
mod machine;
mod programs;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{VmArguments, cargo, packages};

pub(crate) use machine::end_running;

/// Runs the tests that are proven on the module, or those that filters name, then the measurement.
pub(crate) fn run(arguments: &VmArguments) -> Result<()> {
    packages::ensure()?;
    packages::ensure_for_vm()?;
    let dir = cargo::target_dir()?.join("vm");
    let kernel = kernel::Kernel::prepare(&dir)?;
    let script = match &arguments.shell {
        Some(command) => format!("{command}\n"),
        None => programs::build(&arguments.filters, arguments.measure)?,
    };
    let initramfs = initramfs::build(&dir, &kernel, &script)?;
    let machine = machine::Machine {
        kernel: kernel.image.clone(),
        initramfs,
        kvm: arguments.kvm,
        limit: Duration::from_secs(arguments.limit),
    };
    eprintln!(
        "==> Linux {} in a virtual machine{}",
        kernel.version,
        if arguments.kvm { "" } else { ", emulated: about ten times slower than this one" }
    );
    match machine.run()? {
        0 => Ok(()),
        status => bail!("what ran in the virtual machine failed with status {status}; its output is above"),
    }
}
