//! The control socket, from both ends.

use std::time::{Duration, SystemTime};

use wireplugd::control::fuzzing as control;
use wireplugd::status;

pub(crate) fn question(data: &[u8]) {
    let line = String::from_utf8_lossy(data);
    let status = serde_json::from_str::<serde_json::Value>(&line).is_ok_and(|value| value == "status");
    if status {
        assert!(control::question(&line));
    }
}

pub(crate) fn answer(data: &[u8]) {
    let line = String::from_utf8_lossy(data);
    let Some((written, status)) = control::answer(&line) else { return };
    assert_eq!(control::answer(&written), Some((written.clone(), status.clone())));
    if let Some(status) = status {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert!(status::table(&[status], now).ends_with('\n'));
    }
}
