//! Whether a router has lost its mappings since it last answered: it tells the seconds since its table was new.
//!
//! Time is a parameter.

use std::time::Duration;

use tokio::time::Instant;

/// By which rule the router's seconds are compared with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochRule {
    /// RFC 6886 section 3.6: it may be late by one eighth and two seconds, as embedded clocks are.
    NatPmp,
    /// RFC 6887 section 8.5: it may differ by one sixteenth and two seconds in both directions.
    Pcp,
}

/// The last answer of one router.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epoch {
    last: Option<(Instant, u32)>,
}

impl Epoch {
    /// Takes the seconds that the router told now. Whether it has lost its mappings since the last time.
    pub(super) fn restarted(&mut self, rule: EpochRule, now: Instant, told: u32) -> bool {
        let Some((then, before)) = self.last.replace((now, told)) else { return false };
        let ours = now.saturating_duration_since(then);
        match rule {
            EpochRule::NatPmp => {
                let least = f64::from(before) + ours.as_secs_f64() * 7.0 / 8.0 - 2.0;
                f64::from(told) < least
            }
            EpochRule::Pcp => {
                if told.saturating_add(1) < before {
                    return true;
                }
                let theirs = Duration::from_secs(told.saturating_sub(before).into());
                let two = Duration::from_secs(2);
                ours + two < theirs * 15 / 16 || theirs + two < ours * 15 / 16
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each answer (our seconds, its seconds) is taken for, after a first one at (0, 1000).
    fn verdicts(rule: EpochRule, answers: &[(u64, u32)]) -> Vec<bool> {
        let start = Instant::now();
        let mut epoch = Epoch::default();
        assert!(!epoch.restarted(rule, start, 1000), "the first answer tells nothing");
        let at = |seconds| start + Duration::from_secs(seconds);
        answers.iter().map(|(ours, told)| epoch.restarted(rule, at(*ours), *told)).collect()
    }

    #[test]
    fn nat_pmp_forgives_a_slow_clock_and_any_fast_one() {
        let rule = EpochRule::NatPmp;
        assert_eq!(verdicts(rule, &[(80, 1080), (160, 1148), (161, 9999)]), [false, false, false]);
        assert_eq!(verdicts(rule, &[(80, 1067)]), [true]);
        assert_eq!(verdicts(rule, &[(80, 3), (81, 4)]), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn p2_epoch_rules_of_section_8_5() {
        let rule = EpochRule::Pcp;
        // Back by one second is a rounding, by two is a restart.
        assert_eq!(verdicts(rule, &[(0, 999)]), [false]);
        assert_eq!(verdicts(rule, &[(0, 998)]), [true]);
        // Ours 160: theirs from 148 (160 - 10 - 2) on, and up to 172 (whose 15/16 are 161.25).
        assert_eq!(verdicts(rule, &[(160, 1148)]), [false]);
        assert_eq!(verdicts(rule, &[(160, 1147)]), [true]);
        assert_eq!(verdicts(rule, &[(160, 1172)]), [false]);
        assert_eq!(verdicts(rule, &[(160, 1175)]), [true]);
        // The new epoch is the next one's base.
        assert_eq!(verdicts(rule, &[(160, 5), (170, 15)]), [true, false]);
    }
}
