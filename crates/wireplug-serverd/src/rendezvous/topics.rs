//! Topics: for each of two sides, who is there now and the latest sealed offer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use wireplug_proto::{Side, Topic};

use super::ConnectionId;
use crate::limits::AddressKey;

/// All topics. A side exists while it has a member or an offer, a topic while a side does.
#[derive(Debug, Default)]
pub(super) struct Topics {
    seats: HashMap<Topic, [Seat; 2]>,
    expiries: BTreeSet<(Instant, Topic, Side)>,
    offer_bytes: usize,
}

/// One side of a topic.
#[derive(Debug, Default)]
struct Seat {
    member: Option<ConnectionId>,
    offer: Option<Kept>,
    /// Whose account it is on; set while the seat exists.
    account: Option<AddressKey>,
    /// The connection for which the relay has a place, or had one when it ended.
    placed: Option<ConnectionId>,
}

/// An offer, and when it goes: never while its publisher is the member.
#[derive(Debug)]
struct Kept {
    sealed: Arc<[u8]>,
    expires: Option<Instant>,
}

/// What taking a seat changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seated {
    /// The connection that held the side before.
    pub(super) replaced: Option<ConnectionId>,
    /// The account that is relieved of it.
    pub(super) released: Option<AddressKey>,
    /// The other side's offer.
    pub(super) offer: Option<Arc<[u8]>>,
    /// The connection that had a place on the relay as this side. A newer one asks for its own.
    pub(super) placed: Option<ConnectionId>,
    /// Whether the other side has a place on the relay, and this one none.
    pub(super) called: bool,
}

/// What an expired offer changed.
#[derive(Debug)]
pub(super) struct Expired {
    /// The account that is relieved of the side, if nothing is left of it.
    pub(super) relieved: Option<AddressKey>,
}

impl Topics {
    /// How many topics there are.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Bytes of all kept offers.
    pub(super) const fn offer_bytes(&self) -> usize {
        self.offer_bytes
    }

    /// How many offers wait for their end.
    pub(super) fn expiring(&self) -> usize {
        self.expiries.len()
    }

    /// Whether the topic exists.
    pub(super) fn contains(&self, topic: &Topic) -> bool {
        self.seats.contains_key(topic)
    }

    /// Whose account a side is on.
    pub(super) fn account(&self, topic: &Topic, side: Side) -> Option<AddressKey> {
        self.seats.get(topic)?[index(side)].account
    }

    /// Makes `member` the holder of a side; an offer of the holder before it is kept until `expires`.
    pub(super) fn seat(
        &mut self,
        topic: Topic,
        side: Side,
        member: ConnectionId,
        account: AddressKey,
        expires: Instant,
    ) -> Seated {
        let seats = self.seats.entry(topic).or_default();
        let other = &seats[index(side.other())];
        let offer = other.offer.as_ref().map(|kept| kept.sealed.clone());
        let other_placed = other.placed.is_some();
        let seat = &mut seats[index(side)];
        let placed = seat.placed;
        seat.placed = placed.filter(|placed| *placed == member);
        let called = other_placed && seat.placed.is_none();
        let replaced = seat.member.replace(member);
        let released = seat.account.replace(account);
        let taken_over = replaced.is_some_and(|old| old != member);
        if let Some(kept) = seat.offer.as_mut().filter(|kept| taken_over && kept.expires.is_none()) {
            kept.expires = Some(expires);
            self.expiries.insert((expires, topic, side));
        }
        Seated { replaced, released, offer, placed, called }
    }

    /// Keeps the offer of a side's member, and says who is on the other side.
    pub(super) fn publish(&mut self, topic: Topic, side: Side, sealed: Arc<[u8]>) -> Option<ConnectionId> {
        let seats = self.seats.get_mut(&topic)?;
        let other = seats[index(side.other())].member;
        let added = sealed.len();
        let old = seats[index(side)].offer.replace(Kept { sealed, expires: None });
        self.offer_bytes += added;
        self.forget(topic, side, old);
        other
    }

    /// The relay has a place for a side's member. Gives the other side's member, if it has none yet.
    pub(super) fn place(&mut self, topic: Topic, side: Side, member: ConnectionId) -> Option<ConnectionId> {
        let seats = self.seats.get_mut(&topic)?;
        let seat = &mut seats[index(side)];
        if seat.member != Some(member) {
            return None;
        }
        seat.placed = Some(member);
        let other = &seats[index(side.other())];
        other.member.filter(|member| other.placed != Some(*member))
    }

    /// A side's member needs its place on the relay no more; says whether it had one.
    pub(super) fn unplace(&mut self, topic: Topic, side: Side, member: ConnectionId) -> bool {
        let seat = self.seats.get_mut(&topic).map(|seats| &mut seats[index(side)]);
        seat.is_some_and(|seat| seat.placed.take_if(|placed| *placed == member).is_some())
    }

    /// Whether the relay has a place for this connection as a side.
    pub(super) fn is_placed(&self, topic: &Topic, side: Side, member: ConnectionId) -> bool {
        self.seats.get(topic).is_some_and(|seats| seats[index(side)].placed == Some(member))
    }

    /// The size of a side's offer, 0 without one.
    pub(super) fn offer_len(&self, topic: &Topic, side: Side) -> usize {
        self.seats
            .get(topic)
            .and_then(|seats| seats[index(side)].offer.as_ref())
            .map_or(0, |kept| kept.sealed.len())
    }

    /// The member is gone; its offer is kept until `expires`, or not at all. Gives the account that is
    /// relieved, if the side is.
    pub(super) fn vacate(
        &mut self,
        topic: Topic,
        side: Side,
        expires: Option<Instant>,
    ) -> Option<AddressKey> {
        let seat = &mut self.seats.get_mut(&topic)?[index(side)];
        seat.member = None;
        match (expires, seat.offer.as_mut()) {
            (Some(expires), Some(kept)) => {
                if kept.expires.is_none() {
                    kept.expires = Some(expires);
                    self.expiries.insert((expires, topic, side));
                }
            }
            (None, Some(_)) => {
                let old = seat.offer.take();
                self.forget(topic, side, old);
            }
            (_, None) => {}
        }
        self.clear(topic, side)
    }

    /// When the next offer expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, ..)| *at)
    }

    /// Drops one offer that has expired by `now`; `None` when there are no more.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Expired> {
        let (at, topic, side) = *self.expiries.first()?;
        if at > now {
            return None;
        }
        let old = self.seats.get_mut(&topic).and_then(|seats| seats[index(side)].offer.take());
        self.forget(topic, side, old);
        self.expiries.remove(&(at, topic, side));
        Some(Expired { relieved: self.clear(topic, side) })
    }

    fn forget(&mut self, topic: Topic, side: Side, old: Option<Kept>) {
        if let Some(old) = old {
            self.offer_bytes -= old.sealed.len();
            if let Some(at) = old.expires {
                self.expiries.remove(&(at, topic, side));
            }
        }
    }

    /// Removes a side that nothing is left of, and the topic with its last side.
    fn clear(&mut self, topic: Topic, side: Side) -> Option<AddressKey> {
        let seats = self.seats.get_mut(&topic)?;
        let seat = &mut seats[index(side)];
        let gone = seat.member.is_none() && seat.offer.is_none();
        let account = if gone { std::mem::take(seat).account } else { None };
        if seats.iter().all(|seat| seat.account.is_none()) {
            self.seats.remove(&topic);
        }
        account
    }
}

const fn index(side: Side) -> usize {
    match side {
        Side::Low => 0,
        Side::High => 1,
    }
}
