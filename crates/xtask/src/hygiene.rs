//! What must hold of the workspace as a whole: what its programs may be built without, and of what they consist.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cargo;

/// What is installed where there is none: the versions that this was written with.
const CARGO_DENY: &str = "0.20.2";
const CARGO_MACHETE: &str = "0.9.2";

/// The daemon, whose default features are the strategies.
const DAEMON: &str = "wireplugd";

/// Checks it all. Where a tool is missing and cannot be installed, that is said and no failure.
pub(crate) fn check() -> Result<()> {
    without_each_strategy()?;
    match cargo::ensure("deny", CARGO_DENY) {
        Ok(()) => dependencies_are_allowed()?,
        Err(error) => not_run("licences, bans, duplicates and sources of dependencies", &error),
    }
    match cargo::ensure("machete", CARGO_MACHETE) {
        Ok(()) => cargo::run(&["machete"], &[])?,
        Err(error) => not_run("unused dependencies", &error),
    }
    Ok(())
}

fn not_run(what: &str, error: &anyhow::Error) {
    eprintln!("==> NOT RUN: {what}: {error:#}");
}

/// The daemon builds without any strategy, and with all but one.
fn without_each_strategy() -> Result<()> {
    let strategies = strategies(&cargo::packages()?)?;
    let all_but = |one: &String| strategies.iter().filter(|it| *it != one).cloned().collect::<Vec<_>>();
    for features in std::iter::once(Vec::new()).chain(strategies.iter().map(all_but)) {
        let features = features.join(",");
        let build = ["clippy", "--quiet", "--no-deps", "-p", DAEMON, "--lib", "--no-default-features"];
        cargo::run(&[&build[..], &["--features", &features, "--", "--deny", "warnings"]].concat(), &[])?;
    }
    Ok(())
}

/// Against deny.toml; without the network, and for this machine only, whose crates are all there.
fn dependencies_are_allowed() -> Result<()> {
    let host = cargo::host()?;
    let what = ["deny", "--offline", "--workspace", "--target", &host, "check", "--deny", "warnings"];
    cargo::run(&[&what[..], &["--show-stats", "licenses", "bans", "sources"]].concat(), &[])
}

/// The daemon's strategies: its default features.
fn strategies(packages: &[Value]) -> Result<Vec<String>> {
    let daemon = packages.iter().find(|package| package["name"] == DAEMON);
    let daemon = daemon.with_context(|| format!("there is no crate {DAEMON}"))?;
    let Some(features) = daemon["features"]["default"].as_array() else {
        bail!("{DAEMON} has no default features");
    };
    Ok(features.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn manifest(package: &Value) -> PathBuf {
        package["manifest_path"].as_str().unwrap().into()
    }

    #[test]
    fn every_strategy_can_be_left_out_of_the_daemon() {
        let packages = cargo::packages().unwrap();
        let features: BTreeSet<String> = strategies(&packages).unwrap().into_iter().collect();
        let directories: BTreeSet<String> = std::fs::read_dir(cargo::root().join("strategies"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(!features.is_empty());
        assert_eq!(features, directories);
        let daemon = packages.iter().find(|package| package["name"] == DAEMON).unwrap();
        for dependency in daemon["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap().trim_start_matches("wireplug-");
            if features.contains(name) {
                assert_eq!(dependency["optional"], true, "{name}");
            }
        }
    }

    /// The workspace's lints forbid unsafe code, which nothing below can allow again; one crate has lints of its own.
    #[test]
    fn unsafe_code_is_in_one_crate_only() {
        let workspace = std::fs::read_to_string(cargo::root().join("Cargo.toml")).unwrap();
        assert!(workspace.contains("\nunsafe_code = \"forbid\""));
        let own: Vec<_> = cargo::packages()
            .unwrap()
            .into_iter()
            .filter(|it| {
                !std::fs::read_to_string(manifest(it)).unwrap().contains("\n[lints]\nworkspace = true\n")
            })
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(own, ["wireplug-net"], "crates without the workspace's lints");
    }
}
