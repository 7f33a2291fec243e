//! The strategies for people: what is in this build, and a block for each interface.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::strategies::{Activity, FoundInfo, Judgement, OnInterface, StrategyInfo};
use super::table::{columns, lasting, shortened};

/// The strategies that can be used, best tier first.
pub fn strategies_table(strategies: &[StrategyInfo]) -> String {
    let mut rows = vec![["STRATEGY".to_owned(), "WHAT IT DOES".to_owned()]];
    rows.extend(strategies.iter().map(|one| [one.name.clone(), one.about.clone()]));
    columns(&rows, "")
}

/// How they go on each interface, one block each by name, those that run by rank.
pub fn interfaces_table(strategies: &[StrategyInfo], now: SystemTime) -> String {
    let mut interfaces: Vec<&str> =
        strategies.iter().flat_map(|one| one.interfaces.iter().map(|on| on.interface.as_str())).collect();
    interfaces.sort_unstable();
    interfaces.dedup();
    let blocks: Vec<String> =
        interfaces.into_iter().map(|interface| block(strategies, interface, now)).collect();
    blocks.join("\n")
}

fn block(strategies: &[StrategyInfo], interface: &str, now: SystemTime) -> String {
    let mut here: Vec<(&str, &OnInterface)> = strategies
        .iter()
        .filter_map(|one| {
            Some((one.name.as_str(), one.interfaces.iter().find(|on| on.interface == interface)?))
        })
        .collect();
    here.sort_by_key(|(_, on)| on.rank.unwrap_or(usize::MAX));
    let width = here.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    // Writing to a String cannot fail.
    let mut text = format!("{interface}\n");
    for (name, on) in here {
        let rank = on.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let _ = writeln!(text, "  {rank:>2}  {name:width$}  {}", activity(on, now));
        for line in details(on, now) {
            let _ = writeln!(text, "        {line}");
        }
    }
    text
}

fn activity(on: &OnInterface, now: SystemTime) -> String {
    let since = on.since.map_or_else(String::new, |since| format!(" for {}", lasting(since.age(now))));
    let times = match on.failures {
        0 => String::new(),
        1 => ", failed once".to_owned(),
        failures => format!(", failed {failures} times"),
    };
    match on.state {
        Activity::Off => "not enabled".to_owned(),
        Activity::Starting => "starts".to_owned(),
        Activity::Running => format!("runs{since}{times}"),
        Activity::Failed => {
            let again = on
                .again
                .map_or_else(String::new, |again| format!(", starts again in {}", lasting(again.until(now))));
            let why = on.last_failure.as_ref().map_or("", |failure| failure.text.as_str());
            format!("{}{again}: {why}", times.trim_start_matches(", "))
        }
    }
}

fn details(on: &OnInterface, now: SystemTime) -> Vec<String> {
    let mut lines: Vec<String> = on.found.iter().map(|found| finding(found, now)).collect();
    for one in &on.suggested {
        let peer = one.name.clone().unwrap_or_else(|| shortened(&one.public_key));
        lines.push(format!("{peer} may be at {}, for {}", one.endpoint, lasting(one.since.age(now))));
    }
    if let Some(nat) = &on.nat {
        lines.push(format!("NAT: {}", nat_words(nat)));
    }
    // Why it failed stands in the first line already.
    if let Some(note) = on.note.as_ref().filter(|_| on.state != Activity::Failed) {
        lines.push(format!("{} ({} ago)", note.text, lasting(note.since.age(now))));
    }
    let configured: Vec<String> =
        on.configured.iter().filter_map(|key| Some(format!("{key} = {}", on.options.get(key)?))).collect();
    if !configured.is_empty() {
        lines.push(format!("config: {}", configured.join(", ")));
    }
    for peer in &on.peers {
        let name = peer.name.clone().unwrap_or_else(|| shortened(&peer.public_key));
        lines.push(match peer.rank {
            Some(rank) => format!("for {name}: rank {rank}"),
            None => format!("for {name}: not enabled"),
        });
    }
    lines
}

fn finding(found: &FoundInfo, now: SystemTime) -> String {
    let verdict = match found.verdict {
        Judgement::Open => "open",
        Judgement::Filtered => "filtered",
        Judgement::Wrong => "wrong",
        Judgement::Pending => "not proven",
    };
    let why = found.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    let left = found
        .left_s
        .map_or_else(String::new, |left| format!(", {} left", lasting(std::time::Duration::from_secs(left))));
    let since = lasting(found.since.age(now));
    format!("{} {verdict}{why}, for {since}{left}: {}", found.endpoint, found.evidence)
}

fn nat_words(nat: &str) -> &str {
    match nat {
        "none" => "none",
        "fixed" => "one mapping for all destinations",
        "destination-dependent" => "another mapping for each destination, which cannot be punched",
        other => other,
    }
}
