//! The system's programs that the lab runs, and the packages that hold them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Programs, and the packages of Debian and Ubuntu that hold them.
const PACKAGES: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    // The names of protocols in nft's rules; an absolute path stands for itself.
    ("/etc/protocols", "netbase"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
    ("sysctl", "procps"),
    ("ping", "iputils-ping"),
    ("conntrack", "conntrack"),
    ("chrt", "util-linux"),
    ("taskset", "util-linux"),
    ("ethtool", "ethtool"),
    ("turnserver", "coturn"),
    ("iperf3", "iperf3"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("avahi-daemon", "avahi-daemon"),
    ("avahi-browse", "avahi-utils"),
    ("curl", "curl"),
    ("dumpcap", "wireshark-common"),
    ("tshark", "tshark"),
    ("nginx", "nginx-light"),
];

/// What the virtual machine needs besides.
const VM_PACKAGES: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("modprobe", "kmod"),
    ("depmod", "kmod"),
];

/// What the fuzz targets need besides: libFuzzer is C++.
const FUZZ_PACKAGES: [(&str, &str); 1] = [("c++", "g++")];

/// Installs what is missing where apt-get is there; elsewhere names it.
pub(crate) fn ensure() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this needs root to make network namespaces: run `sudo -E env \"PATH=$PATH\" cargo xtask ...`");
    }
    install(PACKAGES)?;
    ensure_tun()
}

/// As [`ensure`], for the virtual machine.
pub(crate) fn ensure_for_vm() -> Result<()> {
    install(&VM_PACKAGES)
}

/// As [`ensure`], for the fuzz targets.
pub(crate) fn ensure_for_fuzz() -> Result<()> {
    install(&FUZZ_PACKAGES)
}

fn install(packages: &[(&'static str, &'static str)]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if which("apt-get").is_none() {
        bail!("these packages (by their names in Debian) are missing, install them and try again: {names}");
    }
    eprintln!("installing with apt-get: {names}");
    apt_get(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(&install)?;
    let still: Vec<&str> = self::missing(packages);
    if !still.is_empty() {
        bail!("apt-get has installed {names}, but there still is no program of {}", still.join(", "));
    }
    Ok(())
}

/// wireguard-go needs the TUN device, which some containers do not have.
fn ensure_tun() -> Result<()> {
    if Path::new("/dev/net/tun").exists() {
        return Ok(());
    }
    bail!("/dev/net/tun is missing: `modprobe tun`, or start the container with `--device /dev/net/tun`")
}

fn missing(packages: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = packages
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

/// Where a program is in PATH.
fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get")?;
    if status.success() {
        return Ok(());
    }
    bail!(
        "`apt-get {}` failed with {status}; install the packages by hand and try again",
        arguments.join(" ")
    )
}
