//! The datagrams of a load: WireGuard data messages by their shape, with what the receiver measures by inside.
//!
//! ```text
//!  0  type 4, three zero bytes    WireGuard paper section 5.4.6
//!  4  receiver index, u32 LE      the pair's number
//!  8  counter, u64 LE             rises by one with each datagram of the pair
//! 16  when it was sent, u64 LE    nanoseconds since the load's start
//! 24  window, u32 LE              tells late datagrams of the window before
//! 28  zeros up to the size
//! ```

/// The shortest datagram: a WireGuard keepalive.
pub(crate) const LEAST: usize = 32;

/// How much of a datagram the receiver reads: all that says anything, and before it a header of a relay.
pub(crate) const READ: usize = 64;

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The pair's number.
    pub(crate) pair: u32,
    /// The datagram's number in its pair.
    pub(crate) counter: u64,
    /// When it was sent, in nanoseconds since the load's start.
    pub(crate) sent: u64,
    /// The window that it was sent in.
    pub(crate) window: u32,
}

impl Mark {
    /// Writes the datagram's first bytes; `datagram` has at least [`LEAST`] bytes.
    pub(crate) fn write(self, datagram: &mut [u8]) {
        datagram[..4].copy_from_slice(&[4, 0, 0, 0]);
        datagram[4..8].copy_from_slice(&self.pair.to_le_bytes());
        datagram[8..16].copy_from_slice(&self.counter.to_le_bytes());
        datagram[16..24].copy_from_slice(&self.sent.to_le_bytes());
        datagram[24..28].copy_from_slice(&self.window.to_le_bytes());
    }

    /// Reads what [`Self::write`] wrote; none of anything else.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let (kind, rest) = datagram.split_first_chunk::<4>()?;
        let (pair, rest) = rest.split_first_chunk::<4>()?;
        let (counter, rest) = rest.split_first_chunk::<8>()?;
        let (sent, rest) = rest.split_first_chunk::<8>()?;
        let window = rest.first_chunk::<4>()?;
        (*kind == [4, 0, 0, 0]).then(|| Self {
            pair: u32::from_le_bytes(*pair),
            counter: u64::from_le_bytes(*counter),
            sent: u64::from_le_bytes(*sent),
            window: u32::from_le_bytes(*window),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { pair: 49, counter: u64::MAX - 1, sent: 1_234_567_890_123, window: 7 };
        let mut datagram = [0xff; LEAST];
        mark.write(&mut datagram);
        assert_eq!(Mark::read(&datagram), Some(mark));
        assert_eq!(Mark::read(&datagram[..27]), None);
        datagram[0] = 1;
        assert_eq!(Mark::read(&datagram), None);
    }
}
