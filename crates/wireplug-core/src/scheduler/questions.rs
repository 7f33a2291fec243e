//! Whose check a transaction is, so that an answer costs one look-up and not one for every peer.

use std::collections::BTreeMap;
use std::time::Instant;

use super::tuning::REMEMBER_CHECKS;
use crate::{PublicKey, TransactionId};

/// The checks of the last while, by their transactions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Those since then, and those before.
    since: Option<Instant>,
    new: BTreeMap<TransactionId, PublicKey>,
    old: BTreeMap<TransactionId, PublicKey>,
}

impl Questions {
    /// A check was sent.
    pub(super) fn note(&mut self, now: Instant, transaction: TransactionId, peer: PublicKey) {
        let since = *self.since.get_or_insert(now);
        if now >= since + REMEMBER_CHECKS {
            self.old = std::mem::take(&mut self.new);
            self.since = Some(now);
        }
        self.new.insert(transaction, peer);
    }

    /// Whose check had this transaction, if it was sent lately.
    pub(super) fn whose(&self, transaction: &TransactionId) -> Option<PublicKey> {
        self.new.get(transaction).or_else(|| self.old.get(transaction)).copied()
    }

    /// No answer is awaited any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEER: PublicKey = PublicKey::from_bytes([1; 32]);

    #[test]
    fn a_check_is_remembered_for_a_while_and_no_longer_than_twice_that() {
        let (mut questions, start) = (Questions::default(), Instant::now());
        let id = |number: u8| TransactionId::from_bytes([number; 12]);
        questions.note(start, id(0), PEER);
        for second in 1..60_u8 {
            questions.note(start + Duration::from_secs(second.into()), id(second), PEER);
            let kept = u8::try_from(REMEMBER_CHECKS.as_secs()).unwrap();
            assert_eq!(questions.whose(&id(second)), Some(PEER));
            assert_eq!(questions.whose(&id(second.saturating_sub(kept - 1))), Some(PEER));
            if second > 2 * kept {
                assert_eq!(questions.whose(&id(second - 2 * kept)), None);
            }
        }
        questions.forget();
        assert_eq!(questions.whose(&id(59)), None);
    }
}
