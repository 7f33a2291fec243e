//! Who is connected, and how much was said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use wireplug_lab::CrowdReport;

/// The crowd's figures. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tally {
    shared: Arc<Shared>,
}

struct Shared {
    members: usize,
    report: Mutex<CrowdReport>,
    complete: Notify,
}

impl Tally {
    pub(crate) fn new(members: usize) -> Self {
        let report = CrowdReport { connected_ms: Vec::new(), offers: 0, checks: 0, checked: 0, calls: 0 };
        Self { shared: Arc::new(Shared { members, report: Mutex::new(report), complete: Notify::new() }) }
    }

    /// The figures, to be added to.
    pub(crate) fn report(&self) -> MutexGuard<'_, CrowdReport> {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more member has a session.
    pub(crate) fn connected(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut report = self.report();
        report.connected_ms.push(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        if report.connected_ms.len() == self.shared.members {
            self.shared.complete.notify_one();
        }
    }

    /// Waits until every member has a session.
    pub(crate) async fn all_connected(&self) -> CrowdReport {
        self.shared.complete.notified().await;
        self.report().clone()
    }
}
