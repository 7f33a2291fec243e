//! `cargo xtask bench hot-paths`: Criterion's medians in one table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::bench::page::Section;
use crate::bench::{Figures, machine};
use crate::cargo;

/// The section of docs/BENCHMARKS.md.
pub(crate) const SECTION: Section = Section {
    name: "hot-paths",
    title: "Hot paths",
    about: include_str!("hot_paths/about.md"),
    measure: figures,
};

/// Measures all of them, and publishes that.
pub(crate) fn run() -> Result<()> {
    figures()?.conclude(Some(&SECTION))
}

fn figures() -> Result<Figures> {
    let machine = machine::line(&machine::version(), &[])?;
    // A directory of its own, so that what was measured some other time does not count.
    let home = cargo::target_dir()?.join("criterion-page");
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    let mut text = format!("{machine}\n\n| crate | what | median | a second |\n|---|---|--:|--:|\n");
    for (package, benches) in cargo::benches()? {
        let dir = home.join(&package);
        let path = dir.display().to_string();
        for bench in benches {
            let arguments = ["bench", "--quiet", "-p", &package, "--bench", &bench];
            cargo::run(&arguments, &[("CRITERION_HOME", &path)])?;
        }
        let mut medians = BTreeMap::new();
        collect(&dir, &mut medians)?;
        for (name, nanoseconds) in medians {
            let (each, rate) = (time(nanoseconds), rate(1e9 / nanoseconds));
            writeln!(text, "| {package} | `{name}` | {each} | {rate} |")?;
        }
    }
    Ok(Figures::complete(text))
}

/// The medians below a directory of Criterion's, in nanoseconds by the benchmark's whole name.
fn collect(dir: &Path, medians: &mut BTreeMap<String, f64>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", dir.display()))?.path();
        let benchmark = path.join("benchmark.json");
        if path.file_name().is_some_and(|name| name == "new") && benchmark.exists() {
            let name = read(&benchmark)?["full_id"].as_str().map(str::to_owned);
            let median = read(&path.join("estimates.json"))?["median"]["point_estimate"].as_f64();
            let Some((name, median)) = name.zip(median) else {
                bail!("{} is not as this version of Criterion writes it", path.display());
            };
            medians.insert(name, median);
        } else if path.is_dir() {
            collect(&path, medians)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// Nanoseconds with three digits that count, and their unit.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        small if small < 1e3 => (small, "ns"),
        middle if middle < 1e6 => (middle / 1e3, "µs"),
        large => (large / 1e6, "ms"),
    };
    format!("{} {unit}", digits(value))
}

/// How many a second, with three digits that count.
fn rate(rate: f64) -> String {
    match rate {
        small if small < 1e3 => digits(small),
        middle if middle < 1e6 => format!("{} thousand", digits(middle / 1e3)),
        large => format!("{} million", digits(large / 1e6)),
    }
}

fn digits(value: f64) -> String {
    let places = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!(time(3.456), "3.46 ns");
        assert_eq!(time(45_678.0), "45.7 µs");
        assert_eq!(time(345_678_900.0), "346 ms");
        assert_eq!(rate(1_234_567.0), "1.23 million");
        assert_eq!(rate(12_345.0), "12.3 thousand");
    }

    #[test]
    fn medians_are_read_as_criterion_writes_them() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let new = dir.path().join("check/verify/new");
        fs::create_dir_all(&new)?;
        fs::write(new.join("benchmark.json"), r#"{"group_id":"check","full_id":"check/verify"}"#)?;
        fs::write(new.join("estimates.json"), r#"{"median":{"point_estimate":1234.5}}"#)?;
        let mut medians = BTreeMap::new();
        collect(dir.path(), &mut medians)?;
        assert_eq!(medians.into_iter().collect::<Vec<_>>(), [("check/verify".to_owned(), 1234.5)]);
        Ok(())
    }
}
