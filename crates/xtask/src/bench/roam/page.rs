//! The figures as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use wireplug_lab::{Outage, Track};

use super::Measured;
use super::moves::{PEERS, PLACES};
use crate::bench::{Figures, machine, median};

/// The goal: by then a tunnel carries again.
const GOAL: Duration = Duration::from_secs(1);

pub(super) fn render(
    version: &str,
    runs: usize,
    delays: &[u64],
    table: &[Measured],
    list: &[Measured],
) -> Result<Figures> {
    let mut page = format!("{} Medians of {runs} runs.\n", machine::lab_line(version)?);
    if !table.is_empty() {
        for (index, delay) in delays.iter().enumerate() {
            squared(&mut page, table, index, *delay)?;
        }
    }
    listed(&mut page, delays, list)?;
    goals(&mut page, table, list)?;
    let missing = table.iter().chain(list).flat_map(|one| one.missing(delays)).collect();
    Ok(Figures { text: page, missing })
}

/// To where in rows, what the peer is behind in columns.
fn squared(page: &mut String, table: &[Measured], index: usize, delay: u64) -> Result<()> {
    writeln!(
        page,
        "\nFrom behind a home's router (port-preserving) to another network, {delay} ms of round trip between any two hosts:\n"
    )?;
    writeln!(page, "| to, peer: | {} |", PEERS.map(|peer| peer.to_string()).join(" | "))?;
    writeln!(page, "|---|{}", "--:|".repeat(PEERS.len()))?;
    for to in PLACES {
        write!(page, "| {to} |")?;
        for peer in PEERS {
            let found = table.iter().find(|one| (one.what.to, one.what.peer) == (to, peer));
            write!(page, " {} |", found.map_or_else(|| "-".to_owned(), |one| one.cell(index)))?;
        }
        writeln!(page)?;
    }
    Ok(())
}

fn listed(page: &mut String, delays: &[u64], list: &[Measured]) -> Result<()> {
    writeln!(page, "\nFrom elsewhere, in other ways, and with only the side that stays sending:\n")?;
    writeln!(
        page,
        "| move |{} |",
        delays.iter().map(|delay| format!(" {delay} ms")).collect::<Vec<_>>().join(" |")
    )?;
    writeln!(page, "|---|{}", "--:|".repeat(delays.len()))?;
    for one in list {
        let cells = (0..delays.len()).map(|index| format!(" {} |", one.cell(index)));
        writeln!(page, "| {} |{}", one.what, cells.collect::<String>())?;
    }
    Ok(())
}

fn goals(page: &mut String, table: &[Measured], list: &[Measured]) -> Result<()> {
    writeln!(page)?;
    for (track, words) in [
        (Track::Direct, "Where a direct path exists afterwards, the median is under 1 s"),
        (Track::Relayed, "Onto the relay elsewhere, the median is under 1 s"),
    ] {
        let of_track = || table.iter().chain(list).filter(|one| one.what.belongs() == track);
        let medians = of_track().flat_map(|one| &one.by_delay).map(|runs| median_silence(runs));
        // None is the least of all Options, but what did not get there is the worst of all moves.
        let Some(worst) = medians.max_by_key(|median| median.unwrap_or(Duration::MAX)) else { continue };
        match worst {
            Some(worst) => {
                let said = if worst < GOAL { "reached" } else { "missed" };
                writeln!(page, "- {words}: {said} (the longest is {})", span(worst))?;
            }
            None => writeln!(page, "- {words}: missed (one did not get there)")?,
        }
    }
    Ok(())
}

impl Measured {
    fn cell(&self, index: usize) -> String {
        let cell = self.by_delay.get(index).map_or_else(|| "-".to_owned(), |runs| cell(runs));
        if self.what.belongs() == Track::Relayed { format!("{cell} (relay)") } else { cell }
    }

    /// What of it has no figure.
    fn missing(&self, delays: &[u64]) -> Vec<String> {
        let without = delays.iter().zip(&self.by_delay).filter(|(_, runs)| median_silence(runs).is_none());
        without.map(|(delay, _)| format!("{} at {delay} ms", self.what)).collect()
    }
}

/// The medians: for how long there was silence; where most were relayed first, also when they were direct.
pub(super) fn cell(runs: &[Option<Outage>]) -> String {
    let Some(silence) = median_silence(runs) else { return "-".to_owned() };
    let relayed: Vec<_> = runs.iter().flatten().filter(|outage| outage.by_relay).collect();
    if 2 * relayed.len() <= runs.len() {
        return span(silence);
    }
    let arrived = median(relayed.iter().map(|outage| Some(outage.arrived)).collect());
    format!("{}, direct after {}", span(silence), arrived.map_or_else(|| "-".to_owned(), span))
}

fn median_silence(runs: &[Option<Outage>]) -> Option<Duration> {
    median(runs.iter().map(|run| run.map(|outage| outage.silent)).collect())
}

fn span(time: Duration) -> String {
    if time < GOAL { format!("{} ms", time.as_millis()) } else { format!("{:.2} s", time.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(name: &str, silent: Option<Duration>) -> Measured {
        let run = silent.map(|silent| Outage { silent, arrived: silent, by_relay: false });
        Measured { what: name.parse().expect("a move"), by_delay: vec![vec![run]] }
    }

    #[test]
    fn a_move_that_did_not_get_there_misses_the_goal() -> Result<()> {
        let soon = moved("none/none/fixed", Some(Duration::from_millis(40)));
        let never = moved("fixed/none/fixed", None);
        let mut page = String::new();
        goals(&mut page, &[soon], &[never])?;
        assert!(page.contains("missed (one did not get there)"), "{page}");
        Ok(())
    }

    #[test]
    fn a_move_that_did_not_get_there_is_missing() {
        let soon = moved("none/none/fixed", Some(Duration::from_millis(40)));
        let never = moved("fixed/none/fixed", None);
        assert_eq!(soon.missing(&[50]), Vec::<String>::new());
        assert_eq!(never.missing(&[50]), ["fixed to none, peer fixed at 50 ms"]);
    }

    #[test]
    fn the_longest_of_all_moves_is_told() -> Result<()> {
        let soon = moved("none/none/fixed", Some(Duration::from_millis(40)));
        let later = moved("fixed/none/fixed", Some(Duration::from_millis(900)));
        let mut page = String::new();
        goals(&mut page, &[later], &[soon])?;
        assert!(page.contains("reached (the longest is 900 ms)"), "{page}");
        Ok(())
    }
}
