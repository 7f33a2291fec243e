//! The figures as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use wireplug_lab::ManyReport;

use super::{Rest, Row};
use crate::bench::{machine, median};

/// What a daemon with this many peers is to reach.
const GOAL_PEERS: usize = 500;
const GOAL_START: Duration = Duration::from_secs(10);
const GOAL_CPU: f64 = 0.005;
const GOAL_KIB: u64 = 40 * 1024;

/// The table and what it says of the goals.
pub(super) fn render(rows: &[Row], version: &str, watch: Duration) -> Result<String> {
    let mut text = machine::lab_line(version)?;
    let runs = rows.first().map_or(0, |row| row.starts.len());
    writeln!(text, " Medians of {runs} starts; at rest watched for {} s.\n", watch.as_secs())?;
    writeln!(
        text,
        "| peers | half connected | all connected | CPU until then | at rest: CPU | wake-ups a second | resident |"
    )?;
    writeln!(text, "|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in rows {
        let Rest { cpu, resident_kib, wakeups, raw_socket_open } = &row.rest;
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.3} %{} | {wakeups:.1} | {:.1} MiB |",
            row.peers,
            seconds(row.median(|start| start.median)),
            seconds(row.median(|start| start.all)),
            seconds(row.median(|start| start.cpu)),
            cpu * 100.0,
            if *raw_socket_open { ", raw socket open" } else { "" },
            mib(*resident_kib)
        )?;
    }
    goals(&mut text, rows)?;
    Ok(text)
}

fn goals(text: &mut String, rows: &[Row]) -> Result<()> {
    let Some(row) = rows.iter().find(|row| row.peers == GOAL_PEERS) else { return Ok(()) };
    writeln!(text)?;
    let all = row.median(|start| start.all);
    let mut goal = |what: &str, reached: bool, found: String| {
        writeln!(text, "- {what}: {} ({found})", if reached { "reached" } else { "missed" })
    };
    goal("500 peers proven, applied and confirmed in under 10 s", all < GOAL_START, seconds(all))?;
    goal(
        "Under 0.5 % of a core with 500 settled peers",
        row.rest.cpu < GOAL_CPU,
        format!("{:.3} %", row.rest.cpu * 100.0),
    )?;
    goal(
        "Under 40 MB resident",
        row.rest.resident_kib < GOAL_KIB,
        format!("{:.1} MiB", mib(row.rest.resident_kib)),
    )?;
    Ok(())
}

impl Row {
    fn median(&self, of: impl Fn(&ManyReport) -> Duration) -> Duration {
        median(self.starts.iter().map(|start| Some(of(start))).collect()).unwrap_or_default()
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
