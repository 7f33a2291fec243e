//! For the fuzz targets: what the two ends of the control socket read, without a socket. Not an interface to build
//! upon.

use super::{Answer, Question};
use crate::status::InterfaceStatus;

/// Whether the daemon answers a line.
pub fn question(line: &str) -> bool {
    serde_json::from_str::<Question>(line).is_ok()
}

/// What the command line reads of a line, as it is written; and the status, where it is one.
pub fn answer(line: &str) -> Option<(String, Option<InterfaceStatus>)> {
    let answer: Answer = serde_json::from_str(line).ok()?;
    let written = serde_json::to_string(&answer).ok()?;
    Some((written, if let Answer::Status(status) = answer { Some(*status) } else { None }))
}
