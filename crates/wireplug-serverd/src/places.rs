//! Places on the relay, between the rendezvous, which knows who may have one, and the relay, which has them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use wireplug_proto::relay::{Credential, CredentialId, CredentialKey};
use wireplug_proto::rendezvous::{Allocation, Reason};

use crate::config::Config;
use crate::limits::AddressKey;
use crate::random;
use crate::relay::{Ask, Asker, Forwarder, Refusal, Relay, Settings};
use crate::rendezvous::{NoPlace, Seat};
use crate::stun::Public;

/// The relay, and what clients are told of where it is.
#[derive(Debug)]
pub(crate) struct Places {
    forwarder: Forwarder,
    announced: Vec<IpAddr>,
    ports: RangeInclusive<u16>,
}

impl Places {
    /// The places of a running relay, which clients find at `announced`.
    pub(crate) const fn new(
        forwarder: Forwarder,
        announced: Vec<IpAddr>,
        ports: RangeInclusive<u16>,
    ) -> Self {
        Self { forwarder, announced, ports }
    }

    /// The relay's UDP side.
    pub(crate) const fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// The relay itself.
    pub(crate) fn relay(&self) -> &Arc<Relay> {
        self.forwarder.relay()
    }

    /// Asks for a place.
    pub(crate) fn allocate(
        &self,
        now: Instant,
        seat: Seat,
        address: AddressKey,
    ) -> Result<Allocation, NoPlace> {
        let Seat { topic, side, connection } = seat;
        let ask = Ask { topic, side, asker: Asker(connection.number()), address: address.ip() };
        let (id, key) = random().and_then(|id| Ok((id, random()?))).map_err(|_| NO_RANDOMNESS)?;
        let fresh = Credential { id: CredentialId::from_bytes(id), key: CredentialKey::from_bytes(key) };
        let grant = self.relay().allocate(now, ask, fresh).map_err(no_place)?;
        Ok(Allocation {
            credential: grant.credential,
            relays: self.announced.clone(),
            ports: self.ports.clone(),
            lifetime: grant.lifetime,
        })
    }

    /// Gives a place back.
    pub(crate) fn release(&self, now: Instant, seat: Seat) {
        self.relay().release(now, &seat.topic, seat.side, Asker(seat.connection.number()));
    }

    /// The connection that asked is gone.
    pub(crate) fn abandon(&self, now: Instant, seat: Seat) {
        self.relay().leave(now, &seat.topic, seat.side, Asker(seat.connection.number()));
    }
}

const NO_RANDOMNESS: NoPlace =
    NoPlace { reason: Reason::Other, detail: "the server's system gives no randomness", retry_after: None };

fn no_place(refusal: Refusal) -> NoPlace {
    let (reason, detail, retry_after) = match refusal {
        Refusal::TooOften { retry_after } => {
            (Reason::RateLimited, "this address asks for relay places too often", retry_after)
        }
        Refusal::Full { retry_after } => (Reason::Full, "the relay has no room for more pairs", retry_after),
        Refusal::AddressFull { retry_after } => {
            (Reason::Full, "this address has as many relay places as one may have", retry_after)
        }
    };
    NoPlace { reason, detail, retry_after: Some(retry_after) }
}

/// What the configuration says of the relay's limits.
pub(crate) fn settings(config: &Config) -> Settings {
    let relay = &config.relay;
    Settings {
        bandwidth: relay.bandwidth,
        total_bandwidth: relay.total_bandwidth,
        allocations: relay.allocations,
        allocations_per_address: relay.allocations_per_address,
        idle: relay.idle,
        ..Settings::default()
    }
}

/// Where clients are told that the relay is: as for STUN, an unspecified IP stands for the host that they are
/// connected to.
pub(crate) fn announce(public: &Public, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut announced = Vec::new();
    let sockets: Vec<_> = addresses.iter().map(|ip| (*ip, 0).into()).collect();
    for addr in public.announce(&sockets) {
        if !announced.contains(&addr.ip()) {
            announced.push(addr.ip());
        }
    }
    announced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_of_the_relay_as_of_stun() {
        let announced = |udp: &str, public: &str, relay: &[&str]| {
            let udp = [udp.parse().unwrap()];
            let public: Vec<_> = public.split_whitespace().map(|ip| ip.parse().unwrap()).collect();
            let relay: Vec<_> = relay.iter().map(|ip| ip.parse().unwrap()).collect();
            let ips = announce(&Public::new(&udp, &public), &relay);
            ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(announced("[::]:3478", "", &["::"]), "0.0.0.0 ::");
        assert_eq!(announced("[::]:3478", "203.0.113.7", &["::"]), "203.0.113.7 ::");
        assert_eq!(announced("10.0.0.1:3478", "203.0.113.7", &["10.0.0.1"]), "203.0.113.7");
        assert_eq!(announced("192.0.2.1:3478", "", &["192.0.2.9", "2001:db8::9"]), "192.0.2.9 2001:db8::9");
    }
}
