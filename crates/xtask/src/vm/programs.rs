//! What runs in the virtual machine: tests built on the host, one process for each.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;
use crate::vm::kernel::tool;

/// How much longer than on a real machine everything may take: emulation costs about this factor.
const PATIENCE: u32 = 8;

/// How long one test may take in there, in seconds, before it counts as hanging.
const TEST_LIMIT: u32 = 180;

/// The test whose every case is about the kernel's device.
const KERNEL_DEVICE: &str = "kernel_device";

/// What is proven on the module besides, without filters: tests in the lab, by target and name. One of each kind, as an emulated
/// machine takes half a minute for each, and no bound in seconds that WireGuard or the product sets by itself: those mean
/// nothing there.
const SELECTION: [(&str, &[&str]); 4] = [
    (
        "matrix",
        &[
            "port-preserving/port-preserving",
            "symmetric/none",
            "symmetric/port-preserving",
            "ipv6-firewall/ipv6-firewall",
        ],
    ),
    ("surroundings", &["full_tunnel", "the_peers_lan_inside_allowed_ips"]),
    ("restarts", &["a_daemon_gives_its_keepalive_back_also_after_it_was_killed_once"]),
    (
        "lines",
        &[
            "far_apart",
            "one_side_by_satellite",
            "jitter",
            "loss",
            "a_narrow_line",
            "a_line_turns_bad_for_a_while",
        ],
    ),
];

/// What is measured: clean peers at 50 ms of round trip.
const MEASURE: &str = "--clean --delay 50 --rest 0";

/// The product's programs that the lab runs.
const PRODUCT: [&str; 2] = ["wireplug", "wireplug-serverd"];

/// Pairs whose connecting is measured.
const MEASURED: &str = "none/none port-preserving/port-preserving fixed/cgnat";

/// How connecting is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// How often each pair connects; 0: not at all.
    pub(super) runs: usize,
    /// By the programs that the tests use, which are built already.
    pub(super) unoptimised: bool,
}

/// The tests that are run, each in a process of its own.
#[derive(Debug)]
struct Chosen {
    target: String,
    path: PathBuf,
    name: String,
}

/// Builds what was asked for on the host and returns the shell script that runs it. Programs are copied to `dir`, which
/// the virtual machine sees under the same path: one that is built again meanwhile would crash in there,
/// half old and half new.
pub(super) fn build(dir: &Path, filters: &[String], measure: Measure) -> Result<String> {
    let dir = dir.join("programs");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    cargo::build_programs()?;
    for program in PRODUCT {
        copy(&cargo::target_dir()?.join("debug").join(program), &dir)?;
    }
    let mut script = format!(
        "export WIREPLUG_LAB_WIREGUARD=kernel WIREPLUG_LAB_PATIENCE={PATIENCE}\n\
         failed=0\n\
         cat > /run/test.sh <<'END'\n{RUN}END\n\
         xargs -L 1 sh /run/test.sh {TEST_LIMIT} <<'END' || failed=1\n"
    );
    // Writing to a String cannot fail.
    for test in choose(filters)? {
        let _ = writeln!(script, "{} {} {}", test.target, copy(&test.path, &dir)?, quoted(&test.name));
    }
    script.push_str("END\n");
    if measure.runs > 0 {
        let mut programs = dir.clone();
        if !measure.unoptimised {
            programs.push("release");
            let optimised = cargo::release_dir()?;
            for program in PRODUCT {
                copy(&optimised.join(program), &programs)?;
            }
        }
        // As just built, which may be in the place of the one that runs.
        let xtask = copy(&cargo::target_dir()?.join("debug/xtask"), &dir)?;
        let _ = writeln!(script, "export WIREPLUG_LAB_BINARIES={}", quoted(&programs.display().to_string()));
        let runs = measure.runs;
        let _ = writeln!(script, "{xtask} bench connect {MEASURE} --runs {runs} {MEASURED} || failed=1");
    }
    script.push_str("exit $failed\n");
    Ok(script)
}

/// Copies a program into a directory, once; returns the copy's path for the shell.
fn copy(program: &Path, dir: &Path) -> Result<String> {
    let name = program.file_name().with_context(|| format!("{} names no file", program.display()))?;
    let to = dir.join(name);
    if !to.exists() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::copy(program, &to)
            .with_context(|| format!("cannot copy {} to {}", program.display(), to.display()))?;
    }
    Ok(quoted(&to.display().to_string()))
}

fn choose(filters: &[String]) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
    for (target, path) in cargo::test_executables(&["crates/wireplug-net", "netns-tests"])? {
        let list = tool(Command::new(&path).args(["--list", "--format", "terse"]))?;
        for name in list.lines().filter_map(|line| line.strip_suffix(": test")).map(name_of) {
            if wanted(filters, &target, &name) {
                chosen.push(Chosen { target: target.clone(), path: path.clone(), name });
            }
        }
    }
    if filters.is_empty() {
        check_complete(&chosen)?;
    }
    if chosen.is_empty() {
        bail!("no test of wireplug-net or of the lab has a name with {}", filters.join(" or "));
    }
    Ok(chosen)
}

/// A test that was renamed must not silently drop out of the selection.
fn check_complete(chosen: &[Chosen]) -> Result<()> {
    for (target, names) in SELECTION {
        for name in names {
            if !chosen.iter().any(|test| test.target == target && test.name == *name) {
                bail!(
                    "the selection for the virtual machine names {target} {name}, which is no test any more"
                );
            }
        }
    }
    Ok(())
}

fn wanted(filters: &[String], target: &str, name: &str) -> bool {
    if filters.is_empty() {
        let named = |(in_target, names): &(&str, &[&str])| *in_target == target && names.contains(&name);
        return target == KERNEL_DEVICE || SELECTION.iter().any(named);
    }
    filters.iter().any(|filter| name.contains(filter.as_str()) || target == filter)
}

/// libtest-mimic puts a test's kind before its name, in brackets.
fn name_of(listed: &str) -> String {
    let name =
        listed.split_once("] ").filter(|(kind, _)| kind.starts_with('[')).map_or(listed, |(_, name)| name);
    name.to_owned()
}

/// A word for the shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs one test, alone: two would only take each other's time. What it says is shown only if it fails. A test that was
/// skipped has failed: all is there that it could need.
const RUN: &str = r#"output=$(mktemp)
started=$(date +%s)
if timeout "$1" "$3" --exact "$4" --test-threads 1 > "$output" 2>&1 && grep -q "1 passed" "$output"; then
    echo "ok      $2 $4 ($(($(date +%s) - started)) s)"
else
    echo "FAILED  $2 $4 ($(($(date +%s) - started)) s)"
    cat "$output"
    exit 1
fi
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_kind_and_nothing_else() {
        assert_eq!(name_of("[no kernel module] a_device_is_read"), "a_device_is_read");
        assert_eq!(name_of("none/none"), "none/none");
    }

    #[test]
    fn filters_replace_the_selection() {
        assert!(wanted(&[], "matrix", "symmetric/none") && wanted(&[], KERNEL_DEVICE, "anything"));
        assert!(!wanted(&[], "matrix", "none/fixed") && !wanted(&[], "restarts", "symmetric/none"));
        let filters = ["fixed".to_owned(), "restarts".to_owned()];
        assert!(wanted(&filters, "matrix", "none/fixed") && wanted(&filters, "restarts", "any"));
        assert!(!wanted(&filters, "matrix", "none/none"));
    }

    #[test]
    fn a_word_for_the_shell_is_one_word() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
