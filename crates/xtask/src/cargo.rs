//! Running cargo in this workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use wireplug_lab::Binaries;

/// Runs one cargo command in the workspace's root with its output on the terminal.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    eprintln!("==> cargo {}", arguments.join(" "));
    let status = command(arguments)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("cannot start cargo {}", arguments.join(" ")))?;
    if status.success() {
        return Ok(());
    }
    bail!("`cargo {}` failed", arguments.join(" "))
}

/// Whether cargo has this subcommand.
pub(crate) fn has(subcommand: &str) -> bool {
    let quiet = command(&[subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Builds the product's programs with optimisation and says where they are.
pub(crate) fn release_binaries() -> Result<Binaries> {
    run(&["build", "--quiet", "--release", "--bins", "-p", "wireplugd", "-p", "wireplug-serverd"], &[])?;
    // This program is TARGET/PROFILE/xtask.
    let exe = std::env::current_exe().context("cannot find the running executable")?;
    let target =
        exe.parent().and_then(Path::parent).context("the running executable is in no target directory")?;
    Ok(Binaries::in_dir(target.join("release")))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The workspace's root: two above this crate.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
