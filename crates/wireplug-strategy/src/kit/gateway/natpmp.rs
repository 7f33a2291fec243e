//! The router's side of NAT-PMP (RFC 6886).

use std::net::{IpAddr, SocketAddr};

use super::{Inner, Manner, Reaction, Speech};

/// How it speaks NAT-PMP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatPmpScript {
    /// Whether it does.
    pub manner: Manner,
    /// Answers that it knows this version only (a PCP server says 2).
    pub only_version: Option<u8>,
    /// Refuses every mapping with this result (RFC 6886 section 3.5).
    pub denies: Option<u16>,
    /// Refuses a suggested outer port of 0.
    pub refuses_port_zero: bool,
    /// Refuses these suggested outer ports.
    pub refuses: Vec<u16>,
    /// Sends this before every answer: junk, or an answer to something else.
    pub junk: Option<Vec<u8>>,
    /// Answers mappings with another inner port.
    pub wrong_port: bool,
}

/// RFC 6886 section 3.5: result codes.
const UNSUPPORTED_VERSION: u16 = 1;
const NETWORK_FAILURE: u16 = 3;
const UNSUPPORTED_OPCODE: u16 = 5;

impl Inner {
    pub(super) fn natpmp(&mut self, from: IpAddr, datagram: &[u8]) -> Reaction {
        let script = self.script.natpmp.clone();
        match script.manner {
            Manner::Silent => return Reaction::Silence,
            Manner::Refuses => return Reaction::Unreachable,
            Manner::Answers => {}
        }
        if let Some(version) = script.only_version {
            // RFC 6887 appendix A: what a PCP server tells a NAT-PMP client.
            let mut answer = vec![version, 0x80 | datagram.get(1).copied().unwrap_or_default(), 0, 0];
            answer[3] = u8::try_from(UNSUPPORTED_VERSION).unwrap_or_default();
            answer.extend(self.seconds().to_be_bytes());
            answer.resize(24, 0);
            return Reaction::Answer(answer);
        }
        Reaction::Answer(match (datagram.get(1), datagram.len()) {
            // RFC 6886 section 3.2.
            (Some(0), 2..) => {
                let mut answer = self.natpmp_head(0, 0);
                match self.script.outside {
                    IpAddr::V4(outside) => answer.extend(outside.octets()),
                    IpAddr::V6(_) => answer.extend([0; 4]),
                }
                answer
            }
            (Some(1), 12..) => self.natpmp_map(from, datagram),
            (opcode, _) => self.natpmp_head(opcode.copied().unwrap_or_default(), UNSUPPORTED_OPCODE),
        })
    }

    /// RFC 6886 section 3.3, and 3.4 for lifetime 0.
    fn natpmp_map(&mut self, from: IpAddr, datagram: &[u8]) -> Vec<u8> {
        let port = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
        let (inner, wanted) = (port(4), port(6));
        let seconds = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
        let inside = SocketAddr::new(from, inner);
        let script = self.script.natpmp.clone();
        if seconds == 0 {
            // N4: only with outer port 0 is it surely a deletion.
            if wanted == 0 {
                self.mappings.retain(|known| known.by != Speech::NatPmp || known.inside != inside);
            }
            let mut answer = self.natpmp_head(1, if wanted == 0 { 0 } else { NETWORK_FAILURE });
            answer.extend(inner.to_be_bytes());
            answer.extend([0; 6]);
            return answer;
        }
        let refused = (wanted == 0 && script.refuses_port_zero) || script.refuses.contains(&wanted);
        if let Some(result) = script.denies.or(refused.then_some(NETWORK_FAILURE)) {
            let mut answer = self.natpmp_head(1, result);
            answer.extend(inner.to_be_bytes());
            answer.extend([0; 6]);
            return answer;
        }
        let (outside, seconds) = self.put(Speech::NatPmp, inside, wanted, seconds, None);
        let mut answer = self.natpmp_head(1, 0);
        answer.extend((inner + u16::from(script.wrong_port)).to_be_bytes());
        answer.extend(outside.port().to_be_bytes());
        answer.extend(seconds.to_be_bytes());
        answer
    }

    fn natpmp_head(&self, opcode: u8, result: u16) -> Vec<u8> {
        let mut head = vec![0, 0x80 | opcode];
        head.extend(result.to_be_bytes());
        head.extend(self.seconds().to_be_bytes());
        head
    }
}
