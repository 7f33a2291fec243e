//! When to ask a router again.

use std::time::Duration;

use tokio::time::Instant;

use super::MapError;

/// A lease beyond this is not believed: whatever a router promises, it is asked again within half of it.
pub(super) const LONGEST_LEASE: Duration = Duration::from_hours(24);
/// A lease below this is refused: renewing it would be all that is done.
pub(super) const SHORTEST_LEASE: Duration = Duration::from_secs(10);
/// RFC 6887 section 11.2.1: no two renewals closer than this.
const RENEWAL_GAP: Duration = Duration::from_secs(4);

/// When to renew, counted from the moment the lease was granted: first between 1/2 and 5/8 of it, then after
/// 3/4, 7/8 ... where an attempt failed (RFC 6887 section 11.2.1). `jitter` is from 0 to 1.
pub(super) fn renewal(lease: Duration, failed: u32, jitter: f64) -> Duration {
    let parts = 2f64.powi(i32::try_from(failed.min(20)).unwrap_or(20) + 1);
    let at = lease.mul_f64(1.0 - 1.0 / parts + jitter.clamp(0.0, 1.0) / (parts * 4.0));
    at.max(RENEWAL_GAP * (failed + 1))
}

/// When to try a renewal again that failed: as scheduled, but where it was tried ahead of its time (the router has
/// lost the mapping) soon, with gaps that double; never at once.
pub(super) fn retry(now: Instant, scheduled: Instant, check: Duration, failed: u32) -> Instant {
    let soon = now + check * 2u32.saturating_pow(failed.saturating_sub(1).min(12));
    scheduled.min(soon).max(now + Duration::from_secs(5))
}

/// How long to leave a router alone after it failed so many times in a row, this one included.
///
/// | why | pause | why so |
/// |---|---|---|
/// | silent, refused | 1 min, doubling to 30 min | most routers without a service never get one |
/// | speaks something else | 30 min | an update of the router may change it |
/// | double NAT | 10 min | the outer address may change |
/// | denied | as it says, within 30 s and 30 min; else 5 min, doubling to 30 min | it may get room |
/// | no socket | 5 s, doubling to 5 min | it is our own network that changes |
pub(super) fn pause(error: &MapError, failures: u32, jitter: f64) -> Duration {
    const MINUTE: Duration = Duration::from_mins(1);
    let doubled = |first: Duration, last: Duration| {
        (first * 2u32.saturating_pow(failures.saturating_sub(1).min(12))).min(last)
    };
    let pause = match error {
        MapError::Silent { .. } | MapError::Refused { .. } => doubled(MINUTE, 30 * MINUTE),
        MapError::Other { .. } => 30 * MINUTE,
        MapError::DoubleNat { .. } => 10 * MINUTE,
        MapError::Denied { retry_after: Some(after), .. } => {
            (*after).clamp(Duration::from_secs(30), 30 * MINUTE)
        }
        MapError::Denied { retry_after: None, .. } => doubled(5 * MINUTE, 30 * MINUTE),
        MapError::Socket { .. } => doubled(Duration::from_secs(5), 5 * MINUTE),
    };
    pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 8.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn p8_renewed_at_half_life_jittered() {
        assert_eq!(renewal(HOUR, 0, 0.0), HOUR / 2);
        assert_eq!(renewal(HOUR, 0, 1.0), HOUR * 5 / 8);
        assert_eq!(renewal(HOUR, 1, 0.0), HOUR * 3 / 4);
        assert_eq!(renewal(HOUR, 2, 0.0), HOUR * 7 / 8);
        assert!(renewal(HOUR, 1000, 1.0) > HOUR, "tried until the lease is over, not for ever");
        assert_eq!(renewal(Duration::from_secs(1), 0, 0.0), RENEWAL_GAP);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let gateway = [192, 168, 1, 1].into();
        let silent = MapError::Silent { gateway, service: "x" };
        let pauses: Vec<_> = (1..9).map(|failures| pause(&silent, failures, 0.0).as_secs() / 60).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let denied = |retry_after| MapError::Denied { gateway, why: String::new(), retry_after };
        for (says, waits) in [(0, 30), (60, 60), (1800, 1800), (u64::from(u32::MAX), 1800)] {
            let error = denied(Some(Duration::from_secs(says)));
            assert_eq!(pause(&error, 1, 0.0).as_secs(), waits, "{says}");
        }
        assert_eq!(pause(&denied(None), 50, 1.0).as_secs(), 1800 * 9 / 8);
    }
}
