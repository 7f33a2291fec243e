//! `cargo xtask test`: everything that must hold.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{cargo, fuzz, hygiene, packages, vm};

/// Random cases of each property test with `--fuzz`; proptest's own number is 256.
const FUZZ_CASES: &str = "20000";

/// How long each fuzz target runs with `--fuzz`.
const FUZZ_TIME: Duration = Duration::from_secs(10);

/// Tests at a time at least: those in namespaces mostly wait.
const LEAST_THREADS: usize = 3;

/// Runs all checks and tests, or with filters only the tests that they name.
pub(crate) fn run(fuzzing: bool, filters: &[String]) -> Result<()> {
    packages::ensure()?;
    let cases: &[(&str, &str)] = if fuzzing { &[("PROPTEST_CASES", FUZZ_CASES)] } else { &[] };
    if filters.is_empty() {
        cargo::run(&["fmt", "--all", "--check"], &[])?;
        cargo::run(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])?;
        cargo::run(&["doc", "--quiet", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])?;
        hygiene::check()?;
    }
    // Before the others, whose summary is to be the last word; what fails in there is told after it.
    let in_vm = if filters.is_empty() { vm::run_with_all_tests() } else { Ok(()) };
    let here = run_here(cases, filters)
        .and_then(|()| if fuzzing && filters.is_empty() { fuzz::each(FUZZ_TIME) } else { Ok(()) });
    both(here, in_vm)
}

/// Of two that fail both are told.
fn both(here: Result<()>, in_vm: Result<()>) -> Result<()> {
    match (here, in_vm) {
        (Err(here), Err(in_vm)) => bail!("{here:#}; and {in_vm:#}"),
        (here, in_vm) => here.and(in_vm),
    }
}

/// Runs the tests that need nothing but this machine.
fn run_here(cases: &[(&str, &str)], filters: &[String]) -> Result<()> {
    cargo::build_programs()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).max(LEAST_THREADS).to_string();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    if !cargo::has("nextest") {
        let tail = [&["--", "--test-threads", &threads], &filters[..]].concat();
        return cargo::run(&[&["test", "--workspace", "--no-fail-fast"], &tail[..]].concat(), cases);
    }
    if filters.is_empty() {
        // nextest knows no documentation tests. First, so that its summary comes last.
        cargo::run(&["test", "--quiet", "--workspace", "--doc"], cases)?;
    }
    let run = ["nextest", "run", "--workspace", "--no-fail-fast", "--test-threads", &threads];
    cargo::run(&[&run[..], &filters].concat(), cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_that_failed_is_told() {
        let (here, in_vm) = (|| bail!("nextest"), || bail!("the machine"));
        assert_eq!(both(here(), in_vm()).unwrap_err().to_string(), "nextest; and the machine");
        assert_eq!(both(Ok(()), in_vm()).unwrap_err().to_string(), "the machine");
        assert_eq!(both(here(), Ok(())).unwrap_err().to_string(), "nextest");
        assert!(both(Ok(()), Ok(())).is_ok());
    }
}
