//! How many connections there may be: of TCP before anything is read from them, because handshakes cost CPU and sockets
//! cost memory, also those of clients that never say who they are; and of the relay's connections over TLS.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::{AddressKey, Limits, RateTable};

/// Counts connections, in total and by address.
#[derive(Debug)]
pub(crate) struct Gate {
    counts: Mutex<Counts>,
    total: usize,
    per_address: usize,
}

#[derive(Debug)]
struct Counts {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
    rates: RateTable<AddressKey>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    /// Whose share it is of; a trusted proxy has no share, it speaks for many.
    key: Option<AddressKey>,
}

impl Gate {
    /// For as many as the limits say.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            counts: Mutex::new(Counts {
                total: 0,
                by_address: HashMap::new(),
                rates: RateTable::new(limits.connects, limits.sources),
            }),
            total: limits.connections,
            per_address: limits.connections_per_address,
        }
    }

    /// For twice as many: the limits of the rendezvous and of the relay are met first and are told, what this one
    /// refuses is closed without a word.
    pub(crate) fn wide(limits: &Limits) -> Self {
        let mut connects = limits.connects;
        connects.burst = connects.burst.saturating_mul(2);
        connects.every /= 2;
        Self::new(&Limits {
            connections: limits.connections.saturating_mul(2),
            connections_per_address: limits.connections_per_address.saturating_mul(2),
            connects,
            ..limits.clone()
        })
    }

    /// Lets one more connection in, if there is room for it.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant, peer: IpAddr, is_proxy: bool) -> Option<Permit> {
        let key = (!is_proxy).then(|| AddressKey::of(peer));
        let mut counts = self.lock();
        if counts.total >= self.total {
            return None;
        }
        if let Some(key) = key {
            let open = counts.by_address.get(&key).copied().unwrap_or(0);
            if open >= self.per_address || counts.rates.take(key, now).is_err() {
                return None;
            }
            counts.by_address.insert(key, open + 1);
        }
        counts.total += 1;
        Some(Permit { gate: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        counts.total -= 1;
        if let Some(key) = self.key
            && let Some(open) = counts.by_address.get_mut(&key)
        {
            *open -= 1;
            if *open == 0 {
                counts.by_address.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_and_given_back() {
        let limits = Limits { connections: 3, connections_per_address: 1, ..Limits::default() };
        let (gate, now) = (Arc::new(Gate::wide(&limits)), Instant::now());
        let enter = |ip: [u8; 4], proxy| gate.enter(now, ip.into(), proxy);
        let one = enter([192, 0, 2, 1], false);
        let two = enter([192, 0, 2, 1], false);
        assert!(one.is_some() && two.is_some() && enter([192, 0, 2, 1], false).is_none());
        drop(one);
        let held: Vec<_> = (0..5).filter_map(|_| enter([192, 0, 2, 9], true)).collect();
        assert_eq!(held.len(), 5, "a proxy speaks for many");
        assert!(enter([192, 0, 2, 3], false).is_none(), "full");
        drop((two, held));
        let counts = gate.lock();
        assert_eq!((counts.total, counts.by_address.len()), (0, 0));
    }
}
