//! What figures were measured on, and with which versions.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// Processor, cores and kernel, what was measured, and the versions of the other programs: one line.
///
/// `wireplug` is [`version`], taken before the build: a measurement takes longer than the next commit.
pub(crate) fn line(wireplug: &str, others: &[&str]) -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parts = vec![
        format!("{}, {cores} cores", processor().unwrap_or_else(|| "unknown processor".to_owned())),
        format!("Linux {}", output(&["uname", "-r"])?),
    ];
    parts.extend(others.iter().map(|package| format!("{package} {}", package_version(package))));
    parts.push(format!("wireplug {wireplug}"));
    Ok(format!("{}.", parts.join("; ")))
}

/// The same, with the WireGuard that the lab has; the kernel's goes with the kernel.
pub(crate) fn lab_line(wireplug: &str) -> Result<String> {
    let others: &[&str] = if wireplug_lab::by_kernel() { &[] } else { &["wireguard-go"] };
    line(wireplug, others)
}

/// The commit that is built now, if what is measured is built from it.
pub(crate) fn version() -> String {
    if std::env::var_os("WIREPLUG_LAB_BINARIES").is_some() {
        return "built elsewhere".to_owned();
    }
    output(&["git", "describe", "--always", "--dirty"]).unwrap_or_else(|_| "unknown".to_owned())
}

fn package_version(package: &str) -> String {
    output(&["dpkg-query", "-W", "-f", "${Version}", package]).unwrap_or_else(|_| "unknown".to_owned())
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// What a program prints, run in the workspace's root.
fn output(command: &[&str]) -> Result<String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .current_dir(cargo::root())
        .output()
        .with_context(|| format!("cannot start {}", command[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    bail!("`{}` failed with {}", command.join(" "), output.status)
}
