//! docs/matrix.svg: a square for each cell, coloured by its path, with the time to the first ping.
//!
//! It stands on light and dark pages, without a ground of its own: squares carry their own dark words, and what stands
//! beside them is of a grey that both can bear, and is turned to the page's own ink where the reader's browser tells it.

use std::fmt::Write as _;

use anyhow::Result;
use wireplug_lab::{Nat, Tier};

use super::{Matrix, words};

/// A square and the gap to the next one, in pixels.
const WIDTH: usize = 56;
const HEIGHT: usize = 32;
const GAP: usize = 4;
/// The room for the rows' names, for the legend and the columns' names, and after the last column, whose name leans out.
const LEFT: usize = 172;
const TOP: usize = 164;
const RIGHT: usize = 64;
/// What sets the last column apart, where both are on one LAN.
const ASIDE: usize = 14;
const BOTTOM: usize = 40;

const STYLE: &str = "
    text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; fill: #78828c }
    .time { font-size: 12px; fill: #22303a; text-anchor: middle; font-variant-numeric: tabular-nums }
    .row { text-anchor: end }
    .side { font-size: 12px; font-style: italic }
    .lan { fill: #8fcfae }
    .direct { fill: #9cc9ea }
    .punched { fill: #bdb9ee }
    .mapped { fill: #e8d488 }
    .relay { fill: #efb48b }
    .tls { fill: #e59aa1 }
    .first { fill: #c4703a }
    @media (prefers-color-scheme: light) { text { fill: #46515b } }
    @media (prefers-color-scheme: dark) { text { fill: #a5afb9 } }
";

/// The file in docs/.
pub(super) const NAME: &str = "matrix.svg";

pub(super) fn render(matrix: &Matrix) -> Result<String> {
    let columns = words::columns();
    let width = left(columns.len()) + RIGHT;
    let height = top(Nat::ALL.len()) + BOTTOM;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>Which path two peers come to, and the time to the first \
         ping</title>\n<style>{STYLE}</style>\n"
    );
    legend(&mut picture)?;
    for (index, column) in columns.iter().enumerate() {
        let (x, y) = (left(index) + WIDTH / 2 + 4, TOP - 10);
        let name = words::heading(*column);
        writeln!(picture, "<text x=\"{x}\" y=\"{y}\" transform=\"rotate(-40 {x} {y})\">{name}</text>")?;
    }
    for (line, row) in Nat::ALL.into_iter().enumerate() {
        let (x, y) = (LEFT - 12, top(line) + HEIGHT / 2 + 5);
        writeln!(picture, "<text class=\"row\" x=\"{x}\" y=\"{y}\">{}</text>", words::kind(row))?;
        for (index, column) in columns.iter().enumerate() {
            let measured = words::cell(row, *column).and_then(|cell| Some((cell, matrix.cells.get(&cell)?)));
            let Some((cell, measured)) = measured else { continue };
            let (x, y) = (left(index), top(line));
            write!(
                picture,
                "<g><title>{cell}: {}</title>{}",
                words::told(measured),
                square(x, y, WIDTH, HEIGHT, measured.path)
            )?;
            if measured.direct.is_some_and(|direct| direct > measured.first_ping) {
                write!(picture, "{}", dot(x + WIDTH - 6, y + 6))?;
            }
            let (x, y) = (x + WIDTH / 2, y + HEIGHT / 2 + 4);
            writeln!(
                picture,
                "<text class=\"time\" x=\"{x}\" y=\"{y}\">{}</text></g>",
                words::time(measured.first_ping)
            )?;
        }
    }
    let y = top(Nat::ALL.len()) + 24;
    writeln!(
        picture,
        "<text class=\"side\" x=\"{LEFT}\" y=\"{y}\">time from the second daemon’s start to the first answered ping, \
         without distance</text>"
    )?;
    let x = LEFT + 500;
    writeln!(
        picture,
        "{}<text class=\"side\" x=\"{}\" y=\"{y}\">that one by the relay, direct soon after</text>\n</svg>",
        dot(x, y - 4),
        x + 10
    )?;
    Ok(picture)
}

/// What the colours mean, from the best path to the last resort.
fn legend(picture: &mut String) -> Result<()> {
    let mut x = LEFT;
    for path in Tier::ALL {
        let name = match path {
            Tier::Mapped => "mapped by the router",
            Tier::RelayTls => "relayed over TLS",
            other => words::path(other),
        };
        writeln!(picture, "{}<text x=\"{}\" y=\"21\">{name}</text>", square(x, 8, 18, 18, path), x + 26)?;
        // About the width of the letters, and air.
        x += 26 + name.len() * 7 + 26;
    }
    Ok(())
}

fn square(x: usize, y: usize, width: usize, height: usize, path: Tier) -> String {
    let class = class(path);
    format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\"/>")
}

/// The mark of a cell whose first ping went by the relay.
fn dot(x: usize, y: usize) -> String {
    format!("<circle class=\"first\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>")
}

fn class(path: Tier) -> &'static str {
    match path {
        Tier::Lan => "lan",
        Tier::Direct => "direct",
        Tier::Punched => "punched",
        Tier::Mapped => "mapped",
        Tier::Relay => "relay",
        Tier::RelayTls => "tls",
    }
}

fn left(column: usize) -> usize {
    let aside = if column >= Nat::ALL.len() { ASIDE } else { 0 };
    LEFT + column * (WIDTH + GAP) + aside
}

fn top(row: usize) -> usize {
    TOP + row * (HEIGHT + GAP)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::docs;

    #[test]
    fn the_picture_shows_the_oracles_paths() -> Result<()> {
        let picture = docs::read(NAME)?;
        let cells = wireplug_lab::Cell::all();
        for cell in &cells {
            let path = cell.expected();
            let (_, after) = picture.split_once(&format!("<g><title>{cell}: ")).context(cell.to_string())?;
            assert!(after.starts_with(&format!("{}, ", words::path(path))), "{cell}");
            let (_, after) = after.split_once("</title><rect class=\"").context(cell.to_string())?;
            assert!(after.starts_with(&format!("{}\"", class(path))), "{cell}");
        }
        assert_eq!(picture.matches("<g><title>").count(), cells.len());
        Ok(())
    }
}
