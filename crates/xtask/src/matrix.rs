//! `cargo xtask matrix`: every kind of place against every other, measured, as docs/MATRIX.md and docs/matrix.svg.

mod page;
mod picture;
mod words;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use wireplug_lab::{Binaries, Cell, Measured, PairOptions, SETTLE};

use crate::bench::machine;
use crate::{cargo, docs, packages};

/// What `matrix` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct MatrixArguments {
    /// Cells at a time: each runs seven programs, most of the time waiting. More than one take each other's time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Runs of each cell; the one with the median time to the first ping counts.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Only these cells, as KIND/KIND or KIND/one-lan; prints them, and writes nothing.
    cells: Vec<Cell>,
}

/// What came of all cells, and how they were measured.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// Processor, kernel and versions.
    machine: String,
    jobs: usize,
    runs: usize,
    cells: BTreeMap<Cell, Measured>,
}

pub(crate) fn run(arguments: &MatrixArguments) -> Result<()> {
    packages::ensure()?;
    let machine = machine::lab_line(&machine::version())?;
    let options = PairOptions { binaries: Some(binaries()?), ..PairOptions::default() };
    let whole = arguments.cells.is_empty();
    let cells = if whole { Cell::all() } else { arguments.cells.clone() };
    let (jobs, runs) = (arguments.jobs.max(1), arguments.runs.max(1));
    let began = Instant::now();
    let cells = measure(&cells, jobs, &|cell| median(cell, &options, runs))?;
    eprintln!("{} cells in {} s", cells.len(), began.elapsed().as_secs());
    if whole {
        let matrix = Matrix { machine, jobs, runs, cells };
        docs::write(page::NAME, &page::render(&matrix)?)?;
        docs::write(picture::NAME, &picture::render(&matrix)?)?;
    }
    Ok(())
}

fn binaries() -> Result<Binaries> {
    Ok(cargo::release_binaries()?.logging("info"))
}

/// Measures cells, so many at a time. Whatever one comes to, the others are run too.
fn measure(
    cells: &[Cell],
    jobs: usize,
    one: &(impl Fn(Cell) -> Result<Measured> + Sync),
) -> Result<BTreeMap<Cell, Measured>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new((BTreeMap::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(&cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = one(cell);
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let number = done.0.len() + done.1.len() + 1;
                    let words = match &result {
                        Ok(measured) => words::told(measured),
                        Err(error) => format!("FAILED: {error:#}"),
                    };
                    println!("{number:>3}/{}  {:<38} {words}", cells.len(), cell.to_string());
                    match result {
                        Ok(measured) => drop(done.0.insert(cell, measured)),
                        Err(_) => done.1.push(cell.to_string()),
                    }
                }
            });
        }
    });
    let (measured, failed) = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if failed.is_empty() {
        return Ok(measured);
    }
    bail!("not as they must be: {}", failed.join(" "))
}

/// Of several runs of a cell the one with the median time to the first ping. All must come to the path that they must.
fn median(cell: Cell, options: &PairOptions, runs: usize) -> Result<Measured> {
    let mut all = (0..runs).map(|_| Ok(cell.measure(options, SETTLE)?)).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|measured| measured.first_ping);
    all.get(all.len() / 2).copied().context("no run")
}
