//! The figures as the relay's section of docs/BENCHMARKS.md.

use std::fmt::Write as _;

use anyhow::Result;
use wireplug_lab::{Cutting, IdleReport, LOAD_CORE, SERVER_CORE};

use super::figures::{Figures, Row, Shape, Way, cut_by, grouped, number, rate};
use crate::bench::machine;

/// The figures, the machine first.
pub(crate) fn render(figures: &Figures) -> Result<String> {
    let mut page = String::new();
    conditions(&mut page, figures)?;
    costs(&mut page, figures)?;
    latency(&mut page, figures)?;
    highest(&mut page, figures)?;
    cards(&mut page, figures)?;
    idle(&mut page, figures)?;
    goals(&mut page, figures)?;
    Ok(page)
}

fn conditions(page: &mut String, figures: &Figures) -> Result<()> {
    let machine = machine::line(&figures.version, &["coturn"])?;
    writeln!(page, "{machine} Medians of {} windows.", figures.runs)?;
    writeln!(
        page,
        "The server ran on core {SERVER_CORE}, senders and receivers together on core {LOAD_CORE}, both before \
         everything else on the machine (SCHED_FIFO)."
    )?;
    Ok(())
}

fn costs(page: &mut String, figures: &Figures) -> Result<()> {
    writeln!(
        page,
        "\nPackets forwarded for each CPU-second; in brackets packets a second that arrived where some were lost:\n"
    )?;
    header(page, figures, &["traffic", "offered"], &["wireplug / coturn"])?;
    for row in &figures.rows {
        write!(page, "| {} | {} |", row.shape, rate(row.rate))?;
        for &way in &figures.ways {
            write!(page, " {} |", cost(row, way))?;
        }
        writeln!(page, " {} |", times(advantage(row)))?;
    }
    Ok(())
}

fn latency(page: &mut String, figures: &Figures) -> Result<()> {
    writeln!(page, "\nMedian latency added to a cable's, in microseconds:\n")?;
    header(page, figures, &["traffic", "offered"], &[])?;
    for row in figures.low.iter().chain(&figures.rows).filter(|row| row.rate.is_some()) {
        write!(page, "| {} | {} |", row.shape, rate(row.rate))?;
        for &way in &figures.ways {
            let added = row.added_latency(way);
            write!(page, " {} |", added.map_or_else(|| "-".to_owned(), |ns| format!("{:.1}", ns / 1000.0)))?;
        }
        writeln!(page)?;
    }
    Ok(())
}

fn highest(page: &mut String, figures: &Figures) -> Result<()> {
    if figures.highest.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "\nHighest rate without loss, in packets a second (≥: the load could not send more; in brackets packets for \
         each CPU-second at that rate):\n"
    )?;
    header(page, figures, &["traffic"], &[])?;
    for (shape, ways) in &figures.highest {
        write!(page, "| {shape} |")?;
        for (_, found) in ways {
            let Some(best) = &found.best else {
                write!(page, " always some |")?;
                continue;
            };
            let sign = if found.limited_by_load { "≥ " } else { "" };
            let cost = best.forwarded_per_cpu_second();
            let cost = cost.map(|cost| format!(" ({})", grouped(cost))).unwrap_or_default();
            write!(page, " {sign}{}{cost} |", grouped(best.rate()))?;
        }
        writeln!(page)?;
    }
    Ok(())
}

fn cards(page: &mut String, figures: &Figures) -> Result<()> {
    let ways: Vec<Way> = figures.ways.iter().copied().filter(|way| *way != Way::Kernel).collect();
    if ways.is_empty() {
        return Ok(());
    }
    writeln!(page, "\nPackets forwarded for each CPU-second on links that receive like network cards:\n")?;
    titles(page, &ways, &["traffic", "offered", ""], &["wireplug / coturn"])?;
    for (cutting, rows) in &figures.cards {
        for row in rows {
            write!(page, "| {} | {} | {} |", row.shape, rate(row.rate), cut_by(*cutting))?;
            for &way in &ways {
                write!(page, " {} |", cost(row, way))?;
            }
            writeln!(page, " {} |", times(advantage(row)))?;
        }
    }
    Ok(())
}

fn idle(page: &mut String, figures: &Figures) -> Result<()> {
    let Some(idle) = &figures.idle else { return Ok(()) };
    writeln!(
        page,
        "\nResident memory of wireplug-serverd with idle allocations, both sides of each bound:\n"
    )?;
    writeln!(page, "| allocations | MiB | bytes for each |\n|--:|--:|--:|")?;
    for stage @ (allocations, kib) in &idle.stages {
        let each = bytes_each(idle, stage).map_or_else(|| "-".to_owned(), grouped);
        writeln!(page, "| {} | {:.1} | {each} |", grouped(number(*allocations)), number(*kib) / 1024.0)?;
    }
    Ok(())
}

/// Memory for each allocation of a stage, in bytes: what there is more than without any.
fn bytes_each(idle: &IdleReport, (allocations, kib): &(u64, u64)) -> Option<f64> {
    let (_, first) = idle.stages.first()?;
    (*allocations > 0).then(|| number(kib.saturating_sub(*first)) * 1024.0 / number(*allocations))
}

/// What the relay is to reach.
fn goals(page: &mut String, figures: &Figures) -> Result<()> {
    writeln!(page)?;
    let mut goal = |what: &str, found: Option<f64>, holds: &dyn Fn(f64) -> bool, unit: &str| {
        let Some(found) = found else { return Ok(()) };
        let verdict = if holds(found) { "reached" } else { "missed" };
        writeln!(page, "- {what}: {verdict} ({found:.2}{unit})")
    };
    let many = figures.row(Shape { pairs: 50, size: 1400 }, Some(100_000.0)).and_then(advantage);
    let one = Shape { pairs: 1, size: 1400 };
    let by = |cutting| figures.card_row(cutting, one, None).and_then(advantage);
    let (card, kernel, plain) =
        (by(Cutting::Card), by(Cutting::Kernel), figures.row(one, None).and_then(advantage));
    let one_latency = figures
        .low
        .first()
        .and_then(|row| Some(row.added_latency(Way::Wireplug)? / row.added_latency(Way::Coturn)?));
    let memory = figures.idle.as_ref().and_then(|idle| bytes_each(idle, idle.stages.last()?));
    goal(
        "At 100,000 a second, 50 pairs, 1,400 bytes at least twice coturn's packets for each CPU-second",
        many,
        &|found| found >= 2.0,
        " times",
    )?;
    for (found, links) in [
        (card, "on links like network cards that cut runs"),
        (kernel, "on links like network cards, the kernel cuts runs"),
        (plain, "on plain virtual links"),
    ] {
        let what = format!("With one pair at full rate at least four times, {links}");
        goal(&what, found, &|found| found >= 4.0, " times")?;
    }
    goal(
        "Latency added at low load no more than coturn's",
        one_latency,
        &|found| found <= 1.0,
        " times coturn's",
    )?;
    goal("Less than 1 KB for each idle allocation", memory, &|found| found < 1000.0, " bytes")?;
    Ok(())
}

fn header(page: &mut String, figures: &Figures, before: &[&str], after: &[&str]) -> Result<()> {
    titles(page, &figures.ways, before, after)
}

fn titles(page: &mut String, ways: &[Way], before: &[&str], after: &[&str]) -> Result<()> {
    let titles: Vec<&str> = before
        .iter()
        .copied()
        .chain(ways.iter().map(|way| way.title()))
        .chain(after.iter().copied())
        .collect();
    writeln!(page, "| {} |", titles.join(" | "))?;
    let lines = before.iter().map(|_| "---").chain(titles[before.len()..].iter().map(|_| "--:"));
    writeln!(page, "|{}|", lines.collect::<Vec<_>>().join("|"))?;
    Ok(())
}

/// Packets for each CPU-second, and what arrived if not all did.
fn cost(row: &Row, way: Way) -> String {
    let cost = row.per_cpu_second(way).map_or_else(|| "-".to_owned(), grouped);
    match (row.lost(way), row.throughput(way)) {
        (Some(lost), Some(arrived)) if lost > 0.0 => format!("{cost} ({})", grouped(arrived)),
        _ => cost,
    }
}

/// How many times coturn's packets wireplug forwards for the same CPU time.
fn advantage(row: &Row) -> Option<f64> {
    Some(row.per_cpu_second(Way::Wireplug)? / row.per_cpu_second(Way::Coturn)?)
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"))
}
