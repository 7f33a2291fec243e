//! The moves that are measured.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use wireplug_lab::{Binaries, Left, Nat, Outage, Pair, PairOptions, Result, Track, expected};

/// How long a pair may take to get where it belongs.
const LIMIT: Duration = Duration::from_secs(30);

/// What is behind the router that is left in the table, and that most people have at home.
const HOME: Nat = Nat::PortPreserving;

/// What the peer is behind in the table: what anyone may send to, what must be punched, and what cannot always be.
pub(super) const PEERS: [Nat; 4] = [Nat::None, Nat::PortPreserving, Nat::Fixed, Nat::Symmetric];

/// Where the table goes to: the kinds of NAT for IPv4, and none.
pub(super) const PLACES: [Nat; 6] =
    [Nat::None, Nat::FullCone, Nat::PortPreserving, Nat::Fixed, Nat::Symmetric, Nat::Cgnat];

/// One side of a pair moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(super) from: Nat,
    pub(super) to: Nat,
    pub(super) peer: Nat,
    how: How,
    /// The peer pings, and not the side that moves.
    backwards: bool,
}

/// How a host comes to its other network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Its link goes and another one comes.
    Link,
    /// A cable is pulled, and another one plugged into another socket.
    Cable,
    /// It is given another address under the same link.
    Address,
}

/// The table: to where, and what the peer is behind.
pub(super) fn table() -> Vec<Move> {
    PLACES.into_iter().flat_map(|to| PEERS.map(|peer| Move::new(HOME, to, peer))).collect()
}

/// The list: from where, in other ways, and with the peer sending.
pub(super) fn list() -> Vec<Move> {
    let from = PLACES.into_iter().filter(|from| *from != HOME);
    let mut list: Vec<Move> = from.map(|from| Move::new(from, HOME, HOME)).collect();
    let by = |how, from, to, peer| Move { how, ..Move::new(from, to, peer) };
    list.extend([
        Move::new(HOME, Nat::None, HOME).backwards(),
        Move::new(HOME, Nat::Fixed, HOME).backwards(),
        Move::new(HOME, Nat::Symmetric, HOME).backwards(),
        by(How::Cable, HOME, Nat::Fixed, HOME),
        by(How::Cable, HOME, Nat::None, HOME),
        by(How::Address, HOME, HOME, HOME),
        by(How::Address, Nat::None, Nat::None, HOME),
        by(How::Address, Nat::None, Nat::None, HOME).backwards(),
        Move::new(HOME, Nat::Ipv6Firewall, Nat::DualStack),
        Move::new(HOME, Nat::Ipv6Firewall, Nat::DualStack).backwards(),
        Move::new(HOME, Nat::Ipv6Firewall, HOME),
        Move::new(Nat::Ipv6Firewall, Nat::None, Nat::DualStack),
    ]);
    list
}

impl Move {
    fn new(from: Nat, to: Nat, peer: Nat) -> Self {
        Self { from, to, peer, how: How::Link, backwards: false }
    }

    fn backwards(self) -> Self {
        Self { backwards: true, ..self }
    }

    /// Where the pair is to be in the end.
    pub(super) fn belongs(self) -> Track {
        if expected(self.to, self.peer).is_relayed() { Track::Relayed } else { Track::Direct }
    }

    /// Has it happen once to a pair that is settled. A run that is `worth` it shows logs and states.
    pub(super) fn measure(
        self,
        binaries: &Binaries,
        delay: u64,
        worth: impl Fn(&Result<Outage>) -> bool,
    ) -> Result<Outage> {
        let options = PairOptions {
            server_by_name: true,
            binaries: Some(binaries.clone()),
            ..PairOptions::with_round_trip(delay)
        };
        let mut pair = Pair::new("roam", [self.from, self.peer], &options)?;
        let outage = self.happen(&mut pair);
        if worth(&outage) {
            pair.lab.fail(&format!("{self}: {outage:?}"));
        }
        outage
    }

    fn happen(self, pair: &mut Pair) -> Result<Outage> {
        let daemons = pair.connect()?;
        let mut elsewhere = pair.lab.site("c", self.to)?;
        pair.settle(&daemons)?;
        pair.outage(self.backwards, self.belongs(), LIMIT, |pair| {
            let host = &pair.a.host;
            pair.a.host = match self.how {
                How::Link => host.roam_leaving(&mut elsewhere, Left::Gone)?,
                How::Cable => host.roam_leaving(&mut elsewhere, Left::Down)?,
                How::Address => host.readdress()?,
            };
            Ok(())
        })
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, peer, .. } = self;
        match self.how {
            How::Link => write!(f, "{from} to {to}, peer {peer}")?,
            How::Cable => write!(f, "{from} to {to} by another cable, peer {peer}")?,
            How::Address => write!(f, "another address at {to}, peer {peer}")?,
        }
        if self.backwards { write!(f, ", the peer pings") } else { Ok(()) }
    }
}

impl FromStr for Move {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no move such as port-preserving/none/fixed or none/none/fixed/address/back")
        };
        let mut words = text.split('/');
        let mut kind = || words.next().ok_or_else(wrong)?.parse::<Nat>();
        let mut one = Self::new(kind()?, kind()?, kind()?);
        for word in words {
            match word {
                "cable" => one.how = How::Cable,
                "address" => one.how = How::Address,
                "back" => one.backwards = true,
                _ => return Err(wrong()),
            }
        }
        Ok(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_on_the_command_line_is_measured() {
        let one: Move = "none/none/fixed/address/back".parse().unwrap();
        assert_eq!(
            one,
            Move { how: How::Address, ..Move::new(Nat::None, Nat::None, Nat::Fixed).backwards() }
        );
        for wrong in ["none/none", "none/none/nowhere", "none/none/none/walking"] {
            assert!(wrong.parse::<Move>().is_err(), "{wrong}");
        }
    }
}
