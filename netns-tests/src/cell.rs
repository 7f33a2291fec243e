//! The matrix: every kind of place against every other, and two hosts on one LAN behind each kind of router.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use wireplug_core::Tier;
use wireplug_sim::site::Shared;

use crate::error::{LabError, Result};
use crate::nat::Nat;
use crate::pair::{Pair, PairOptions};
use crate::place::{self, End};

/// How long a measured pair may take to be direct, where it can be.
const DIRECT_LIMIT: Duration = Duration::from_secs(60);

/// How often WireGuard's endpoints are looked at until they are direct.
const LOOK: Duration = Duration::from_millis(5);

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Each at a place of its own.
    Apart(Nat, Nat),
    /// Both on the LAN behind one router.
    OneLan(Nat),
}

/// What came of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The path that was taken in the end.
    pub path: Tier,
    /// From the second daemon's start to the first answered ping.
    pub first_ping: Duration,
    /// From there to WireGuard on both sides sending straight to the other and a ping answered; none where a server
    /// carries the packets for good.
    pub direct: Option<Duration>,
}

impl Cell {
    /// The word for the LAN in a cell's name.
    pub const ONE_LAN: &str = "one-lan";

    /// All cells, row by row, the LANs last.
    pub fn all() -> Vec<Self> {
        let apart = Nat::ALL.into_iter().flat_map(|a| Nat::ALL.map(|b| Self::Apart(a, b)));
        let lans = Nat::ALL.into_iter().filter(|nat| nat.has_router()).map(Self::OneLan);
        apart.chain(lans).collect()
    }

    /// Both sides' kinds.
    pub fn nats(self) -> [Nat; 2] {
        match self {
            Self::Apart(a, b) => [a, b],
            Self::OneLan(nat) => [nat; 2],
        }
    }

    /// What the two places have in common.
    pub fn shared(self) -> Shared {
        match self {
            Self::Apart(..) => Shared::Nothing,
            Self::OneLan(_) => Shared::Home,
        }
    }

    /// The path that it must come to: what the simulator's oracle says.
    pub fn expected(self) -> Tier {
        let [a, b] = self.nats();
        place::path(a, b, self.shared())
    }

    /// The path that it is on when the two sides' WireGuard send so.
    pub fn path(self, ends: [End; 2]) -> Tier {
        place::between(self.nats(), ends)
    }

    /// The pair of this cell, its server running.
    ///
    /// # Errors
    /// When something cannot be set up.
    pub fn pair(self, options: &PairOptions) -> Result<Pair> {
        match self {
            Self::Apart(a, b) => Pair::new(&format!("{a}-{b}"), [a, b], options),
            Self::OneLan(nat) => Pair::neighbours(&format!("{nat}-lan"), nat, options),
        }
    }

    /// Connects it and checks that it comes to the path that it must.
    ///
    /// # Errors
    /// Naming what is not as it must be.
    pub fn check(self, options: &PairOptions) -> Result<()> {
        self.pair(options)?.finish(|pair| {
            let daemons = pair.connect()?;
            pair.check_path(&daemons, self.expected())
        })
    }

    /// Connects it, measures how long that takes, and checks that it comes to the path that it must. The first daemon
    /// has had `settle` to find its candidates.
    ///
    /// # Errors
    /// Naming what is not as it must be.
    pub fn measure(self, options: &PairOptions, settle: Duration) -> Result<Measured> {
        let path = self.expected();
        self.pair(options)?.finish(|pair| {
            let (daemons, answered) = pair.connect_measured(settle)?;
            let started = daemons[1].process().started();
            let since = |at: SystemTime| {
                at.duration_since(started).map_err(|_| {
                    LabError::unexpected("a ping was answered before the second daemon was started")
                })
            };
            let first_ping = since(answered)?;
            let direct = if path.is_relayed() {
                None
            } else {
                // Where the first ping went straight, both endpoints were set before it.
                Some(if pair.is_direct() { first_ping } else { since(wait_direct(pair)?)? })
            };
            pair.check_path(&daemons, path)?;
            Ok(Measured { path, first_ping, direct })
        })
    }
}

/// Waits until WireGuard on both sides sends straight to the other, and a ping is answered then.
fn wait_direct(pair: &Pair) -> Result<SystemTime> {
    let end = Instant::now() + DIRECT_LIMIT;
    while !pair.is_direct() {
        if Instant::now() > end {
            return Err(LabError::Timeout { what: "a direct path".to_owned(), after: DIRECT_LIMIT });
        }
        thread::sleep(LOOK);
    }
    pair.wait_for_ping(DIRECT_LIMIT)
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart(a, b) => write!(f, "{a}/{b}"),
            Self::OneLan(nat) => write!(f, "{nat}/{}", Self::ONE_LAN),
        }
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (a, b) = text.split_once('/').ok_or(format!("{text:?} is no cell such as none/fixed"))?;
        let cell =
            if b == Self::ONE_LAN { Self::OneLan(a.parse()?) } else { Self::Apart(a.parse()?, b.parse()?) };
        if Self::all().contains(&cell) { Ok(cell) } else { Err(format!("{a} has no router, so no LAN")) }
    }
}
