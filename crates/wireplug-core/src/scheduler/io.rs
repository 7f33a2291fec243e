//! What goes into the scheduler and what comes out: all of it data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keepalive::Learnt;
use super::ranking::Ranking;
use crate::{
    Candidate, Endpoint, Mapping, Offer, PublicKey, RemoteCandidate, StrategyName, Tier, TransactionId,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The WireGuard device as it was just read.
    Device(DeviceView),
    /// The local network is another one: what was found is void, and everything starts anew.
    NetworkChanged,
    /// A strategy found a candidate of ours in this generation.
    Found {
        /// The generation it was found in; others are ignored.
        generation: u32,
        /// Where, by whom, and how well proven.
        candidate: Candidate,
    },
    /// A strategy takes a candidate of ours back.
    Lost {
        /// The generation it was found in.
        generation: u32,
        /// Which strategy.
        strategy: StrategyName,
        /// Where.
        endpoint: Endpoint,
    },
    /// A strategy knows where a peer may be.
    Suggested {
        /// The generation it was found in.
        generation: u32,
        /// Whom.
        peer: PublicKey,
        /// Where, and by which strategy.
        candidate: RemoteCandidate,
    },
    /// A strategy takes a suggestion back.
    Withdrawn {
        /// The generation it was found in.
        generation: u32,
        /// Whom.
        peer: PublicKey,
        /// Which strategy.
        strategy: StrategyName,
        /// Where.
        endpoint: Endpoint,
    },
    /// How our IPv4 NAT maps, as a strategy found it.
    Mapping {
        /// The generation it was found in.
        generation: u32,
        /// The behaviour.
        mapping: Mapping,
    },
    /// The answer to [`Command::Verify`].
    Verdict {
        /// The generation it was asked in.
        generation: u32,
        /// Which candidate.
        endpoint: Endpoint,
        /// What the server's probe proved.
        verdict: Verdict,
    },
    /// A rendezvous server is connected.
    ServerUp,
    /// No rendezvous server is connected: none any more, none that was tried, or none is configured. Until either is said it
    /// is not known.
    ServerDown {
        /// Why, for status.
        why: String,
    },
    /// How long a packet to the server and back takes, as last measured: a hint at how long one to a peer may take.
    ServerRoundTrip(Duration),
    /// The other side of a pair asked the server for a relay, or had asked when we joined.
    RelayCalled {
        /// Whose.
        peer: PublicKey,
    },
    /// A peer's offer arrived and was opened: its seal is right.
    OfferArrived {
        /// Whose.
        peer: PublicKey,
        /// What it says.
        offer: Offer,
    },
    /// A peer's check arrived on the WireGuard port and its integrity is right.
    CheckRequested {
        /// Whose.
        peer: PublicKey,
        /// Where it came from.
        from: Endpoint,
        /// To be answered with.
        transaction: TransactionId,
        /// The tier of the candidate of ours that it was sent to, as the peer knows it.
        tier: Tier,
        /// Whether the peer has chosen this path.
        nominated: bool,
    },
    /// An answer to a check arrived on the WireGuard port and its integrity is right; or a relay said that both sides
    /// are bound.
    CheckAnswered {
        /// Whose.
        peer: PublicKey,
        /// Where it came from.
        from: Endpoint,
        /// Which check it answers.
        transaction: TransactionId,
    },
    /// A check could not be sent.
    Unsendable {
        /// To whom.
        peer: PublicKey,
        /// Where to.
        to: Endpoint,
        /// Why.
        why: Unsendable,
    },
    /// Whether the WireGuard port can be shared at all (a right to raw sockets).
    PortSharing(bool),
    /// The config says something else of a peer: one that has no session is worth a round now.
    Reconsider {
        /// Which.
        peer: PublicKey,
    },
    /// Strategies are ranked otherwise, or others are enabled: as in
    /// [`SchedulerConfig`](super::SchedulerConfig). Peers for which nothing is another are left alone.
    Ranked {
        /// For peers that have no ranking of their own.
        ranking: Ranking,
        /// For single peers.
        peers: BTreeMap<PublicKey, Ranking>,
    },
    /// Where a peer of the device was reached in an earlier run, best first: checked while no server is connected,
    /// and set unproven when [`Input::ServerDown`] says that none is there.
    LastGood {
        /// Whom.
        peer: PublicKey,
        /// What [`Command::Keep`] said.
        candidates: Vec<RemoteCandidate>,
    },
    /// The machine slept for so long, which `now` leaves out: what has a lifetime is older than it seems, and so are
    /// sessions and silences.
    Slept(Duration),
    /// The network that we are in is one that this was learnt of; of a new one, [`Learnt::default`]. Until it is told,
    /// what was learnt in the one before holds.
    Recalled(Learnt),
}

/// Why a datagram could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsendable {
    /// Its route leaves by a tunnel: the path would run through what it is to carry.
    ThroughTunnel,
    /// There is no route.
    NoRoute,
}

/// What the server's probe proved of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A stranger's packet arrived.
    Open,
    /// It is ours, but the stranger's packet did not arrive.
    Filtered,
    /// It is not ours.
    Wrong {
        /// What was seen instead, for status.
        why: String,
    },
    /// Nobody could tell now (no server, too many requests); it may be asked again.
    Unknown,
}

/// The WireGuard device, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceView {
    /// WireGuard's UDP port, host order; 0 if it has none.
    pub listen_port: u16,
    /// All peers; one that is missing was removed.
    pub peers: Vec<PeerView>,
}

/// One peer of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Who.
    pub public_key: PublicKey,
    /// Where WireGuard sends to.
    pub endpoint: Option<Endpoint>,
    /// The persistent keepalive.
    pub keepalive: Keepalive,
    /// The last handshake, if there was one.
    pub handshake: Option<Handshake>,
    /// Bytes received, since the device or peer was made.
    pub rx_bytes: u64,
    /// Bytes sent, since the device or peer was made.
    pub tx_bytes: u64,
}

/// When WireGuard last completed a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// Tells one handshake from another; WireGuard's own time stamp, in nanoseconds.
    pub stamp: u128,
    /// How long ago by the wall clock. It may jump: the scheduler believes it only of the first handshake that it sees,
    /// and once after [`Input::NetworkChanged`], because the machine may have slept.
    pub age: Duration,
}

/// A peer's persistent keepalive, and whose it is. Intervals in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keepalive {
    /// None.
    #[default]
    Off,
    /// Set by us, and ours to change.
    Ours(u16),
    /// Set by somebody else, and never touched.
    Theirs(u16),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send a check from the WireGuard port; to a candidate of a relayed tier, bind to the relay.
    Check {
        /// To whom: the pair's key signs it.
        peer: PublicKey,
        /// Where to.
        to: Endpoint,
        /// Its id.
        transaction: TransactionId,
        /// The tier of the candidate it is sent to.
        tier: Tier,
        /// Whether we have chosen this path.
        nominate: bool,
    },
    /// Answer a check, from the WireGuard port.
    Answer {
        /// To whom.
        peer: PublicKey,
        /// Where the check came from, which is also what the answer tells.
        to: Endpoint,
        /// The check's id.
        transaction: TransactionId,
    },
    /// Have the server send a probe to this candidate of ours; the answer is [`Input::Verdict`].
    Verify {
        /// The generation to answer for.
        generation: u32,
        /// Which candidate.
        endpoint: Endpoint,
    },
    /// Seal this offer and leave it at the servers; it replaces the one before.
    Publish {
        /// For whom.
        peer: PublicKey,
        /// What to say.
        offer: Offer,
    },
    /// Keep this for the next run; it replaces what was kept of the peer before.
    Keep {
        /// Of whom.
        peer: PublicKey,
        /// Where it was reached, best first.
        candidates: Vec<RemoteCandidate>,
    },
    /// Change the peer on the device, which must still have it.
    Update {
        /// Whom.
        peer: PublicKey,
        /// The new endpoint, if it is to change.
        endpoint: Option<Endpoint>,
        /// What makes WireGuard send something at once.
        stimulus: Stimulus,
    },
}

/// How WireGuard is made to send something. An endpoint alone sends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stimulus {
    /// Nothing.
    None,
    /// Set our own keepalive, in seconds, where there was none: that sends one.
    TurnOn(u16),
    /// Set our own keepalive, in seconds, where it was ours already: that sends nothing.
    Adjust(u16),
    /// Turn our own keepalive off and on again, in seconds: that sends one.
    Restart(u16),
    /// Send one small packet into the tunnel, because the keepalive is not ours.
    Packet,
}

/// What the event loop should have ready at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Strategies should look for candidates, and the shared port be open.
    pub working: bool,
    /// The shared port should be open, and nothing be sent from it of our own accord.
    pub listening: bool,
    /// Punching cannot be enough for some peer: routers should be asked for mappings.
    pub mapping: bool,
    /// How long to wait between two looks at the device.
    pub device_poll: Duration,
    /// Another number whenever [`Scheduler::relay_wanted`](super::Scheduler::relay_wanted) became another for some peer.
    pub relays: u64,
}
