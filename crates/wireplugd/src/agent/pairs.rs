//! The secrets shared with each peer, found by key, by topic, and by the tag of a check.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use tracing::warn;
use wireplug_core::{PrivateKey, PublicKey};
use wireplug_proto::{CheckTag, Pair, Topic};

use super::pace::Pace;

/// All pairs of one interface.
#[derive(Default)]
pub(super) struct Pairs {
    keyed: BTreeMap<PublicKey, Option<Pair>>,
    topics: HashMap<Topic, PublicKey>,
    tags: HashMap<CheckTag, PublicKey>,
    paces: HashMap<PublicKey, Pace>,
}

impl Pairs {
    pub(super) fn get(&self, peer: &PublicKey) -> Option<&Pair> {
        self.keyed.get(peer)?.as_ref()
    }

    pub(super) fn of_topic(&self, topic: &Topic) -> Option<(PublicKey, &Pair)> {
        let key = self.topics.get(topic)?;
        Some((*key, self.get(key)?))
    }

    pub(super) fn of_tag(&self, tag: CheckTag) -> Option<(PublicKey, &Pair)> {
        let key = self.tags.get(&tag)?;
        Some((*key, self.get(key)?))
    }

    /// Whether one more check may be sent to what this peer names as its own; then it counts as sent.
    pub(super) fn may_check(&mut self, now: Instant, peer: &PublicKey) -> bool {
        self.keyed.contains_key(peer) && self.paces.entry(*peer).or_default().take(now)
    }

    /// All pairs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PublicKey, &Pair)> {
        self.keyed.iter().filter_map(|(key, pair)| Some((key, pair.as_ref()?)))
    }

    /// Makes the pairs those of these peers. Returns the new ones and the topics of those that went.
    pub(super) fn follow(
        &mut self,
        own: &PrivateKey,
        peers: impl Iterator<Item = PublicKey>,
    ) -> (Vec<PublicKey>, Vec<Topic>) {
        let peers: BTreeSet<_> = peers.collect();
        let gone: Vec<_> = self.keyed.keys().filter(|key| !peers.contains(key)).copied().collect();
        let mut left = Vec::new();
        for key in gone {
            self.paces.remove(&key);
            if let Some(pair) = self.keyed.remove(&key).flatten() {
                self.topics.remove(&pair.topic());
                self.tags.remove(&pair.tag_in());
                left.push(pair.topic());
            }
        }
        let mut new = Vec::new();
        for key in peers {
            if self.keyed.contains_key(&key) {
                continue;
            }
            let pair = Pair::derive(own, &key);
            if let Err(error) = &pair {
                warn!(peer = key.short(), %error, "this peer cannot be worked on");
            }
            let pair = pair.ok();
            if let Some(pair) = &pair {
                self.topics.insert(pair.topic(), key);
                self.tags.insert(pair.tag_in(), key);
                new.push(key);
            }
            self.keyed.insert(key, pair);
        }
        (new, left)
    }
}
