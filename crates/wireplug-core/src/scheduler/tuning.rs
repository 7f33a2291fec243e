//! The tuned numbers of the scheduler. Each says what it trades.

use std::time::Duration;

/// Pauses between the checks of one path. The first ones are short: on the internet's usual delays several
/// fit into one handshake's time, and both NATs open with the first pair that crosses. After three
/// seconds a path that has not answered is asked once a second, because loss, not delay, is then the
/// likely cause.
const CHECK_GAPS_MS: [u64; 8] = [50, 50, 100, 100, 200, 300, 500, 700];
const CHECK_GAP_LATE: Duration = Duration::from_secs(1);

/// The pause after the nth check of a path (0 is the first).
pub(super) fn check_gap(nth: u32) -> Duration {
    usize::try_from(nth)
        .ok()
        .and_then(|nth| CHECK_GAPS_MS.get(nth))
        .map_or(CHECK_GAP_LATE, |ms| Duration::from_millis(*ms))
}

/// The least time between two times that all unproven paths are checked quickly again. It bounds what a peer
/// can make us send; what an offer adds is checked at once in any case.
pub(super) const HURRY_GAP: Duration = Duration::from_secs(1);

/// How long it is remembered at least whose check a transaction is, and twice that at most. A path awaits the answers of its
/// last eight checks, which took less than nine seconds to send; longer would only cost memory.
pub(super) const REMEMBER_CHECKS: Duration = Duration::from_secs(9);

/// How long one round of checks goes on without any path proven. Longer finds paths with heavy loss,
/// shorter lets the raw socket close sooner; a peer that comes later starts a new round anyway.
pub(super) const ROUND: Duration = Duration::from_secs(8);

/// How long a round waits for an offer or candidate when there is nothing to check.
pub(super) const NOTHING_TO_CHECK: Duration = Duration::from_secs(3);

/// How long after its start a round goes on looking for something better than the path in use.
pub(super) const UPGRADE_WINDOW: Duration = Duration::from_secs(3);

/// How long the first offer of a round waits for a first candidate, from when a server is there. An offer
/// without candidates is worth something too: it makes the peer listen for our checks.
pub(super) const OFFER_PATIENCE: Duration = Duration::from_millis(300);

/// The least time between two offers to one peer. It joins candidates that are found together.
pub(super) const OFFER_GAP: Duration = Duration::from_millis(20);

/// Without a session only the side with the lower key applies; the other waits this long for its handshake,
/// or four round trips if that is longer. Shorter makes initiations cross, which costs five seconds.
pub(super) fn follower_patience(rtt: Duration) -> Duration {
    Duration::from_secs(1).max(4 * rtt)
}

/// How long a path that carried the session may stay unproven in a round while another is proven,
/// before the other replaces it: a few lost checks must not move a tunnel.
pub(super) fn replace_patience(rtt: Duration) -> Duration {
    Duration::from_millis(500).max(3 * rtt)
}

/// The same where one side has moved, so that the path that carried the session is most likely gone. `rtt`: the longer one of
/// both paths', as last measured; by then it would have answered with the one that is proven, or a check or two later. A path
/// that lives all the same is returned to if it is better. The follower waits twice as long.
pub(super) fn moved_patience(rtt: Duration) -> Duration {
    Duration::from_millis(100).max(2 * rtt)
}

/// How long a handshake may take over a proven path before the path counts as failed: one more than
/// WireGuard's own retry (`REKEY_TIMEOUT`, 5 s), which an earlier initiation may have made necessary.
pub(super) const CONFIRM: Duration = Duration::from_secs(7);

/// How long a path over which WireGuard could not complete a handshake is not chosen again.
pub(super) const FAILED_FOR: Duration = Duration::from_secs(30);

/// When nothing answers checks and no offer came, how long until a configured endpoint is tried unproven.
pub(super) const UNPROVEN_AFTER: Duration = Duration::from_secs(2);

/// Without raw sockets, how long each endpoint is tried by WireGuard's own handshake: one initiation and
/// its retry (`REKEY_TIMEOUT`, 5 s, plus jitter).
pub(super) const UNPROVEN_EACH: Duration = Duration::from_secs(11);

/// A WireGuard session is over when its last handshake is this old (whitepaper section 6.1,
/// `REJECT_AFTER_TIME`)...
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(180);

/// ...and its path is dead when it has not been renewed in so long after that: one keepalive, which may be the
/// first to find it over, and a lost handshake message or two.
pub(super) const RENEWAL: Duration = Duration::from_secs(35);

/// When we began to send what wants an answer, silence of this length since then is WireGuard's own word that the path
/// is dead: its receiver answers data within 10 s (`KEEPALIVE_TIMEOUT`) and its sender then makes a handshake (5 s). Keepalives
/// want none, and what is received puts off our own: of two sides that keep alive, one may be the only one to send
/// until the session is renewed, and its silence means nothing before [`SESSION_LIFE`] is over.
pub(super) const SILENCE_WHEN_SENDING: Duration = Duration::from_secs(17);

/// Silence of this length while we go on sending is doubtful, and a doubt is only a check of the path in use. Where both
/// sides speak, an answer is overdue by then; a stream in one direction is answered every 10 s only (`KEEPALIVE_TIMEOUT`),
/// which [`Up`](super::tunnel::Up) learns from its first doubt.
pub(super) const SILENCE_WORTH_A_CHECK: Duration = Duration::from_secs(4);

/// For so long the sending must have gone on: the last packet of a conversation is answered late without harm.
pub(super) const STILL_SENDING: Duration = Duration::from_secs(3);

/// How long a silence that turned out to be usual is taken to be so: a stream in one direction costs one check of its
/// path in so long.
pub(super) const USUAL_FOR: Duration = Duration::from_secs(300);

/// How many bytes keepalives alone may have sent in so long a silence, one in every so many seconds (whitepaper
/// section 5.4.6: 32 bytes each, and section 6.5: one is sent unasked).
pub(super) fn keepalives_worth(silence: Duration, every: u16) -> u64 {
    2 * KEEPALIVE_BYTES + KEEPALIVE_BYTES * (silence.as_secs() / u64::from(every.max(1)))
}

/// The length of a keepalive (whitepaper section 5.4.6: a header of 16 bytes and a tag of 16).
pub(super) const KEEPALIVE_BYTES: u64 = 32;

/// Our keepalive, in seconds: the value that WireGuard's own manual recommends behind NATs.
pub(super) const KEEPALIVE: u16 = 25;

/// Our keepalives, longest first; a shorter one where mappings expire under a longer. 12 s costs 300 packets an hour instead
/// of 144 and holds mappings that live 15 or 20 s; under those of 10 s it is deaf for 2 s, which is hardly ever noticed.
/// 8 s costs 450, keeps a phone's radio awake, and holds those of 10 s. Shorter lives are not met in the field, and would
/// cost more than the tunnel is worth.
pub(super) const KEEPALIVES: [u16; 3] = [KEEPALIVE, 12, 8];

/// Signs of an expired mapping within so long of another one have the same cause: a router that restarts is met by each
/// tunnel through it, when its next packet is sent.
pub(super) const EVIDENCE_GAP: Duration = Duration::from_secs(60);

/// A single sign is forgotten after so long: two accidents on one day cost a shorter keepalive for an hour.
pub(super) const SUSPICION_HOLDS: Duration = Duration::from_secs(6 * 3600);

/// How long a longer keepalive that is tried again is given up at the first sign. Longer finds a lifetime that is met
/// seldom, because hardly anybody calls, before it costs two outages more.
pub(super) const TRIAL_HOLDS: Duration = Duration::from_secs(6 * 3600);

/// How long a shorter keepalive must have been good before a longer one is tried, the nth time (0 is the first). Each try
/// in vain may cost one outage of some seconds, each hour of waiting some hundred packets.
pub(super) fn longer_after(failed_trials: u8) -> Duration {
    Duration::from_secs((3 * 3600) << failed_trials.min(MAX_FAILED_TRIALS))
}

/// So the longest wait is 16 days.
pub(super) const MAX_FAILED_TRIALS: u8 = 7;

/// When the peer doubts a tunnel that was quiet here, how long we only listen: longer than the gaps between its first
/// checks and the way of its offer through the server, and little beside the four seconds it has waited before.
pub(super) const LISTEN_FIRST: Duration = Duration::from_millis(500);

/// Within so long after we sent, a path that only missed our mapping answers: half a dozen checks, of which some may be lost.
/// Longer takes a way that comes back by itself for one.
pub(super) const OPENED_WITHIN: Duration = Duration::from_secs(1);

/// How long an endpoint that the person set is left alone before anything was received over it or a check was answered: one
/// that works has shown it by then, unless nothing is sent and the peer answers from another address. Longer would
/// leave a tunnel dead after a `wg syncconf` with a stale endpoint.
pub(super) const HAND_PATIENCE: Duration = Duration::from_secs(2);

/// After a move, how long late packets on the old path may pull the endpoint back before that is
/// believed, and how often it is put right. Where both sides send much, it takes several times until no
/// packet on the old path is under way in either direction.
pub(super) const LATE_PACKETS: Duration = Duration::from_secs(3);
pub(super) const REASSERTIONS: u8 = 20;

/// How long better paths are tried alone before a server is asked to relay, if the round trip is so long: three of them,
/// within these bounds. A pair that connects directly at once costs the server nothing, and the first ping does not wait
/// for the others to fail. The round trip is often only guessed from the server's, and a server that takes its time says
/// nothing of the peer: without a bound, rounds would end before it is asked.
pub(super) fn relay_head_start(rtt: Duration) -> Duration {
    (3 * rtt).clamp(Duration::from_millis(150), Duration::from_secs(2))
}

/// In a doubt, how long the path in use is checked before a server is asked to relay: the peer must hear of it first.
pub(super) const RELAY_DOUBT_HEAD_START: Duration = Duration::from_millis(500);

/// How long a direct path that carried the session may stay without an answer to its checks, or four round trips if that
/// is longer, before a proven relay takes the session over: some seven checks, so a few lost ones move nothing.
pub(super) fn relay_patience(rtt: Duration) -> Duration {
    Duration::from_secs(2).max(4 * rtt)
}

/// On a relay, the pause before the nth search for something better (0 is the first). News ends it at once.
pub(super) fn upgrade_pause(nth: u32) -> Duration {
    Duration::from_secs(30 << nth.min(4)).min(Duration::from_secs(300))
}

/// After the session left a direct path for the nth time (1 is the first), how long it does not return to one: short for
/// an accident, long for a path that comes and goes, because each return may end in some seconds of silence.
const FLAP_PAUSES_S: [u64; 5] = [10, 30, 60, 120, 300];
const FLAP_PAUSE_LATE: Duration = Duration::from_secs(600);

pub(super) fn flap_pause(nth: u32) -> Duration {
    let index = usize::try_from(nth.saturating_sub(1)).ok();
    index
        .and_then(|index| FLAP_PAUSES_S.get(index))
        .map_or(FLAP_PAUSE_LATE, |seconds| Duration::from_secs(*seconds))
}

/// For each time that it was left, up to four, so long a direct path must go on answering before it is returned to.
pub(super) const PROBATION: Duration = Duration::from_secs(1);

/// The pause between the checks of a path on probation.
pub(super) const PROBATION_GAP: Duration = Duration::from_millis(300);

/// After so long on one path, what was before is no sign of what will be.
pub(super) const FLAPS_FORGOTTEN: Duration = Duration::from_secs(1800);

/// How long a relay is kept after the session left it for a better path, which may turn out not to last, or after nobody
/// answered a handshake over it: the peer's own may come 15 s after it sent in vain.
pub(super) const RELAY_KEPT: Duration = Duration::from_secs(30);

/// How long a call to the relay by the other side holds, and the least time between two calls that begin a round.
pub(super) const CALLED_FOR: Duration = Duration::from_secs(30);
pub(super) const CALL_GAP: Duration = Duration::from_secs(5);

/// A late packet was seen. With a stream in both directions one that comes over the old path makes WireGuard answer on it,
/// so what is under way on it goes round for ever; set again and again for a little more than one round trip, within
/// these bounds, the endpoint is right for most of what goes round.
pub(super) fn put_right_for(rtt: Duration) -> Duration {
    (rtt * 5 / 4).clamp(Duration::from_millis(25), Duration::from_secs(1))
}

/// The pause between two such settings of an endpoint; jitter is added. Shorter ones need fewer round trips, and more
/// of the processor: so it is at most some hundred.
pub(super) fn put_right_gap(time: Duration) -> Duration {
    (time / 125).max(Duration::from_millis(2))
}

/// Pauses between rounds that failed: short while a peer is likely just starting, long for a peer that
/// is off for the night. The peer's next offer ends a pause at once.
const PAUSES_S: [u64; 6] = [5, 10, 20, 40, 80, 160];
const PAUSE_LATE: Duration = Duration::from_secs(300);

/// The longest pause while the peer looks for us, too: both are there, and what keeps them apart (a network that blocks UDP
/// until somebody has logged in, a clock that is not set yet, a wrong preshared key) goes without anybody's word. One cycle
/// costs each side an offer and some twenty checks of each candidate, so that ends after [`PATIENT_ROUNDS`].
const PAUSE_TOGETHER: Duration = Duration::from_secs(15);

/// So many failed rounds take about an hour: by then nobody waits any more.
const PATIENT_ROUNDS: u32 = 150;

/// A peer that said something within so long looks for us: in each of its rounds it does, of which the next one begins
/// not later than 26 s after the last.
const LOOKS_FOR_US: Duration = Duration::from_secs(45);

/// The pause after the nth failed round (0 is the first). `silence`: how long ago the peer last said something.
pub(super) fn pause(nth: u32, silence: Option<Duration>) -> Duration {
    let grown = usize::try_from(nth)
        .ok()
        .and_then(|nth| PAUSES_S.get(nth))
        .map_or(PAUSE_LATE, |seconds| Duration::from_secs(*seconds));
    let together = silence.is_some_and(|silence| silence <= LOOKS_FOR_US) && nth < PATIENT_ROUNDS;
    if together { grown.min(PAUSE_TOGETHER) } else { grown }
}

/// The pause before a verification that nobody could decide is asked for again, for the nth time: a lost packet
/// costs little, a server that cannot tell is not bothered.
pub(super) fn verify_pause(nth: u32) -> Duration {
    Duration::from_secs(1 << nth.min(6))
}

/// Between two doubts of a tunnel that turned out to work: its silence has another cause.
pub(super) const DOUBT_GAP: Duration = Duration::from_secs(60);

/// Looks at the device: while a handshake is awaited or a move may be undone, while a round runs, while we send and hear
/// nothing, and while all is settled.
pub(super) const POLL_CONFIRMING: Duration = Duration::from_millis(100);
pub(super) const POLL_WORKING: Duration = Duration::from_millis(500);
pub(super) const POLL_ASKING: Duration = Duration::from_secs(1);
pub(super) const POLL_SETTLED: Duration = Duration::from_secs(2);

/// Answers to checks, for each peer: a burst, and a rate per second after it. A recorded check that is
/// replayed in a flood costs no more than this.
pub(super) const ANSWER_BURST: u32 = 64;
pub(super) const ANSWERS_PER_SECOND: u32 = 32;

/// The most paths that are tried with one peer, and of these the most that only a check told of.
pub(super) const MAX_PATHS: usize = 40;
pub(super) const MAX_REFLEXIVE: usize = 8;

/// The last good candidates of a peer: those of home and of the office, of both families. More would be checked, and one
/// after another set unproven, while the server is away.
pub const MAX_GOOD: usize = 4;

/// Offers of this many runs of a peer's daemon are kept: an old one that is replayed cannot push the
/// true one out.
pub(super) const MAX_INSTANCES: usize = 3;
