//! A name server for the lab: one zone in memory, addresses that a test can change.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::error::{LabError, Result};
use crate::host::Host;
use crate::server::Server;

/// The port of DNS (RFC 1035 section 4.2.1).
const PORT: u16 = 53;

/// How long a resolver may keep an answer, in seconds: short, so that a test sees a change soon.
const TTL: u32 = 1;

/// How often the thread looks whether anyone still wants it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Zone = Mutex<BTreeMap<String, IpAddr>>;

/// A running name server; it ends when this is dropped.
#[derive(Debug)]
pub struct Dns {
    address: IpAddr,
    zone: Arc<Zone>,
}

impl Server {
    /// Starts a name server on the server's second IPv4 address.
    ///
    /// # Errors
    /// When port 53 cannot be bound.
    pub fn dns(&self) -> Result<Dns> {
        let address = IpAddr::V4(self.v4(1));
        let socket = self.udp(SocketAddr::new(address, PORT))?;
        socket.set_read_timeout(Some(LOOK_EVERY)).map_err(LabError::io("set up the name server's socket"))?;
        let zone = Arc::new(Zone::default());
        let weak = Arc::downgrade(&zone);
        thread::spawn(move || serve(&socket, &weak));
        Ok(Dns { address, zone })
    }
}

impl Dns {
    /// Lets a name stand for an address from now on.
    pub fn set(&self, name: &str, address: IpAddr) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), address);
    }
}

impl Host {
    /// Lets programs that are started on this host from now on ask this name server.
    ///
    /// # Errors
    /// When its resolv.conf cannot be written.
    pub fn use_dns(&self, dns: &Dns) -> Result<()> {
        self.shared.overlay_etc(self.namespace(), "resolv.conf", &format!("nameserver {}\n", dns.address))
    }
}

fn serve(socket: &UdpSocket, zone: &Weak<Zone>) {
    let mut query = [0; 512];
    while let Some(zone) = zone.upgrade() {
        let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
        let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answer(&query[..length], &zone) {
            // A lost answer is asked for again.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a query with one question (RFC 1035 section 4.1); none for what is no query.
fn answer(query: &[u8], zone: &BTreeMap<String, IpAddr>) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let mut at = HEADER;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(HEADER..at + 4)?;
    let address = zone.get(&labels.join("."));
    // RFC 1035 section 3.2.2 and RFC 3596 section 2.1: A is 1, AAAA is 28.
    let data = match address {
        Some(IpAddr::V4(v4)) if kind == 1 => v4.octets().to_vec(),
        Some(IpAddr::V6(v6)) if kind == 28 => v6.octets().to_vec(),
        _ => Vec::new(),
    };
    let answers = u8::from(!data.is_empty());
    // A response, authoritative, recursion "available"; code 3 where the name is unknown.
    let code = if address.is_some() { 0x80 } else { 0x83 };
    let mut out = vec![query[0], query[1], 0x85, code, 0, 1, 0, answers, 0, 0, 0, 0];
    out.extend_from_slice(question);
    if answers == 1 {
        // The name by a pointer to the question (section 4.1.4), its type, class IN.
        out.extend_from_slice(&[0xc0, 12, question[question.len() - 4], question[question.len() - 3], 0, 1]);
        out.extend_from_slice(&TTL.to_be_bytes());
        out.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&data);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_what_it_knows_and_denies_the_rest() {
        let zone = [("b.lab".to_owned(), IpAddr::from([5, 6, 7, 8]))].into();
        let query =
            |name: &[u8], kind| [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, &[0, kind, 0, 1]].concat();
        let known = answer(&query(b"\x01B\x03lab\0", 1), &zone).unwrap();
        assert_eq!((&known[..4], known[7]), (&[1, 2, 0x85, 0x80][..], 1));
        assert_eq!(known[known.len() - 6..], [0, 4, 5, 6, 7, 8]);
        let other_kind = answer(&query(b"\x01b\x03lab\0", 28), &zone).unwrap();
        assert_eq!((other_kind[3], other_kind[7]), (0x80, 0));
        let unknown = answer(&query(b"\x01c\x03lab\0", 1), &zone).unwrap();
        assert_eq!((unknown[3], unknown[7]), (0x83, 0));
        assert_eq!(answer(b"\x01\x02", &zone), None);
    }
}
