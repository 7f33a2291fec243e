//! WireGuard's timing: whitepaper section 6.1, and what Linux 6.1 (`drivers/net/wireguard/messages.h`) adds.

use crate::{Time, ms, secs};

/// An initiator makes a new session after so long: Rekey-After-Time.
pub const REKEY_AFTER: Time = secs(120);
/// A session is not used for longer: Reject-After-Time.
pub const REJECT_AFTER: Time = secs(180);
/// An initiation is tried for so long: Rekey-Attempt-Time, counted as 18 tries by Linux.
pub const MAX_ATTEMPTS: u32 = 90 / 5;
/// The least time between two handshake messages to one peer, and until an initiation is repeated: Rekey-Timeout.
pub const REKEY_TIMEOUT: Time = secs(5);
/// What was received unanswered is answered with nothing after so long: Keepalive-Timeout.
pub const KEEPALIVE_TIMEOUT: Time = secs(10);
/// Up to so much is added to Rekey-Timeout by chance, so that two sides do not cross again (section 6.1).
pub const JITTER: Time = ms(333);
/// The least time between two initiations that are taken from one peer: 50 a second.
pub const CONSUME_GAP: Time = ms(20);
/// What is received makes the initiator renew a session that is this old: Reject-After-Time less Keepalive-Timeout
/// less Rekey-Timeout (section 6.2).
pub const REKEY_WHEN_RECEIVING: Time = secs(180 - 10 - 5);
/// So many packets wait for a session; then the oldest go.
pub const MAX_STAGED: usize = 128;
