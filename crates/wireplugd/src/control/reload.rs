//! What a daemon says when it was asked to read its config again.

use serde::{Deserialize, Serialize};

/// The outcome for all interfaces that one daemon looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Each of them, by name; also those that are looked after no more.
    pub interfaces: Vec<Reloaded>,
    /// Why the config was refused, if it was: then everything is as before.
    pub refused: Option<String>,
}

/// The outcome for one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The interface.
    pub interface: String,
    /// What is another now, in words; nothing if nothing is.
    pub changes: Vec<String>,
}

impl ReloadReport {
    /// The same for people: a line for each interface.
    pub fn lines(&self) -> String {
        let line = |one: &Reloaded| match (&self.refused, one.changes.as_slice()) {
            (Some(why), _) => format!("{}: not reloaded: {why}\n", one.interface),
            (None, []) => format!("{}: nothing changed\n", one.interface),
            (None, changes) => format!("{}: {}\n", one.interface, changes.join("; ")),
        };
        self.interfaces.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_a_line_for_each_interface() {
        let one = |interface: &str, changes: &[&str]| Reloaded {
            interface: interface.to_owned(),
            changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        };
        let interfaces = vec![one("wg0", &["strategy pcp disabled", "peer nas: endpoint"]), one("wg1", &[])];
        let mut report = ReloadReport { interfaces, refused: None };
        assert_eq!(report.lines(), "wg0: strategy pcp disabled; peer nas: endpoint\nwg1: nothing changed\n");
        report.refused = Some("w.toml:3: no".to_owned());
        assert_eq!(report.lines(), "wg0: not reloaded: w.toml:3: no\nwg1: not reloaded: w.toml:3: no\n");
    }
}
