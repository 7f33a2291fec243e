//! What the next run must know of this one's mappings, if this one cannot take them back.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Site;

/// The most that is remembered; the oldest goes. Whoever roams between more networks than these finds his old
/// mappings ended by their leases.
const MAX_ENTRIES: usize = 16;

/// Mappings that may stand on routers, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) entries: Vec<Entry>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    gateway: IpAddr,
    source: IpAddr,
    pub(super) port: u16,
    pub(super) nonce: [u8; 12],
    pub(super) external: Option<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    mapping: Vec<Entry>,
}

impl Record {
    /// Reads what was kept. What cannot be read is of no use: then there is nothing.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let stored = std::str::from_utf8(bytes).ok().and_then(|text| toml::from_str::<Stored>(text).ok());
        let mut entries = stored.map(|stored| stored.mapping).unwrap_or_default();
        entries.truncate(MAX_ENTRIES);
        Self { entries }
    }

    /// For the disk; empty where there is nothing to know.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        // Plain tables of numbers and addresses always have a TOML form.
        toml::to_string(&Stored { mapping: self.entries.clone() }).unwrap_or_default().into_bytes()
    }

    pub(super) fn find(&self, site: &Site, port: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_at(site) && entry.port == port)
    }

    /// Notes a mapping; says whether that is news.
    pub(super) fn put(
        &mut self,
        site: &Site,
        port: u16,
        nonce: [u8; 12],
        external: Option<SocketAddr>,
    ) -> bool {
        let new = Entry { gateway: site.gateway.ip, source: site.source, port, nonce, external };
        if self.entries.contains(&new) {
            return false;
        }
        self.remove(site, port);
        self.entries.push(new);
        if self.entries.len() > MAX_ENTRIES {
            self.entries.remove(0);
        }
        true
    }

    /// Forgets a mapping; says whether it was known.
    pub(super) fn remove(&mut self, site: &Site, port: u16) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !(entry.is_at(site) && entry.port == port));
        self.entries.len() != before
    }
}

impl Entry {
    pub(super) fn is_at(&self, site: &Site) -> bool {
        self.gateway == site.gateway.ip && self.source == site.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::Gateway;

    fn site(last: u8) -> Site {
        let (ip, source) = ([192, 168, last, 1].into(), [192, 168, last, 5].into());
        Site { gateway: Gateway { ip, source, ifindex: 2, interface: "eth0".to_owned() }, source }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let mut record = Record::default();
        assert!(record.to_bytes().is_empty());
        assert!(record.put(&site(1), 51820, [7; 12], None));
        assert!(record.put(&site(1), 51820, [7; 12], Some("5.6.7.8:51820".parse().unwrap())));
        assert!(!record.put(&site(1), 51820, [7; 12], Some("5.6.7.8:51820".parse().unwrap())), "no news");
        let read = Record::from_bytes(&record.to_bytes());
        assert_eq!(read, record);
        assert_eq!(read.find(&site(1), 51820).unwrap().nonce, [7; 12]);
        assert!(read.find(&site(2), 51820).is_none() && read.find(&site(1), 51821).is_none());
        assert!(record.remove(&site(1), 51820) && record.entries.is_empty());
    }

    #[test]
    fn it_is_bounded_and_junk_is_nothing() {
        let mut record = Record::default();
        for last in 0..100 {
            record.put(&site(last), 51820, [last; 12], Some("[2001:db8::ffff:1]:65535".parse().unwrap()));
        }
        assert_eq!(record.entries.len(), MAX_ENTRIES);
        assert!(record.to_bytes().len() < crate::MAX_MEMORY);
        for junk in [&b"\xff\xff"[..], b"mapping = 1", b"", b"[[mapping]]\nport = 70000"] {
            assert_eq!(Record::from_bytes(junk), Record::default());
        }
    }
}
