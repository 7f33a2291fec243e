//! The socket filter: classic BPF (linux Documentation/networking/filter.rst) that passes a datagram only if it is
//! for one of the ports and carries STUN's magic cookie.

use socket2::SockFilter;
use wireplug_core::Family;

/// The most ports of one filter: two instructions each, of 4096 that the kernel takes (`BPF_MAXINSNS`), and more
/// than a host has interfaces.
pub(super) const MAX_PORTS: usize = 1024;

/// STUN's magic cookie (RFC 8489 section 5), at this offset of the message.
pub(super) const MAGIC_COOKIE: u32 = 0x2112_A442;
/// Offset of the cookie in a STUN message, in bytes (RFC 8489 section 5).
pub(super) const COOKIE_OFFSET: u32 = 4;

/// Length of a UDP header (RFC 768), in bytes.
const UDP_HEADER: u32 = 8;
/// Offset of the destination port in a UDP header (RFC 768).
const UDP_DESTINATION: u32 = 2;

// Classes, sizes and modes as in linux/filter.h and linux/bpf_common.h.
const LOAD_WORD_INDIRECT: u16 = 0x40; // BPF_LD | BPF_W | BPF_IND: A = u32 at X + k
const LOAD_HALF_INDIRECT: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND: A = u16 at X + k
const LOAD_X: u16 = 0x01; // BPF_LDX | BPF_W | BPF_IMM: X = k
const LOAD_X_IP_LENGTH: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH: X = 4 * (u8 at k & 15)
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K: keep k bytes

const KEEP_ALL: u32 = u32::MAX;
const DROP: u32 = 0;

/// One instruction; jumps count the instructions to skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

impl From<Instruction> for SockFilter {
    fn from(it: Instruction) -> Self {
        Self::new(it.code, it.if_true, it.if_false, it.k)
    }
}

/// The filter that passes STUN to these ports. IPv4 raw sockets see the IP header with its options,
/// IPv6 ones start at the UDP header. A load beyond the end of a short datagram drops it.
pub(super) fn program(family: Family, ports: &[u16]) -> Vec<Instruction> {
    let mut program = vec![
        match family {
            Family::V4 => plain(LOAD_X_IP_LENGTH, 0),
            Family::V6 => plain(LOAD_X, 0),
        },
        plain(LOAD_WORD_INDIRECT, UDP_HEADER + COOKIE_OFFSET),
        Instruction { code: JUMP_IF_EQUAL, if_true: 1, if_false: 0, k: MAGIC_COOKIE },
        plain(RETURN, DROP),
        plain(LOAD_HALF_INDIRECT, UDP_DESTINATION),
    ];
    for port in ports {
        program.push(Instruction { code: JUMP_IF_EQUAL, if_true: 0, if_false: 1, k: u32::from(*port) });
        program.push(plain(RETURN, KEEP_ALL));
    }
    program.push(plain(RETURN, DROP));
    program
}

/// The filter that passes nothing.
pub(super) fn nothing() -> Vec<Instruction> {
    vec![plain(RETURN, DROP)]
}

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does; the bytes that it keeps, 0 for a load beyond the end.
    fn run(program: &[Instruction], data: &[u8]) -> u32 {
        let load = |at: u32, size: usize| {
            let at = at as usize;
            let bytes = data.get(at..at + size)?;
            Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        };
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        loop {
            let it = program[at];
            at += 1;
            match it.code {
                LOAD_WORD_INDIRECT | LOAD_HALF_INDIRECT => {
                    let size = if it.code == LOAD_WORD_INDIRECT { 4 } else { 2 };
                    match load(x + it.k, size) {
                        Some(value) => a = value,
                        None => return 0,
                    }
                }
                LOAD_X => x = it.k,
                LOAD_X_IP_LENGTH => match load(it.k, 1) {
                    Some(value) => x = 4 * (value & 15),
                    None => return 0,
                },
                JUMP_IF_EQUAL => at += usize::from(if a == it.k { it.if_true } else { it.if_false }),
                RETURN => return it.k,
                code => panic!("no such instruction here: {code:#x}"),
            }
        }
    }

    fn udp(port: u16, cookie: u32) -> Vec<u8> {
        let mut bytes = vec![0x30, 0x39];
        bytes.extend(port.to_be_bytes());
        bytes.extend([0, 28, 0, 0, 0, 1, 0, 0]);
        bytes.extend(cookie.to_be_bytes());
        bytes.extend([7; 12]);
        bytes
    }

    fn ipv4(options: usize, port: u16, cookie: u32) -> Vec<u8> {
        let mut bytes = vec![0; 20 + 4 * options];
        bytes[0] = 0x40 | (5 + u8::try_from(options).unwrap());
        bytes.extend(udp(port, cookie));
        bytes
    }

    #[test]
    fn stun_to_a_port_of_ours_passes_whatever_the_ip_options() {
        let program = program(Family::V4, &[51820, 51821]);
        for options in 0..=10 {
            assert_eq!(run(&program, &ipv4(options, 51820, MAGIC_COOKIE)), KEEP_ALL);
            assert_eq!(run(&program, &ipv4(options, 51821, MAGIC_COOKIE)), KEEP_ALL);
            assert_eq!(run(&program, &ipv4(options, 51822, MAGIC_COOKIE)), DROP);
            assert_eq!(run(&program, &ipv4(options, 51820, MAGIC_COOKIE ^ 1)), DROP);
        }
    }

    #[test]
    fn ipv6_starts_at_the_udp_header() {
        let program = program(Family::V6, &[51820]);
        assert_eq!(run(&program, &udp(51820, MAGIC_COOKIE)), KEEP_ALL);
        assert_eq!(run(&program, &udp(51820, 1)), DROP);
        assert_eq!(run(&program, &ipv4(0, 51820, MAGIC_COOKIE)), DROP);
    }

    #[test]
    fn what_is_short_or_unwanted_is_dropped() {
        let whole = ipv4(2, 51820, MAGIC_COOKIE);
        let until_cookie = whole.len() - 12;
        for length in 0..until_cookie {
            assert_eq!(run(&program(Family::V4, &[51820]), &whole[..length]), DROP, "{length}");
        }
        assert_eq!(run(&program(Family::V4, &[]), &whole), DROP);
        assert_eq!(run(&nothing(), &whole), DROP);
    }

    #[test]
    fn the_largest_filter_fits_the_kernel() {
        let ports: Vec<u16> = (1..=1024).collect();
        assert_eq!(ports.len(), MAX_PORTS);
        assert!(program(Family::V4, &ports).len() <= 4096);
    }
}
