//! docs/MATRIX.md.

use std::fmt::Write as _;

use anyhow::Result;
#[cfg(test)]
use wireplug_lab::Cell;
use wireplug_lab::{Measured, Nat};

use super::{Matrix, words};

/// The words before the tables.
const ABOUT: &str = include_str!("about.md");

/// The heading of the table of paths.
const PATHS: &str = "## Path";

/// The file in docs/.
pub(super) const NAME: &str = "MATRIX.md";

pub(super) fn render(matrix: &Matrix) -> Result<String> {
    let mut page = format!("{ABOUT}\n{}\n", matrix.machine);
    let runs = match matrix.runs {
        1 => "One run of each cell".to_owned(),
        runs => format!("The median of {runs} runs of each cell"),
    };
    let jobs = match matrix.jobs {
        1 => "one at a time".to_owned(),
        jobs => format!(
            "{jobs} at a time, so times are several times those of one cell alone: \
             [BENCHMARKS.md](BENCHMARKS.md#connect) has those"
        ),
    };
    writeln!(
        page,
        "{runs}, {jobs}. Packets take no time on the wires here. What is left is what the programs, the kernel and the \
         strategies' own patience take; with distance come some round trips \
         ([BENCHMARKS.md](BENCHMARKS.md#connect))."
    )?;
    table(&mut page, matrix, PATHS, "", &|measured| words::path(measured.path).to_owned())?;
    let about = "From the second daemon's start to the first answered ping. The first daemon has run for two seconds; \
                 neither WireGuard has an endpoint, a keepalive or traffic before.\n\n";
    table(&mut page, matrix, "## First ping", about, &|measured| words::time(measured.first_ping))?;
    let about = "From the second daemon's start to a ping that is answered while WireGuard on both sides sends to no \
                 server; where that is the first ping, its time.\n\n";
    table(&mut page, matrix, "## Direct", about, &|measured| {
        measured.direct.map_or_else(|| "-".to_owned(), words::time)
    })?;
    Ok(page)
}

fn table(
    page: &mut String,
    matrix: &Matrix,
    heading: &str,
    about: &str,
    figure: &dyn Fn(&Measured) -> String,
) -> Result<()> {
    write!(page, "\n{heading}\n\n{about}| |")?;
    for column in words::columns() {
        write!(page, " {} |", words::heading(column))?;
    }
    writeln!(page, "\n|---|{}", "--:|".repeat(words::columns().len()))?;
    for row in Nat::ALL {
        write!(page, "| **{}** |", words::kind(row))?;
        for column in words::columns() {
            let measured = words::cell(row, column).and_then(|cell| matrix.cells.get(&cell));
            write!(page, " {} |", measured.map(figure).unwrap_or_default())?;
        }
        writeln!(page)?;
    }
    Ok(())
}

/// The paths that a page tells, by cell.
#[cfg(test)]
fn paths(page: &str) -> Option<Vec<(Cell, String)>> {
    let (_, rest) = page.split_once(PATHS)?;
    let rows = rest.lines().filter(|line| line.starts_with("| **"));
    let mut paths = Vec::new();
    for (row, line) in Nat::ALL.into_iter().zip(rows) {
        let cells = line.strip_prefix("| **")?.strip_prefix(words::kind(row))?.strip_prefix("** |")?;
        for (column, text) in words::columns().into_iter().zip(cells.split('|')) {
            paths.extend(words::cell(row, column).map(|cell| (cell, text.trim().to_owned())));
        }
    }
    Some(paths)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::docs;

    #[test]
    fn the_page_has_the_words_of_the_command_and_the_paths_of_the_oracle() -> Result<()> {
        let page = docs::read(NAME)?;
        assert!(page.starts_with(ABOUT), "the words are another file's: run `cargo xtask matrix`");
        let paths = paths(&page).context("docs/MATRIX.md has no table of paths as the command writes it")?;
        let expected: Vec<(Cell, String)> = Nat::ALL
            .into_iter()
            .flat_map(|row| words::columns().into_iter().filter_map(move |column| words::cell(row, column)))
            .map(|cell| (cell, words::path(cell.expected()).to_owned()))
            .collect();
        assert_eq!(paths, expected);
        let mut all = Cell::all();
        let mut told: Vec<Cell> = paths.iter().map(|(cell, _)| *cell).collect();
        all.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, all);
        Ok(())
    }
}
