//! Debian's kernel: downloaded as a package and unpacked beside the build, never installed on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The package that depends on the current kernel's package.
const META_PACKAGE: &str = "linux-image-amd64";

/// A kernel and its modules on disk.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its release, as `uname -r` would print it.
    pub(super) version: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// The directory that has `lib/modules/VERSION`.
    pub(super) root: PathBuf,
}

impl Kernel {
    /// The kernel in `dir`, fetched if there is none yet.
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        let root = dir.join("kernel");
        // Written last: without it, an earlier run was interrupted.
        let complete = root.join("complete");
        if complete.exists() {
            return Self::unpacked(&root);
        }
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "the virtual machine runs x86_64 programs of this host, which is {}",
                std::env::consts::ARCH
            );
        }
        fetch(dir, &root)?;
        let kernel = Self::unpacked(&root)?;
        // The packages leave it to their installation to list which module needs which.
        tool(Command::new("depmod").arg("--basedir").arg(&root).arg(&kernel.version))?;
        fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
        Ok(kernel)
    }

    /// The files of `modules` and of all that they need, in the order in which they can be loaded.
    pub(super) fn files_of(&self, modules: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for module in modules {
            let mut modprobe = Command::new("modprobe");
            modprobe.arg("--dirname").arg(&self.root).args(["--set-version", &self.version]);
            // One line for each: `insmod FILE`, or `builtin NAME`.
            for line in tool(modprobe.args(["--show-depends", module]))?.lines() {
                let file = line.strip_prefix("insmod ").map(|file| PathBuf::from(file.trim()));
                files.extend(file.filter(|file| !files.contains(file)));
            }
        }
        Ok(files)
    }

    fn unpacked(root: &Path) -> Result<Self> {
        let boot = root.join("boot");
        let entries = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
        for entry in entries.flatten() {
            if let Some(version) = entry.file_name().to_str().and_then(|name| name.strip_prefix("vmlinuz-")) {
                let version = version.to_owned();
                return Ok(Self { version, image: entry.path(), root: root.to_owned() });
            }
        }
        bail!("there is no kernel image in {}", boot.display())
    }
}

fn fetch(dir: &Path, root: &Path) -> Result<()> {
    let depends = tool(Command::new("apt-cache").args(["depends", "--important", META_PACKAGE]))
        .with_context(|| format!("apt knows no package {META_PACKAGE}: the kernel is Debian's (amd64)"))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("{META_PACKAGE} depends on no kernel:\n{depends}"))?;
    eprintln!("==> fetching {package}");
    for old in [root, &dir.join("package")] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let download = dir.join("package");
    fs::create_dir_all(&download).with_context(|| format!("cannot make {}", download.display()))?;
    // As root in a directory that only root may enter, apt would warn that it cannot become another user.
    tool(
        Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(&download),
    )?;
    let mut packages =
        fs::read_dir(&download).with_context(|| format!("cannot read {}", download.display()))?;
    let file = packages.next().with_context(|| format!("apt-get has downloaded no {package}"))??.path();
    tool(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(root))?;
    fs::remove_dir_all(&download).with_context(|| format!("cannot remove {}", download.display()))
}

/// Runs a program and returns its output; its errors are the message when it fails.
pub(super) fn tool(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    bail!("{program} failed with {}: {}", output.status, errors.trim())
}
