//! Nonces: what comes back only from who receives at a source address.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How long one nonce is given out, in nanoseconds; it is taken for as long again. A client answers a challenge
/// within a round trip, and a nonce that an eavesdropper has seen is worth little for long.
const PERIOD: u64 = 60 * 1_000_000_000;

/// Makes and knows nonces. Nothing is kept for the many who ask.
pub(super) struct Nonces {
    secret: [u8; 32],
}

impl Nonces {
    /// `secret` is random, new for every run.
    pub(super) const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The nonce for a source at a relay address; `now` in nanoseconds since the relay's start.
    pub(super) fn make(&self, now: u64, source: SocketAddr, relay: SocketAddr) -> [u8; 16] {
        self.of_period(now / PERIOD, source, relay)
    }

    /// Whether it was made for this source and relay address lately.
    pub(super) fn knows(&self, nonce: &[u8; 16], now: u64, source: SocketAddr, relay: SocketAddr) -> bool {
        let period = now / PERIOD;
        let current = self.of_period(period, source, relay).ct_eq(nonce);
        let former = period.checked_sub(1).map(|period| self.of_period(period, source, relay).ct_eq(nonce));
        former.map_or(current, |former| current | former).into()
    }

    fn of_period(&self, period: u64, source: SocketAddr, relay: SocketAddr) -> [u8; 16] {
        // Proof: RFC 2104 section 3 takes keys of any length, and so does this implementation.
        #[expect(clippy::expect_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length will do");
        mac.update(&period.to_be_bytes());
        for address in [source, relay] {
            mac.update(&bits(address.ip()));
            mac.update(&address.port().to_be_bytes());
        }
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|index| full[index])
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(…)")
    }
}

fn bits(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_for_one_source_one_relay_address_and_a_while() {
        let nonces = Nonces::new([7; 32]);
        let [source, relay]: [SocketAddr; 2] =
            ["198.51.100.1:51820", "203.0.113.1:3479"].map(|a| a.parse().unwrap());
        let nonce = nonces.make(0, source, relay);
        assert!(nonces.knows(&nonce, 0, source, relay));
        assert!(nonces.knows(&nonce, 2 * PERIOD - 1, source, relay));
        assert!(!nonces.knows(&nonce, 2 * PERIOD, source, relay));
        for (other_source, other_relay) in [
            ("198.51.100.1:51821", "203.0.113.1:3479"),
            ("198.51.100.2:51820", "203.0.113.1:3479"),
            ("198.51.100.1:51820", "203.0.113.1:3480"),
            ("198.51.100.1:51820", "203.0.113.2:3479"),
        ] {
            assert!(!nonces.knows(&nonce, 0, other_source.parse().unwrap(), other_relay.parse().unwrap()));
        }
        assert!(!Nonces::new([8; 32]).knows(&nonce, 0, source, relay));
    }
}
