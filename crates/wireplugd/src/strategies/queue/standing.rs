//! What a strategy holds for true now.

use tokio::time::Instant;
use wireplug_core::{Candidate, Mapping, PublicKey, RemoteCandidate};

use super::{Saying, Sayings, Topic};

/// All that one strategy holds for true, in the generation that it spoke of last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// That generation.
    pub generation: u32,
    /// Where our port may be reached.
    pub found: Vec<Held<Candidate>>,
    /// Where peers may be reached.
    pub suggested: Vec<(PublicKey, Held<RemoteCandidate>)>,
    /// How the NAT in front of us maps, where it said so.
    pub mapping: Option<Mapping>,
    /// Its last words, of whatever generation.
    pub note: Option<Held<String>>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    /// What.
    pub what: T,
    /// When it was first said.
    pub since: Instant,
    /// When it was said last: a lifetime counts from then.
    pub said: Instant,
}

impl<T> Held<T> {
    fn with<U: Clone>(&self, what: &U) -> Held<U> {
        Held { what: what.clone(), since: self.since, said: self.said }
    }
}

impl Standing {
    pub(super) fn of(sayings: &Sayings) -> Self {
        let mut standing =
            Self { generation: sayings.generation, note: sayings.note.clone(), ..Self::default() };
        for (topic, held) in &sayings.now {
            match (topic, &held.what) {
                (_, Saying::Ours(candidate)) => standing.found.push(held.with(candidate)),
                (Topic::Theirs(peer, _), Saying::Theirs(candidate)) => {
                    standing.suggested.push((*peer, held.with(candidate)));
                }
                (_, Saying::Mapping(mapping)) => standing.mapping = Some(*mapping),
                (_, Saying::Theirs(_) | Saying::Note(_)) => {}
            }
        }
        standing
    }
}
