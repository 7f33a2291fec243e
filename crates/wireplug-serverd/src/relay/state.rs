//! The relay's decisions, without IO or clock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;
use wireplug_proto::relay::{BindRefusal, Bound, Credential, CredentialId, CredentialKey};
use wireplug_proto::{Side, Topic};

use super::budget::{Bandwidth, Budget};
use super::counters::{Counters, Counts, Event};
use super::ledger::{Credentials, Holder, Ledger, Order};
use super::nonce::Nonces;
use super::settings::Settings;
use super::table::{End, Meter, Path, Slot, Table, Way};
use super::terms::{Ask, Asker, Gauges, Grant, Refusal, TlsBinding};
use super::tls::TlsLeg;

/// Every allocation is looked at for what is idle so many times in the time that makes it idle.
const LOOKS: u32 = 16;
/// The shortest and the longest time between two looks: bindings end that much late at most.
const LOOK: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(15)];
/// Allocations looked at in one go, so that nobody waits long for the locks.
const STEP: usize = 1024;

/// All allocations and bindings. Shared by all threads; every method takes the instant at which it happens.
///
/// Locks are taken in the order of the fields. Forwarding takes the last one only, for reading.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    start: Instant,
    nonces: Nonces,
    meter: Meter,
    counts: Mutex<Vec<Arc<Counts>>>,
    own: Arc<Counts>,
    /// The first allocation has come: there is something to look at.
    awake: Notify,
    ledger: Mutex<State>,
    credentials: RwLock<Credentials>,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Tells TLS bindings apart.
    numbers: u32,
    /// The allocation that is looked at next for what is idle.
    cursor: usize,
}

/// A UDP request to bind, shown to be by its credential's holder, who receives at the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct UdpBind {
    pub(super) id: CredentialId,
    pub(super) order: u64,
    pub(super) path: Path,
    /// The number of the socket that it came to.
    pub(super) socket: u16,
}

/// What became of a UDP request to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Bound(Bound),
    Refused(BindRefusal),
    /// It is older than one that was accepted: no answer.
    Replayed,
}

impl Relay {
    /// A relay without allocations. `secret` is random, new for every run.
    pub fn new(settings: Settings, secret: [u8; 32], start: Instant) -> Self {
        let own = Arc::<Counts>::default();
        Self {
            start,
            nonces: Nonces::new(secret),
            meter: Meter {
                each: settings.bandwidth.map(Bandwidth::new),
                all: settings.total_bandwidth.map(Bandwidth::new),
                budget: Budget::default(),
            },
            counts: Mutex::new(vec![own.clone()]),
            own,
            awake: Notify::new(),
            ledger: Mutex::new(State { ledger: Ledger::new(&settings), numbers: 0, cursor: 0 }),
            credentials: RwLock::default(),
            table: RwLock::default(),
            settings,
        }
    }

    /// A side asks for a place; `fresh` is random, and used if it gets a new credential.
    ///
    /// # Errors
    /// [`Refusal`] if it may not have one now.
    pub fn allocate(&self, now: Instant, ask: Ask, fresh: Credential) -> Result<Grant, Refusal> {
        let (mut state, mut credentials) = (self.lock(), self.write_credentials());
        let granted = state.ledger.allocate(now, &ask, fresh, &self.settings, &mut credentials);
        match granted {
            Ok(credential) => {
                self.own.event(Event::Granted);
                self.awake.notify_one();
                Ok(Grant { credential, lifetime: self.settings.idle })
            }
            Err(refusal) => {
                self.own.event(Event::Refused);
                Err(refusal)
            }
        }
    }

    /// A side needs its place no more: its bindings end now. Nothing happens if another connection holds the place.
    pub fn release(&self, _now: Instant, topic: &Topic, side: Side, asker: Asker) {
        let mut state = self.lock();
        if let Some(end) = state.ledger.end_of(topic, side, asker) {
            state.ledger.vacate(end, &mut self.write_credentials());
            self.write_table().unbind_all(end);
        }
    }

    /// The connection that asked has left the topic or is gone. Bindings stay while they are used.
    pub fn leave(&self, _now: Instant, topic: &Topic, side: Side, asker: Asker) {
        let mut state = self.lock();
        if let Some(end) = state.ledger.end_of(topic, side, asker) {
            state.ledger.leave(end);
        }
    }

    /// Binds a channel of a relay WebSocket, or confirms that it is bound (the same leg, again). A former leg over
    /// TLS of the same side ends.
    ///
    /// # Errors
    /// [`BindRefusal::Unknown`] or [`BindRefusal::Full`].
    pub fn bind_tls(
        &self,
        now: Instant,
        credential: &Credential,
        leg: TlsLeg,
    ) -> Result<(TlsBinding, Bound), BindRefusal> {
        let bound = self.try_bind_tls(now, credential, leg);
        match bound {
            Err(BindRefusal::Unknown) => self.own.event(Event::Unknown),
            Err(_) => self.own.event(Event::TooOften),
            Ok(_) => {}
        }
        bound
    }

    fn try_bind_tls(
        &self,
        now: Instant,
        credential: &Credential,
        leg: TlsLeg,
    ) -> Result<(TlsBinding, Bound), BindRefusal> {
        let holder = self.holder(&credential.id).ok_or(BindRefusal::Unknown)?;
        if !bool::from(holder.key.expose().ct_eq(credential.key.expose())) {
            return Err(BindRefusal::Unknown);
        }
        let (end, mut state) = (holder.end, self.lock());
        let order = state.ledger.order(end, credential.id, Slot::Tls, 0).ok_or(BindRefusal::Unknown)?;
        let former = match self.table().way(end, Slot::Tls) {
            Some(Way::Tls { leg: bound, number })
                if Arc::ptr_eq(&bound.queue, &leg.queue) && bound.channel == leg.channel =>
            {
                Some(*number)
            }
            _ => None,
        };
        let number = match former {
            Some(number) if order != Order::First => {
                self.table().heard(end, Slot::Tls, self.since(now));
                self.own.event(Event::Refreshed);
                number
            }
            _ => {
                state.ledger.change(end, now)?;
                state.numbers = state.numbers.wrapping_add(1);
                let number = state.numbers;
                self.bind(now, &mut state, end, credential.id, 0, order, Slot::Tls, Way::Tls { leg, number });
                number
            }
        };
        Ok((TlsBinding { end, number }, self.bound(end)))
    }

    /// The client needs the channel no more, or the connection is gone.
    pub fn unbind_tls(&self, _now: Instant, binding: TlsBinding) {
        let mut table = self.write_table();
        if matches!(table.way(binding.end, Slot::Tls), Some(Way::Tls { number, .. }) if *number == binding.number)
        {
            table.unbind(binding.end, Slot::Tls);
        }
    }

    /// Lets end what is idle; when to call it again, if there is anything.
    pub fn tick(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let (length, cursor) = (state.ledger.len(), state.cursor);
        if state.ledger.counts().0 == 0 {
            return None;
        }
        let end = (cursor + STEP).min(length);
        let silent = self.since(now).checked_sub(nanos(self.settings.idle));
        // Proof: allocations' numbers are 32 bits long.
        #[expect(clippy::cast_possible_truncation)]
        for pair in cursor as u32..end as u32 {
            for side in [Side::Low, Side::High] {
                self.look(&mut state, End { pair, side }, now, silent);
            }
        }
        state.cursor = if end < length { end } else { 0 };
        // Proof: there are fewer steps than allocations.
        #[expect(clippy::cast_possible_truncation)]
        let steps = length.div_ceil(STEP).max(1) as u32;
        Some(now + (self.settings.idle / LOOKS).clamp(LOOK[0], LOOK[1]) / steps)
    }

    /// Everything counted since the start.
    pub fn counters(&self) -> Counters {
        let all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Counters::default();
        all.iter().for_each(|counts| counts.add_to(&mut sum));
        sum
    }

    /// How much there is now.
    pub fn gauges(&self) -> Gauges {
        let (allocations, sides) = self.lock().ledger.counts();
        let (udp_bindings, tls_bindings) = self.table().counts();
        Gauges { allocations, sides, udp_bindings, tls_bindings }
    }

    /// Waits until something was allocated since the last call.
    pub(super) async fn awake(&self) {
        self.awake.notified().await;
    }

    /// Counters for one more thread.
    pub(super) fn new_counts(&self) -> Arc<Counts> {
        let counts = Arc::<Counts>::default();
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).push(counts.clone());
        counts
    }

    /// The counters of whoever has none of its own.
    pub(super) fn own_counts(&self) -> &Counts {
        &self.own
    }

    /// Nanoseconds since the start.
    pub(super) fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }

    /// Where packets go. Held for a batch of look-ups, never while anything is sent.
    pub(super) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bandwidth that there is.
    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The key of a credential.
    pub(super) fn key(&self, id: &CredentialId) -> Option<CredentialKey> {
        self.holder(id).map(|holder| holder.key)
    }

    /// The nonce for a source at a relay address.
    pub(super) fn nonce(&self, now: Instant, source: SocketAddr, relay: SocketAddr) -> [u8; 16] {
        self.nonces.make(self.since(now), source, relay)
    }

    /// Whether it is a nonce for that source at that relay address.
    pub(super) fn knows(
        &self,
        nonce: &[u8; 16],
        now: Instant,
        source: SocketAddr,
        relay: SocketAddr,
    ) -> bool {
        self.nonces.knows(nonce, self.since(now), source, relay)
    }

    /// Binds a UDP leg. The request's MAC and nonce are right.
    pub(super) fn bind_udp(&self, now: Instant, bind: UdpBind, counts: &Counts) -> Binding {
        let binding = self.try_bind_udp(now, bind, counts);
        match binding {
            Binding::Refused(BindRefusal::Unknown) => counts.event(Event::Unknown),
            Binding::Refused(BindRefusal::Taken) => counts.event(Event::Taken),
            Binding::Refused(BindRefusal::Full) => counts.event(Event::TooOften),
            Binding::Replayed => counts.event(Event::Replayed),
            Binding::Bound(_) => {}
        }
        binding
    }

    fn try_bind_udp(&self, now: Instant, bind: UdpBind, counts: &Counts) -> Binding {
        let Some(Holder { end, .. }) = self.holder(&bind.id) else {
            return Binding::Refused(BindRefusal::Unknown);
        };
        let (slot, mut state) = (bind.path.slot(), self.lock());
        let Some(order) = state.ledger.order(end, bind.id, slot, bind.order) else {
            return Binding::Refused(BindRefusal::Unknown);
        };
        let (owner, here) = {
            let table = self.table();
            let here = matches!(table.way(end, slot), Some(Way::Udp { path, .. }) if *path == bind.path);
            (table.owner(&bind.path), here)
        };
        match order {
            Order::Older | Order::Same if !here => return Binding::Replayed,
            // Answered again, without effect: it may be a repetition by anyone.
            Order::Older | Order::Same => return Binding::Bound(self.bound(end)),
            Order::First | Order::Newer => {}
        }
        if owner.is_some_and(|owner| owner != end) {
            return Binding::Refused(BindRefusal::Taken);
        }
        if order == Order::Newer && here {
            self.table().heard(end, slot, self.since(now));
            state.ledger.accept(end, bind.id, slot, bind.order, |_| {});
            counts.event(Event::Refreshed);
        } else {
            if let Err(refusal) = state.ledger.change(end, now) {
                return Binding::Refused(refusal);
            }
            let way = Way::Udp { path: bind.path, socket: bind.socket };
            self.bind(now, &mut state, end, bind.id, bind.order, order, slot, way);
        }
        Binding::Bound(self.bound(end))
    }

    #[expect(clippy::too_many_arguments)]
    fn bind(
        &self,
        now: Instant,
        state: &mut State,
        end: End,
        id: CredentialId,
        number: u64,
        order: Order,
        slot: Slot,
        way: Way,
    ) {
        state.ledger.accept(end, id, slot, number, |former| {
            self.write_credentials().remove(former);
        });
        let mut table = self.write_table();
        if order == Order::First {
            table.unbind_all(end);
        }
        table.bind(end, slot, way, self.since(now));
        drop(table);
        self.own.event(Event::Bound);
    }

    /// Ends what is idle of one side.
    fn look(&self, state: &mut State, end: End, now: Instant, silent: Option<u64>) {
        let (slots, bound) = {
            let table = self.table();
            let slots = silent.map(|since| table.silent(end, since).collect::<Vec<_>>());
            (slots.unwrap_or_default(), table.is_bound(end))
        };
        let mut bound = bound;
        if !slots.is_empty() {
            let mut table = self.write_table();
            for slot in slots {
                table.unbind(end, slot);
            }
            bound = table.is_bound(end);
        }
        if state.ledger.is_over(end, bound, now, self.settings.idle) {
            state.ledger.vacate(end, &mut self.write_credentials());
        }
    }

    fn bound(&self, end: End) -> Bound {
        let other = End { side: end.side.other(), ..end };
        Bound { other_side: self.table().is_bound(other), lifetime: self.settings.idle }
    }

    fn holder(&self, id: &CredentialId) -> Option<Holder> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_credentials(&self) -> RwLockWriteGuard<'_, Credentials> {
        self.credentials.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_table(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
