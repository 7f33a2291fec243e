//! What routers answered.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use wireplug_core::is_global;

use super::Ledger;
use super::line::{Held, State};
use crate::mapping::epoch::Epoch;
use crate::mapping::pace::{self, LONGEST_LEASE, SHORTEST_LEASE};
use crate::mapping::{Ask, Checked, Grant, MapError};
use crate::situation::Gateway;

/// A router that tells of restarts more often than this is not believed: each one costs a mapping request.
const RESTART_GAP: Duration = Duration::from_secs(10);

impl Ledger {
    /// What came of [`Job::Map`].
    pub(in crate::mapping) fn mapped(
        &mut self,
        now: Instant,
        id: u64,
        ask: &Ask,
        outcome: Result<Grant, MapError>,
    ) {
        let Some(index) = self.busy(id) else {
            // Nobody waits for it any more; where the same mapping is held or asked for again, it is that one's.
            if outcome.is_ok() && !self.lines.iter().any(|line| line.is_for(ask)) {
                self.unmap(ask.clone());
            }
            return;
        };
        match outcome.and_then(|grant| self.judge(ask, grant)) {
            Ok(grant) => self.granted(now, index, grant),
            Err(error) => self.failed(now, index, &error),
        }
        self.step(now);
    }

    /// What came of [`Job::Check`].
    pub(in crate::mapping) fn checked(&mut self, now: Instant, id: u64, outcome: &Result<Checked, MapError>) {
        let Some(index) = self.busy(id) else { return };
        let gateway = self.lines[index].site.gateway.ip;
        let check = self.settings.check;
        let jitter = self.jitter();
        let line = &mut self.lines[index];
        if let State::Busy { held: Some(held), .. } = std::mem::replace(&mut line.state, State::Idle) {
            let mut held = held;
            held.check_at = now + check.mul_f64(0.9 + jitter / 5.0);
            if let Ok(checked) = outcome {
                let moved = checked.external.is_some_and(|ip| ip != held.external.ip());
                if !checked.holds || moved {
                    held.renew_at = now;
                }
            }
            line.state = State::Held(held);
        }
        if let Ok(Checked { epoch: Some(told), .. }) = outcome {
            self.epoch(now, gateway, *told, None);
        }
        self.step(now);
    }

    /// What came of [`Job::Unmap`].
    pub(in crate::mapping) fn unmapped(&mut self, ask: &Ask, outcome: &Result<(), MapError>) {
        let again = self.lines.iter().any(|line| line.is_for(ask) && line.is_on_router());
        if outcome.is_ok() && !again && self.record.remove(&ask.site, ask.port) {
            self.recorded = false;
        }
    }

    /// A router told everybody its seconds.
    pub(in crate::mapping) fn noticed(&mut self, now: Instant, gateway: &Gateway, told: u32) {
        self.epoch(now, gateway.ip, told, None);
        self.step(now);
    }

    /// Whether a grant is worth anything.
    fn judge(&mut self, ask: &Ask, grant: Grant) -> Result<Grant, MapError> {
        let gateway = ask.site.gateway.ip;
        if grant.lease.is_some_and(|lease| lease < SHORTEST_LEASE) {
            let why =
                format!("it offers {} s, which is over at once", grant.lease.unwrap_or_default().as_secs());
            return Err(MapError::Denied { gateway, why, retry_after: None });
        }
        if !is_global(grant.external.ip()) {
            self.unmap(ask.clone());
            let why = format!("its outer address is {}", grant.external.ip());
            return Err(MapError::DoubleNat { gateway, why });
        }
        if grant.external.port() == 0 {
            let why = "it answered with port 0".to_owned();
            return Err(MapError::Denied { gateway, why, retry_after: None });
        }
        Ok(grant)
    }

    fn granted(&mut self, now: Instant, index: usize, grant: Grant) {
        let jitter = self.jitter();
        let lease = grant.lease.map(|lease| lease.min(LONGEST_LEASE));
        // A mapping without an end is looked at as often as one of the lease that we asked for.
        let renew = pace::renewal(lease.unwrap_or(self.settings.lease), 0, jitter);
        let check = self.settings.check.mul_f64(0.9 + jitter / 5.0);
        let line = &mut self.lines[index];
        let before = line.held().cloned();
        line.failures = 0;
        line.committed = true;
        line.external = Some(grant.external);
        line.state = State::Held(Held {
            external: grant.external,
            granted: now,
            lease,
            expires: lease.map(|lease| now + lease),
            renew_at: now + renew,
            check_at: now + check,
            failed: 0,
            version: grant.version,
            said: false,
        });
        let (site, port, nonce) = (line.site.clone(), line.port, line.nonce);
        if let Some(old) = before.filter(|old| old.external != grant.external) {
            self.lose(&old);
        }
        if self.record.put(&site, port, nonce, Some(grant.external)) {
            self.recorded = false;
        }
        if let Some(told) = grant.epoch {
            self.epoch(now, site.gateway.ip, told, Some(index));
        }
    }

    fn failed(&mut self, now: Instant, index: usize, error: &MapError) {
        let jitter = self.jitter();
        let line = &mut self.lines[index];
        let state = std::mem::replace(&mut line.state, State::Idle);
        let worthless = matches!(error, MapError::DoubleNat { .. });
        line.failures = line.failures.saturating_add(1);
        match state {
            State::Busy { held: Some(mut held), .. } if !worthless => {
                held.failed += 1;
                let lease = held.lease.unwrap_or(self.settings.lease);
                let scheduled = held.granted + pace::renewal(lease, held.failed, jitter);
                held.renew_at = pace::retry(now, scheduled, self.settings.check, held.failed);
                line.state = State::Held(held);
            }
            State::Busy { held, .. } => {
                line.state = State::Resting { until: now + pace::pause(error, line.failures, jitter) };
                if worthless {
                    line.committed = false;
                    line.external = None;
                }
                if let Some(held) = held {
                    self.lose(&held);
                }
            }
            other @ (State::Idle | State::Resting { .. } | State::Held(_)) => line.state = other,
        }
        self.tell(format!("{}: {error}", self.title));
    }

    /// Takes a router's seconds. After a restart all that it had mapped is mapped again, but for the line whose
    /// answer told them.
    fn epoch(&mut self, now: Instant, gateway: IpAddr, told: u32, but: Option<usize>) {
        let index = self.epochs.iter().position(|(ip, ..)| *ip == gateway).unwrap_or_else(|| {
            self.epochs.push((gateway, Epoch::default(), None));
            self.epochs.len() - 1
        });
        let (_, epoch, last) = &mut self.epochs[index];
        let restarted = epoch.restarted(self.rule, now, told);
        if !restarted || last.is_some_and(|last| now < last + RESTART_GAP) {
            return;
        }
        *last = Some(now);
        for (index, line) in self.lines.iter_mut().enumerate() {
            let here = line.site.gateway.ip == gateway && Some(index) != but;
            if let (true, State::Held(held) | State::Busy { held: Some(held), .. }) = (here, &mut line.state)
            {
                held.renew_at = now;
            }
        }
        self.tell(format!("{}: router {gateway} lost its mappings, asking again", self.title));
    }

    fn busy(&self, id: u64) -> Option<usize> {
        self.lines.iter().position(|line| matches!(line.state, State::Busy { id: asked, .. } if asked == id))
    }
}
