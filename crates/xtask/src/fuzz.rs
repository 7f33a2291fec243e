//! `cargo xtask fuzz`: the targets of fuzz/ under libFuzzer. fuzz/README.md says what they are and what is kept where.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{cargo, packages};

/// What is installed where there is none: the version that this was written with.
const CARGO_FUZZ: &str = "0.13.2";

/// What cargo-fuzz shall do otherwise than a release: what the targets say where they fail must be there, and the
/// build must not take long.
const BUILD: [(&str, &str); 2] =
    [("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_STRIP", "none")];

/// What every target must keep to, and for one input: so many seconds (the slowest that are right take hundredths),
/// MiB in all, and bytes (twice the longest frame).
const BOUNDS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192"];

/// The most lines of a crash that are shown.
const SHOWN: usize = 40;

/// Runs these targets, all if none is named, so that all is over after `time`.
pub(crate) fn within(time: Duration, names: &[String], minimise: bool) -> Result<()> {
    let fuzz = Fuzz::build(names)?;
    let rounds = fuzz.targets.len().div_ceil(threads());
    fuzz.run(time / u32::try_from(rounds.max(1))?)?;
    if minimise { fuzz.minimise() } else { Ok(()) }
}

/// Runs each target for so long.
pub(crate) fn each(time: Duration) -> Result<()> {
    Fuzz::build(&[])?.run(time)
}

/// Targets that are built.
struct Fuzz {
    targets: Vec<String>,
    root: PathBuf,
    /// Of cargo-fuzz.
    directory: PathBuf,
    programs: PathBuf,
}

impl Fuzz {
    fn build(names: &[String]) -> Result<Self> {
        packages::ensure_for_fuzz()?;
        cargo::ensure("fuzz", CARGO_FUZZ)?;
        let root = cargo::root();
        let targets = chosen(&root.join("fuzz/targets"), names)?;
        let directory = cargo::target_dir()?.join("fuzz");
        let host = cargo::host()?;
        let target_dir = directory.to_str().context("the path of the target directory is not text")?;
        // The stable toolchain has no sanitizers. In units, since one for each crate takes twice as long.
        let build = ["fuzz", "build", "--fuzz-dir", "fuzz", "--sanitizer", "none", "--codegen-units", "16"];
        let place = ["--target", &host, "--target-dir", target_dir];
        let one = if let [one] = &targets[..] { vec![one.as_str()] } else { Vec::new() };
        cargo::run(&[&build[..], &place, &one].concat(), &BUILD)?;
        let programs = directory.join(host).join("release");
        Ok(Self { targets, root, directory, programs })
    }

    /// Runs every target for so long, as many at once as there are processors.
    fn run(&self, time: Duration) -> Result<()> {
        let count = self.targets.len();
        eprintln!("==> {count} fuzz targets, {} s each", time.as_secs().max(1));
        let waiting: Mutex<VecDeque<&String>> = Mutex::new(self.targets.iter().collect());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let worker = || -> Result<Vec<String>> {
            let mut failed = Vec::new();
            while let Some(name) = next() {
                match self.run_one(name, time)? {
                    Outcome::Clean(words) => eprintln!("    {name:<18} {words}"),
                    Outcome::Found(words) => {
                        eprintln!("    {name:<18} FAILED\n{words}");
                        failed.push(name.clone());
                    }
                }
            }
            Ok(failed)
        };
        let failed = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<Vec<_>>>()
        })?;
        let failed = failed.concat();
        if failed.is_empty() { Ok(()) } else { bail!("fuzz targets failed: {}", failed.join(", ")) }
    }

    fn run_one(&self, name: &str, time: Duration) -> Result<Outcome> {
        let artifacts = self.root.join("fuzz/artifacts").join(name);
        let found = self.directory.join("found").join(name);
        for directory in [&artifacts, &found] {
            make(directory)?;
        }
        let limit = format!("-max_total_time={}", time.as_secs().max(1));
        let prefix = format!("-artifact_prefix={}/", artifacts.display());
        let mut command = Command::new(self.programs.join(name));
        command.args(BOUNDS).args([&limit, &prefix, "-print_final_stats=1"]);
        command.arg(&found).arg(self.root.join("fuzz/corpus").join(name));
        let (success, log) = self.logged(name, &mut command)?;
        if success {
            return Ok(Outcome::Clean(summary(&log)));
        }
        let artifact =
            log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
        let again = artifact.map(|artifact| {
            format!(
                "\n    repeat it:       cargo run -p wireplug-fuzz --bin {name} -- {artifact}\n    \
                 make it smaller: cargo fuzz tmin --fuzz-dir fuzz --sanitizer none {name} {artifact}"
            )
        });
        Ok(Outcome::Found(last_lines(&log) + again.as_deref().unwrap_or_default()))
    }

    /// Keeps of what was found what reaches something that nothing else reaches.
    fn minimise(&self) -> Result<()> {
        for name in &self.targets {
            let found = self.directory.join("found").join(name);
            let kept = self.directory.join("kept").join(name);
            let _ = fs::remove_dir_all(&kept);
            make(&kept)?;
            let mut command = Command::new(self.programs.join(name));
            command.args(BOUNDS).arg("-merge=1").arg(&kept).arg(&found);
            let (success, log) = self.logged(name, &mut command)?;
            if !success {
                bail!("cannot minimise what {name} found:\n{}", last_lines(&log));
            }
            let (before, after) = (number_of_files(&found)?, number_of_files(&kept)?);
            fs::remove_dir_all(&found)
                .and_then(|()| fs::rename(&kept, &found))
                .context("cannot replace a corpus")?;
            eprintln!("    {name:<18} {after} of {before} files kept in {}", found.display());
        }
        Ok(())
    }

    /// Runs a target's program to its end; whether it succeeded, and all that it said.
    fn logged(&self, name: &str, command: &mut Command) -> Result<(bool, String)> {
        let logs = self.directory.join("log");
        make(&logs)?;
        let path = logs.join(name);
        let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let both = log.try_clone().with_context(|| format!("cannot write {}", path.display()))?;
        let status = command.stdout(log).stderr(both).current_dir(&self.root).status();
        let status = status.with_context(|| format!("cannot start the fuzz target {name}"))?;
        let said = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((status.success(), String::from_utf8_lossy(&said).into_owned()))
    }
}

/// How a run ended, in words.
enum Outcome {
    Clean(String),
    Found(String),
}

/// The targets that are named, or all.
fn chosen(directory: &Path, names: &[String]) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        all.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    all.sort();
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown:?}; there are {}", all.join(", "));
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

/// What libFuzzer says at its end, in short.
fn summary(log: &str) -> String {
    let value = |line: &str, key: &str| Some(line.split_once(key)?.1.split_whitespace().next()?.to_owned());
    let last =
        |key: &str| log.lines().rev().find_map(|line| value(line, key)).unwrap_or_else(|| "?".to_owned());
    format!(
        "{:>9} inputs, {:>5} edges reached, {:>4} new files, {} MiB",
        last("stat::number_of_executed_units:"),
        last(" cov: "),
        last("stat::new_units_added:"),
        last("stat::peak_rss_mb:")
    )
}

/// The lines that tell what went wrong: from the panic on, or else the last.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(0);
    let start = if start == 0 { lines.len().saturating_sub(SHOWN) } else { start };
    let shown: Vec<String> = lines[start..].iter().take(SHOWN).map(|line| format!("    | {line}")).collect();
    shown.join("\n")
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

fn number_of_files(directory: &Path) -> Result<usize> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    Ok(entries.count())
}
