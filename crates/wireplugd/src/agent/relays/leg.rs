//! One relay port and what was asked there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_strategy::LegStanding;

/// How long a relay may be silent before UDP towards it counts as blocked, and how many binds must have gone unanswered:
/// shorter, and a few lost packets would start a leg over TLS that nobody needs.
const SILENT_AFTER: Duration = Duration::from_millis(1500);
const SILENT_BINDS: u32 = 3;
/// Requests whose answers are still awaited; the oldest give way.
const MAX_PENDING: usize = 16;
/// How often one request may be challenged: once because there was no nonce or a stale one, and once more where it
/// became stale meanwhile. Anybody on the way can challenge.
const MAX_CHALLENGES: u8 = 2;
/// The gaps between binds that nobody else asked for; after the last it is given up.
const GAPS: [Duration; 10] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
];

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    id: TransactionId,
    /// The check that it carries out.
    pub(super) check: Option<TransactionId>,
    challenges: u8,
}

impl Asked {
    pub(super) const fn new(id: TransactionId, check: Option<TransactionId>) -> Self {
        Self { id, check, challenges: 0 }
    }

    /// The same once more, if it was not challenged too often.
    pub(super) fn again(self, id: TransactionId) -> Option<Self> {
        (self.challenges < MAX_CHALLENGES).then_some(Self { id, challenges: self.challenges + 1, ..self })
    }
}

/// One relay port.
#[derive(Debug)]
pub(super) struct Leg {
    standing: LegStanding,
    /// Whether it was ever bound from this network: a tunnel may run over it.
    was_bound: bool,
    nonce: Option<[u8; 16]>,
    pending: VecDeque<Asked>,
    /// Since when there is no answer, and to how many requests.
    unanswered: Option<(Instant, u32)>,
    /// How many binds went out by themselves, and when the next one goes.
    binding: Option<(usize, Instant)>,
}

impl Default for Leg {
    fn default() -> Self {
        Self {
            standing: LegStanding::Asked,
            was_bound: false,
            nonce: None,
            pending: VecDeque::new(),
            unanswered: None,
            binding: None,
        }
    }
}

impl Leg {
    pub(super) fn standing(&self) -> LegStanding {
        self.standing
    }

    pub(super) fn nonce(&self) -> Option<[u8; 16]> {
        self.nonce
    }

    /// Sets what it said last; says whether that is news.
    pub(super) fn stand(&mut self, standing: LegStanding) -> bool {
        if matches!(standing, LegStanding::Taken | LegStanding::Full) {
            self.binding = None;
            self.unanswered = None;
        }
        std::mem::replace(&mut self.standing, standing) != standing
    }

    /// A request goes out.
    pub(super) fn asked(&mut self, now: Instant, asked: Asked) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(asked);
        let (_, requests) = self.unanswered.get_or_insert((now, 0));
        *requests += 1;
    }

    /// The request of this transaction, which is answered now.
    pub(super) fn take(&mut self, id: TransactionId) -> Option<Asked> {
        let index = self.pending.iter().position(|asked| asked.id == id)?;
        self.pending.remove(index)
    }

    pub(super) fn put_back(&mut self, asked: Asked) {
        self.pending.push_back(asked);
    }

    /// It is bound; says whether that is news.
    pub(super) fn bound(&mut self) -> bool {
        self.binding = None;
        self.unanswered = None;
        self.was_bound = true;
        self.stand(LegStanding::Bound)
    }

    /// It wants the nonce: the request goes out again.
    pub(super) fn challenged(&mut self, now: Instant, nonce: [u8; 16], again: Asked) {
        self.nonce = Some(nonce);
        self.unanswered = None;
        self.asked(now, again);
    }

    /// There is another credential: what was bound with the former one is bound with this.
    pub(super) fn bind_anew(&mut self, now: Instant) {
        self.pending.clear();
        self.unanswered = None;
        if self.was_bound {
            self.binding = Some((0, now));
        }
        if matches!(self.standing, LegStanding::Taken | LegStanding::Full) {
            self.standing = LegStanding::Asked;
        }
    }

    /// Nothing of what was heard holds.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When it is to be bound by itself.
    pub(super) fn next_bind(&self) -> Option<Instant> {
        self.binding.map(|(_, at)| at)
    }

    /// Takes the bind that is due; `false` if it was given up instead.
    pub(super) fn take_bind(&mut self, now: Instant) -> bool {
        let Some((sent, _)) = self.binding else { return false };
        self.binding = GAPS.get(sent).map(|gap| (sent + 1, now + *gap));
        self.binding.is_some()
    }

    /// Notices that it is silent; says whether that is news.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| at <= now) && self.stand(LegStanding::Silent)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        [self.next_bind(), self.silent_at()].into_iter().flatten().min()
    }

    /// When it will count as silent.
    fn silent_at(&self) -> Option<Instant> {
        let (since, requests) = self.unanswered?;
        let may_be = matches!(self.standing, LegStanding::Asked | LegStanding::Bound);
        (may_be && requests >= SILENT_BINDS).then_some(since + SILENT_AFTER)
    }
}
