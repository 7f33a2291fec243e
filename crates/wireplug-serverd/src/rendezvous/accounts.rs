//! What each address has and does: the limits that a client cannot escape by connecting again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Kind;
use crate::limits::{AddressKey, Bucket, Limits, Rates};

/// Buckets for each kind of message.
#[derive(Debug, Clone, Default)]
pub(super) struct Buckets {
    messages: Bucket,
    joins: Bucket,
    publishes: Bucket,
    verifies: Bucket,
    allocates: Bucket,
}

/// One address.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Open connections.
    pub(super) connections: usize,
    /// Sides of topics.
    pub(super) seats: usize,
    /// New connections.
    pub(super) connects: Bucket,
    /// Messages.
    pub(super) buckets: Buckets,
}

/// All addresses that have something or did something lately.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    accounts: HashMap<AddressKey, Account>,
}

impl Buckets {
    /// Takes one message of a kind.
    pub(super) fn take(&mut self, kind: Kind, rates: &Rates, now: Instant) -> Result<(), Duration> {
        match kind {
            Kind::Any => self.messages.take(rates.messages, now),
            Kind::Join => self.joins.take(rates.joins, now),
            Kind::Publish => self.publishes.take(rates.publishes, now),
            Kind::Verify => self.verifies.take(rates.verifies, now),
            Kind::Allocate => self.allocates.take(rates.allocates, now),
        }
    }

    fn are_full(&self, now: Instant) -> bool {
        [&self.messages, &self.joins, &self.publishes, &self.verifies, &self.allocates]
            .iter()
            .all(|bucket| bucket.is_full(now))
    }
}

impl Account {
    fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0 && self.seats == 0 && self.connects.is_full(now) && self.buckets.are_full(now)
    }
}

impl Accounts {
    /// The account of an address, opened if there is room for it.
    pub(super) fn open(&mut self, key: AddressKey, limits: &Limits, now: Instant) -> Option<&mut Account> {
        if self.accounts.len() >= limits.addresses && !self.accounts.contains_key(&key) {
            self.accounts.retain(|_, account| !account.is_idle(now));
            if self.accounts.len() >= limits.addresses {
                return None;
            }
        }
        Some(self.accounts.entry(key).or_default())
    }

    /// The account of an address that has something.
    pub(super) fn get(&mut self, key: AddressKey) -> Option<&mut Account> {
        self.accounts.get_mut(&key)
    }

    /// One side of a topic more.
    pub(super) fn charge(&mut self, key: AddressKey) {
        self.accounts.entry(key).or_default().seats += 1;
    }

    /// One side of a topic less.
    pub(super) fn relieve(&mut self, key: Option<AddressKey>) {
        if let Some(account) = key.and_then(|key| self.accounts.get_mut(&key)) {
            account.seats = account.seats.saturating_sub(1);
        }
    }

    /// Closes the accounts that are as good as new.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.accounts.retain(|_, account| !account.is_idle(now));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// All sides of topics.
    pub(super) fn seats(&self) -> usize {
        self.accounts.values().map(|account| account.seats).sum()
    }
}
