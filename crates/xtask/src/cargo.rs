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

/// Installs a subcommand of cargo where there is none: `cargo-NAME`, in this version, among cargo's own programs. Built
/// without optimisation, which takes half as long; nothing here waits for such a program.
pub(crate) fn ensure(subcommand: &str, version: &str) -> Result<()> {
    if has(subcommand) {
        return Ok(());
    }
    let name = format!("cargo-{subcommand}");
    run(&["install", "--quiet", "--locked", "--debug", &name, "--version", version], &[])
}

/// What `cargo metadata` says of the crates of this workspace.
pub(crate) fn packages() -> Result<Vec<serde_json::Value>> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let output =
        command(&arguments).stderr(Stdio::inherit()).output().context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    let mut metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")?;
    match metadata["packages"].take() {
        serde_json::Value::Array(packages) => Ok(packages),
        other => bail!("cargo metadata names no packages but {other}"),
    }
}

/// The product's programs with optimisation.
pub(crate) fn release_binaries() -> Result<Binaries> {
    Ok(Binaries::in_dir(release_dir()?))
}

/// The directory of the product's programs with optimisation: the one that the environment names for the lab, else they
/// are built now.
pub(crate) fn release_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("WIREPLUG_LAB_BINARIES") {
        return Ok(dir.into());
    }
    run(&["build", "--quiet", "--release", "--bins", "-p", "wireplugd", "-p", "wireplug-serverd"], &[])?;
    Ok(target_dir()?.join("release"))
}

/// Where cargo builds: this program is TARGET/PROFILE/xtask.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find the running executable")?;
    let target = exe.parent().and_then(Path::parent);
    Ok(target.context("the running executable is in no target directory")?.to_owned())
}

/// Builds the product's and the lab's programs, without optimisation: what the tests in the lab run.
pub(crate) fn build_programs() -> Result<()> {
    run(&["build", "--quiet", "--workspace", "--exclude", "wireplug-fuzz", "--bins"], &[])
}

/// Builds all tests without running them, as `cargo xtask test` does, and says where those of some packages are: their
/// target's name and their executable. Packages are named by their directories. To build those of fewer packages
/// would build most of what they need once more, with other features.
pub(crate) fn test_executables(packages: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    const ALL: [&str; 6] =
        ["test", "--no-run", "--quiet", "--workspace", "--message-format", "json-render-diagnostics"];
    eprintln!("==> cargo {}", ALL.join(" "));
    let output =
        command(&ALL).stderr(Stdio::inherit()).output().context("cannot start cargo test --no-run")?;
    if !output.status.success() {
        bail!("`cargo {}` failed", ALL.join(" "));
    }
    let root = root().canonicalize().context("cannot find the workspace")?;
    let manifests: Vec<PathBuf> =
        packages.iter().map(|package| root.join(package).join("Cargo.toml")).collect();
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message.get("executable")?.as_str()?;
        let manifest = Path::new(message.get("manifest_path")?.as_str()?);
        let name = message.get("target")?.get("name")?.as_str()?;
        let is_test = message.get("profile")?.get("test")?.as_bool()?;
        let manifest = manifest.canonicalize().ok()?;
        let wanted = is_test && manifests.contains(&manifest);
        wanted.then(|| (name.to_owned(), PathBuf::from(path)))
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

/// The benches of the workspace's packages that have some, by package.
pub(crate) fn benches() -> Result<Vec<(String, Vec<String>)>> {
    benches_of(&packages()?)
}

fn benches_of(packages: &[serde_json::Value]) -> Result<Vec<(String, Vec<String>)>> {
    let name = |value: &serde_json::Value| value["name"].as_str().map(str::to_owned);
    let of_package = |package: &serde_json::Value| {
        let is_bench = |target: &&serde_json::Value| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench"))
        };
        let benches = package["targets"].as_array()?.iter().filter(is_bench).map(name);
        Some((name(package)?, benches.collect::<Option<Vec<_>>>()?))
    };
    let all: Option<Vec<_>> = packages.iter().map(of_package).collect();
    let mut all = all.context("cargo metadata names a package without its targets")?;
    all.retain(|(_, benches)| !benches.is_empty());
    if all.is_empty() {
        bail!("no package of this workspace has benches");
    }
    Ok(all)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The machine that this toolchain builds for, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> Result<String> {
    let output =
        Command::new("rustc").arg("-vV").current_dir(root()).output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` does not tell its host")?.to_owned())
}

/// The workspace's root: two above this crate.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packages_with_benches_are_found_and_none_is_an_error() -> Result<()> {
        let target = |name: &str, kind: &str| json!({"name": name, "kind": [kind]});
        let with = json!({"name": "with", "targets": [target("with", "lib"), target("fast", "bench")]});
        let without = json!({"name": "without", "targets": [target("without", "lib")]});
        let found = benches_of(&[without.clone(), with])?;
        assert_eq!(found, [("with".to_owned(), vec!["fast".to_owned()])]);
        assert!(benches_of(&[without]).is_err(), "no benches");
        assert!(benches_of(&[json!({"name": "other"})]).is_err(), "what cargo never says");
        Ok(())
    }
}
