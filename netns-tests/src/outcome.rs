//! What the networks of two sides allow, known from their kinds alone.

use crate::nat::Nat;

/// What two networks allow without a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Packets can go straight from one to the other.
    Direct,
    /// No packet of either can pass the other's NAT, or there is no way between them at all.
    Unreachable,
}

/// What `a` against `b` must come to.
///
/// A symmetric NAT shows each destination another port. Its peer must then accept packets from a port that
/// it could not know: a public host, a full cone and a mapping on the router do, every NAT that filters by port does
/// not.
pub fn expected(a: Nat, b: Nat) -> Outcome {
    let blocked = [a, b].contains(&Nat::UdpBlocked);
    let one_family = a.stack().v4() && b.stack().v4() || a.stack().v6() && b.stack().v6();
    let predictable = !is_symmetric(a) && !is_symmetric(b);
    if !blocked && one_family && (predictable || lets_anyone_in(a) || lets_anyone_in(b)) {
        Outcome::Direct
    } else {
        Outcome::Unreachable
    }
}

/// Whether `here` reaches `there` by the mapping on its router and by nothing else. (Hole punching may be the one to name
/// it: once the server has sent through a mapping, the router shows it to the server.)
pub(crate) fn needs_mapping(here: Nat, there: Nat) -> bool {
    // Else `there` may have sent to `here` first, and that path is as good.
    !lets_anyone_in(here) && there.gateway().is_some()
}

/// Whether packets from a port that was never sent to come in, once the host's strategies have done what they can.
fn lets_anyone_in(nat: Nat) -> bool {
    matches!(nat, Nat::None | Nat::FullCone) || nat.gateway().is_some()
}

/// Whether each destination sees another port of the host.
fn is_symmetric(nat: Nat) -> bool {
    nat == Nat::Symmetric || nat.gateway().is_some()
}
