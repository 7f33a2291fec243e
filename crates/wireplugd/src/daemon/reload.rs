//! The config is read again: refused whole, or taken, and then only what changed is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::{Daemon, say_if_no_server};
use crate::config::{Change, Config};
use crate::control::{ReloadReport, Reloaded};

impl Daemon {
    /// Reads the config again. `because` of what, for the log.
    pub(super) async fn reload(&mut self, because: &'static str) -> ReloadReport {
        self.file.read();
        let source = Arc::clone(&self.source);
        // A disk may be slow, and a path may lead anywhere.
        let loaded = tokio::task::spawn_blocking(move || source.load()).await;
        let loaded = loaded.map_err(|error| format!("reading it broke off: {error}"));
        match loaded.and_then(|loaded| loaded.map_err(|error| error.to_string())) {
            Err(error) => {
                warn!(because, %error, "the config is refused; the one before stays in force");
                self.report(&self.config, &Change::default(), Some(error))
            }
            Ok(next) => {
                let change = Change::between(&self.config, &next);
                let report = self.report(&next, &change, None);
                for one in report.interfaces.iter().filter(|one| !one.changes.is_empty()) {
                    info!(
                        because,
                        interface = one.interface,
                        changes = one.changes.join("; "),
                        "config reloaded"
                    );
                }
                if change.is_nothing() {
                    debug!(because, "the config says the same");
                } else {
                    if !change.servers.is_empty() {
                        say_if_no_server(&next);
                    }
                    self.pool.replace(next.servers.clone());
                    self.config = next;
                    self.interfaces.follow(&self.config);
                }
                report
            }
        }
    }

    /// The outcome for each interface that is looked after, before or after.
    fn report(&self, next: &Config, change: &Change, refused: Option<String>) -> ReloadReport {
        let names: BTreeSet<_> = self.config.interfaces.keys().chain(next.interfaces.keys()).collect();
        let interfaces = names
            .into_iter()
            .map(|name| Reloaded { interface: name.to_string(), changes: change.words(name) });
        ReloadReport { interfaces: interfaces.collect(), refused }
    }
}
