//! Who has which place: allocations, the credentials of their sides, and what each address is charged with.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use wireplug_proto::relay::{BindRefusal, Credential, CredentialId, CredentialKey};
use wireplug_proto::{Side, Topic};

use super::settings::Settings;
use super::table::{End, Slot};
use super::terms::{Ask, Asker, Refusal};
use crate::limits::{AddressKey, Bucket, Rate, RateTable};

/// Changes of one side's bindings: a client that roams makes one for each network, a few at once.
const CHANGES: Rate = Rate { burst: 20, every: Duration::from_secs(1) };

/// All allocations.
#[derive(Debug)]
pub(super) struct Ledger {
    topics: HashMap<Topic, u32>,
    /// By their numbers.
    allocations: Vec<Option<Box<Allocation>>>,
    free: Vec<u32>,
    /// Sides that each address is charged with.
    held: HashMap<AddressKey, u32>,
    asks: RateTable<AddressKey>,
    sides: usize,
}

/// What a credential is for.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) key: CredentialKey,
    pub(super) end: End,
}

/// All credentials, by their ids.
pub(super) type Credentials = HashMap<CredentialId, Holder>;

/// How an order compares with the last one that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It is the first of its credential, whose binding ends the former one's.
    First,
    Newer,
    Same,
    Older,
}

#[derive(Debug)]
struct Allocation {
    topic: Topic,
    seats: [Option<Seat>; 2],
}

/// What one side has.
#[derive(Debug)]
struct Seat {
    /// The connection that asked last, while it lives.
    asker: Option<Asker>,
    account: AddressKey,
    /// The credential that has bound.
    used: Option<CredentialId>,
    /// One that was granted since and has not bound yet.
    fresh: Option<CredentialId>,
    /// The highest order accepted of `used`, by kind of UDP leg: requests of two families may overtake each other.
    orders: [u64; 2],
    changes: Bucket,
    /// Since when it has neither a leg nor a connection.
    quiet: Option<Instant>,
}

impl Ledger {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            topics: HashMap::new(),
            allocations: Vec::new(),
            free: Vec::new(),
            held: HashMap::new(),
            asks: RateTable::new(settings.asks, settings.sources),
            sides: 0,
        }
    }

    /// Gives a side a credential.
    pub(super) fn allocate(
        &mut self,
        now: Instant,
        ask: &Ask,
        fresh: Credential,
        settings: &Settings,
        credentials: &mut Credentials,
    ) -> Result<Credential, Refusal> {
        let account = AddressKey::of(ask.address);
        let number = self.topics.get(&ask.topic).copied();
        let own = self.allocation(number).and_then(|all| all.seats[ask.side as usize].as_ref());
        if let Some(seat) = own
            && seat.asker == Some(ask.asker)
            && let Some(id) = seat.fresh.or(seat.used)
            && let Some(holder) = credentials.get(&id)
        {
            return Ok(Credential { id, key: holder.key.clone() });
        }
        let retry_after = settings.idle;
        if own.is_none_or(|seat| seat.account != account)
            && self.held(account) >= settings.allocations_per_address
        {
            return Err(Refusal::AddressFull { retry_after });
        }
        if number.is_none() && self.topics.len() >= settings.allocations {
            return Err(Refusal::Full { retry_after });
        }
        self.asks.take(account, now).map_err(|retry_after| Refusal::TooOften { retry_after })?;
        let number = number.unwrap_or_else(|| self.open(ask.topic));
        self.charge(account);
        let Some(Some(allocation)) = self.allocations.get_mut(number as usize) else {
            return Err(Refusal::Full { retry_after }); // never: it was found or made above
        };
        let seat = &mut allocation.seats[ask.side as usize];
        let relieved = if let Some(seat) = seat {
            seat.asker = Some(ask.asker);
            seat.quiet = None;
            if let Some(unused) = seat.fresh.replace(fresh.id) {
                credentials.remove(&unused);
            }
            Some(std::mem::replace(&mut seat.account, account))
        } else {
            *seat = Some(Seat {
                asker: Some(ask.asker),
                account,
                used: None,
                fresh: Some(fresh.id),
                orders: [0; 2],
                changes: Bucket::default(),
                quiet: None,
            });
            None
        };
        match relieved {
            Some(former) => self.relieve(former),
            None => self.sides += 1,
        }
        let end = End { pair: number, side: ask.side };
        credentials.insert(fresh.id, Holder { key: fresh.key.clone(), end });
        Ok(fresh)
    }

    /// The side of a topic, if that connection was the last to ask for it.
    pub(super) fn end_of(&self, topic: &Topic, side: Side, asker: Asker) -> Option<End> {
        let pair = *self.topics.get(topic)?;
        let end = End { pair, side };
        (self.seat(end)?.asker == Some(asker)).then_some(end)
    }

    /// The connection of a side is gone.
    pub(super) fn leave(&mut self, end: End) {
        if let Some(seat) = self.seat_mut(end) {
            seat.asker = None;
        }
    }

    /// A side ends; its legs are the caller's to end.
    pub(super) fn vacate(&mut self, end: End, credentials: &mut Credentials) {
        let Some(Some(allocation)) = self.allocations.get_mut(end.pair as usize) else { return };
        let Some(seat) = allocation.seats[end.side as usize].take() else { return };
        if allocation.seats.iter().all(Option::is_none) {
            self.topics.remove(&allocation.topic);
            self.allocations[end.pair as usize] = None;
            self.free.push(end.pair);
        }
        for id in [seat.used, seat.fresh].into_iter().flatten() {
            credentials.remove(&id);
        }
        self.sides -= 1;
        self.relieve(seat.account);
    }

    /// How an order compares with those before it; `None` if the credential is none of the side's.
    pub(super) fn order(&self, end: End, id: CredentialId, slot: Slot, order: u64) -> Option<Order> {
        let seat = self.seat(end)?;
        if seat.fresh == Some(id) {
            return Some(Order::First);
        }
        (seat.used == Some(id)).then(|| match seat.orders.get(slot as usize) {
            None => Order::Newer, // over TLS nothing can be repeated by others
            Some(last) => match order.cmp(last) {
                std::cmp::Ordering::Less => Order::Older,
                std::cmp::Ordering::Equal => Order::Same,
                std::cmp::Ordering::Greater => Order::Newer,
            },
        })
    }

    /// A binding is about to change.
    pub(super) fn change(&mut self, end: End, now: Instant) -> Result<(), BindRefusal> {
        let seat = self.seat_mut(end).ok_or(BindRefusal::Unknown)?;
        seat.changes.take(CHANGES, now).map_err(|_| BindRefusal::Full)
    }

    /// A request was accepted. The former credential ends with the first of a new one; says whether it did.
    pub(super) fn accept(
        &mut self,
        end: End,
        id: CredentialId,
        slot: Slot,
        order: u64,
        credentials: impl FnOnce(&CredentialId),
    ) {
        let Some(seat) = self.seat_mut(end) else { return };
        seat.quiet = None;
        if seat.fresh == Some(id) {
            seat.fresh = None;
            seat.orders = [0; 2];
            if let Some(former) = seat.used.replace(id) {
                credentials(&former);
            }
        }
        if let Some(last) = seat.orders.get_mut(slot as usize) {
            *last = order;
        }
    }

    /// Looks whether a side is to end because it has had neither a leg nor a connection for `idle`.
    pub(super) fn is_over(&mut self, end: End, bound: bool, now: Instant, idle: Duration) -> bool {
        let Some(seat) = self.seat_mut(end) else { return false };
        if bound || seat.asker.is_some() {
            seat.quiet = None;
            return false;
        }
        now.saturating_duration_since(*seat.quiet.get_or_insert(now)) >= idle
    }

    /// How many numbers allocations have had.
    pub(super) fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Allocations and sides.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.topics.len(), self.sides)
    }

    fn open(&mut self, topic: Topic) -> u32 {
        let allocation = Some(Box::new(Allocation { topic, seats: [None, None] }));
        let number = if let Some(number) = self.free.pop() {
            self.allocations[number as usize] = allocation;
            number
        } else {
            self.allocations.push(allocation);
            // Proof: so many boxes do not fit any memory.
            #[expect(clippy::cast_possible_truncation)]
            let number = (self.allocations.len() - 1) as u32;
            number
        };
        self.topics.insert(topic, number);
        number
    }

    fn held(&self, account: AddressKey) -> usize {
        self.held.get(&account).copied().unwrap_or(0) as usize
    }

    fn charge(&mut self, account: AddressKey) {
        *self.held.entry(account).or_default() += 1;
    }

    fn relieve(&mut self, account: AddressKey) {
        if let Some(count) = self.held.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&account);
            }
        }
    }

    fn allocation(&self, number: Option<u32>) -> Option<&Allocation> {
        self.allocations.get(number? as usize)?.as_deref()
    }

    fn seat(&self, end: End) -> Option<&Seat> {
        self.allocation(Some(end.pair))?.seats[end.side as usize].as_ref()
    }

    fn seat_mut(&mut self, end: End) -> Option<&mut Seat> {
        self.allocations.get_mut(end.pair as usize)?.as_deref_mut()?.seats[end.side as usize].as_mut()
    }
}
