//! Where packets go: read by all forwarding threads, written when a binding changes.
//!
//! What each packet changes (when a leg was last heard, which leg is active, how much bandwidth is left) is atomic,
//! so that forwarding needs read access only.

// Proof: a packed address is cut into the parts that it was made of, and there are LEGS legs.
#![expect(clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use wireplug_proto::Side;

use super::budget::{Bandwidth, Budget};
use super::counters::Dropped;
use super::tls::TlsLeg;

/// Legs that a side may have at a time.
const LEGS: usize = 3;
/// No leg is active.
const NONE: u8 = LEGS as u8;

/// A way from a source to one address of the relay: what names a UDP binding. Packed, because every packet is
/// looked up by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Path([u64; 5]);

/// A leg of a side: at most one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    V4 = 0,
    V6 = 1,
    Tls = 2,
}

/// One side of an allocation, by the allocation's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) pair: u32,
    pub(super) side: Side,
}

/// What a leg leads to.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// By UDP, from the socket with this number.
    Udp { path: Path, socket: u16 },
    /// By TLS; the number tells one binding from the next.
    Tls { leg: TlsLeg, number: u32 },
}

/// Where a packet goes next.
#[derive(Debug)]
pub(super) enum Hop<'a> {
    Udp(UdpHop),
    Tls(&'a TlsLeg),
}

/// A UDP destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UdpHop {
    /// The socket to send from, by its number.
    pub(super) socket: u16,
    /// A number of this leg, while it lasts.
    pub(super) leg: u32,
    /// From and to.
    pub(super) path: Path,
}

/// All bindings.
#[derive(Debug, Default)]
pub(super) struct Table {
    paths: HashMap<Path, (End, Slot)>,
    pairs: Vec<Option<Box<Pair>>>,
    tls: usize,
}

/// The bandwidth that packets share.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) each: Option<Bandwidth>,
    pub(super) all: Option<Bandwidth>,
    pub(super) budget: Budget,
}

#[derive(Debug, Default)]
struct Pair {
    ends: [Legs; 2],
    budget: Budget,
}

#[derive(Debug)]
struct Legs {
    all: [Option<Box<Leg>>; LEGS],
    /// Index of the leg that packets for this side take, or [`NONE`].
    active: AtomicU8,
    bound: u32,
}

#[derive(Debug)]
struct Leg {
    way: Way,
    /// Nanoseconds since the relay's start.
    heard: AtomicU64,
    /// How many were bound before it.
    order: u32,
}

impl Path {
    /// From a source to an address of the relay.
    pub(super) fn new(source: SocketAddr, relay: SocketAddr) -> Self {
        let (source_ip, relay_ip) = (bits(source.ip()), bits(relay.ip()));
        let scope = if let SocketAddr::V6(v6) = source { v6.scope_id() } else { 0 };
        let ports = u64::from(source.port()) << 16 | u64::from(relay.port());
        let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
        let ([a, b], [c, d]) = (halves(source_ip), halves(relay_ip));
        Self([a, b, c, d, u64::from(scope) << 32 | ports])
    }

    /// The source: where packets for it go.
    pub(super) fn source(&self) -> SocketAddr {
        let [a, b, .., e] = self.0;
        let port = (e >> 16) as u16;
        match ip(a, b) {
            IpAddr::V4(v4) => SocketAddr::new(v4.into(), port),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, (e >> 32) as u32).into(),
        }
    }

    /// The relay's address: where packets for the source come from.
    pub(super) fn relay(&self) -> SocketAddr {
        let [.., c, d, e] = self.0;
        SocketAddr::new(ip(c, d), e as u16)
    }

    /// Which leg it is.
    pub(super) fn slot(&self) -> Slot {
        if self.source().is_ipv4() { Slot::V4 } else { Slot::V6 }
    }
}

impl Table {
    /// Whose a path is.
    pub(super) fn owner(&self, path: &Path) -> Option<End> {
        self.paths.get(path).map(|(end, _)| *end)
    }

    /// Where a leg leads.
    pub(super) fn way(&self, end: End, slot: Slot) -> Option<&Way> {
        self.leg(end, slot).map(|leg| &leg.way)
    }

    /// Whether a side has any leg.
    pub(super) fn is_bound(&self, end: End) -> bool {
        self.pair(end.pair).is_some_and(|pair| pair.ends[end.side as usize].any())
    }

    /// A leg was heard.
    pub(super) fn heard(&self, end: End, slot: Slot, now: u64) {
        if let Some(leg) = self.leg(end, slot) {
            leg.heard.store(now, Ordering::Relaxed);
        }
    }

    /// Where a packet of so many bytes goes that came by UDP.
    pub(super) fn route(
        &self,
        path: &Path,
        bytes: usize,
        now: u64,
        meter: &Meter,
    ) -> Result<Hop<'_>, Dropped> {
        let (end, slot) = *self.paths.get(path).ok_or(Dropped::Unbound)?;
        self.pass(end, slot, bytes, now, meter)
    }

    /// Where a packet of so many bytes goes that came by the TLS binding of this number.
    pub(super) fn route_tls(
        &self,
        end: End,
        number: u32,
        bytes: usize,
        now: u64,
        meter: &Meter,
    ) -> Result<Hop<'_>, Dropped> {
        match self.way(end, Slot::Tls) {
            Some(Way::Tls { number: bound, .. }) if *bound == number => {
                self.pass(end, Slot::Tls, bytes, now, meter)
            }
            _ => Err(Dropped::Unbound),
        }
    }

    /// Binds a leg, in place of what was there. Its path is nobody else's: [`Table::owner`] told.
    pub(super) fn bind(&mut self, end: End, slot: Slot, way: Way, now: u64) {
        let index = end.pair as usize;
        if self.pairs.len() <= index {
            self.pairs.resize_with(index + 1, || None);
        }
        let legs = &mut self.pairs[index].get_or_insert_default().ends[end.side as usize];
        let leg = Leg { way, heard: AtomicU64::new(now), order: legs.bound };
        legs.bound = legs.bound.wrapping_add(1);
        let path = if let Way::Udp { path, .. } = &leg.way { Some(*path) } else { None };
        let former = legs.all[slot as usize].replace(Box::new(leg));
        let active = legs.active.get_mut();
        if *active == NONE {
            *active = slot as u8;
        }
        if let Some(former) = former {
            self.forget(&former.way);
        }
        match path {
            Some(path) => {
                self.paths.insert(path, (end, slot));
            }
            None => self.tls += 1,
        }
    }

    /// Ends a leg, if there is one.
    pub(super) fn unbind(&mut self, end: End, slot: Slot) {
        let Some(place) = self.pairs.get_mut(end.pair as usize) else { return };
        let Some(pair) = place else { return };
        let legs = &mut pair.ends[end.side as usize];
        let Some(leg) = legs.all[slot as usize].take() else { return };
        if *legs.active.get_mut() == slot as u8 {
            let others = legs.all.iter().zip(0..).filter_map(|(leg, at)| Some((leg.as_ref()?.order, at)));
            *legs.active.get_mut() = others.max().map_or(NONE, |(_, at)| at);
        }
        if !pair.ends.iter().any(Legs::any) {
            *place = None;
        }
        self.forget(&leg.way);
    }

    /// Ends all legs of a side.
    pub(super) fn unbind_all(&mut self, end: End) {
        for slot in Slot::ALL {
            self.unbind(end, slot);
        }
    }

    /// The legs of a side that nothing was heard of since a moment.
    pub(super) fn silent(&self, end: End, since: u64) -> impl Iterator<Item = Slot> {
        Slot::ALL.into_iter().filter(move |slot| {
            self.leg(end, *slot).is_some_and(|leg| leg.heard.load(Ordering::Relaxed) <= since)
        })
    }

    /// How many legs there are, by UDP and by TLS.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.paths.len(), self.tls)
    }

    fn pass(&self, end: End, slot: Slot, bytes: usize, now: u64, meter: &Meter) -> Result<Hop<'_>, Dropped> {
        let pair = self.pair(end.pair).ok_or(Dropped::Unbound)?;
        let near = &pair.ends[end.side as usize];
        if let Some(leg) = &near.all[slot as usize] {
            leg.heard.store(now, Ordering::Relaxed);
        }
        if near.active.load(Ordering::Relaxed) != slot as u8 {
            near.active.store(slot as u8, Ordering::Relaxed);
        }
        let far = &pair.ends[end.side.other() as usize];
        let active = usize::from(far.active.load(Ordering::Relaxed));
        let leg = far.all.get(active).and_then(Option::as_deref).ok_or(Dropped::Alone)?;
        if meter.each.is_some_and(|each| !pair.budget.take(each, bytes, now)) {
            return Err(Dropped::Bandwidth);
        }
        if meter.all.is_some_and(|all| !meter.budget.take(all, bytes, now)) {
            return Err(Dropped::TotalBandwidth);
        }
        Ok(match &leg.way {
            Way::Udp { path, socket } => {
                let number = (end.pair * 2 + end.side.other() as u32) * LEGS as u32 + active as u32;
                Hop::Udp(UdpHop { socket: *socket, leg: number, path: *path })
            }
            Way::Tls { leg, .. } => Hop::Tls(leg),
        })
    }

    fn forget(&mut self, way: &Way) {
        match way {
            Way::Udp { path, .. } => {
                self.paths.remove(path);
            }
            Way::Tls { .. } => self.tls -= 1,
        }
    }

    fn pair(&self, number: u32) -> Option<&Pair> {
        self.pairs.get(number as usize)?.as_deref()
    }

    fn leg(&self, end: End, slot: Slot) -> Option<&Leg> {
        self.pair(end.pair)?.ends[end.side as usize].all[slot as usize].as_deref()
    }
}

impl Slot {
    const ALL: [Self; LEGS] = [Self::V4, Self::V6, Self::Tls];
}

impl Legs {
    fn any(&self) -> bool {
        self.all.iter().any(Option::is_some)
    }
}

impl Default for Legs {
    fn default() -> Self {
        Self { all: [None, None, None], active: AtomicU8::new(NONE), bound: 0 }
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn ip(high: u64, low: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))).to_canonical()
}
