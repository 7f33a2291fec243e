//! What the virtual machine's kernel starts with: busybox, the modules that reach the host's tree, two scripts.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;

/// What is needed to mount the host's tree: 9p over a virtual PCI device, and the layer that takes changes.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The first program: mounts the host's tree and goes there.
const INIT: &str = include_str!("init.sh");
/// The program after it, in the host's tree: loads modules, runs the command, tells how it ended.
const STAGE2: &str = include_str!("stage2.sh");

/// Writes the image to a file in `dir` and returns its path. `script` is what a shell shall run.
pub(super) fn build(dir: &Path, kernel: &Kernel, script: &str) -> Result<PathBuf> {
    let tree = dir.join("initramfs");
    let image = dir.join("initramfs.cpio");
    fill(&tree, kernel, script)
        .and_then(|()| pack(&tree, &image))
        .with_context(|| format!("cannot build the initial file system in {}", tree.display()))?;
    Ok(image)
}

fn fill(tree: &Path, kernel: &Kernel, script: &str) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    for dir in ["bin", "proc", "sys", "dev", "modules", "lower", "upper", "new"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::copy(busybox()?, tree.join("bin/busybox"))?;
    symlink("busybox", tree.join("bin/sh"))?;
    let mut order = String::new();
    for file in kernel.files_of(&MODULES)? {
        let name = file.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        fs::copy(&file, tree.join("modules").join(&name))?;
        order.push_str(&name);
        order.push('\n');
    }
    fs::write(tree.join("modules/order"), order)?;
    let modules = fs::canonicalize(kernel.root.join("lib/modules"))?;
    fs::write(tree.join("modules/dir"), format!("{}\n", modules.display()))?;
    for (name, text) in [("init", INIT), ("stage2.sh", STAGE2), ("command.sh", script)] {
        let path = tree.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Debian's busybox-static has all applets and needs no library.
fn busybox() -> Result<PathBuf> {
    let places = ["/usr/bin/busybox", "/bin/busybox"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.context("there is no /usr/bin/busybox: install busybox-static")
}

/// Packs a tree as the kernel wants it: cpio's "newc" format.
fn pack(tree: &Path, image: &Path) -> Result<()> {
    let list = Command::new("find").arg(".").current_dir(tree).stdout(Stdio::piped()).spawn();
    let mut list = list.context("cannot start find")?;
    let names = list.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let out = fs::File::create(image)?;
    let status = Command::new(busybox()?)
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(tree)
        .stdin(names)
        .stdout(out)
        .stderr(Stdio::null())
        .status()
        .context("cannot start busybox cpio")?;
    if list.wait()?.success() && status.success() {
        return Ok(());
    }
    bail!("busybox cpio failed with {status}")
}
