use super::*;

const PEER: PublicKey = PublicKey::from_bytes([1; 32]);
const OTHER: PublicKey = PublicKey::from_bytes([2; 32]);
const PEERS: [PublicKey; 2] = [PEER, OTHER];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link() -> Link {
    use wireplug_strategy::{Situation, kit::address};
    let addresses = vec![address(ip("192.168.1.5"), 24), address(ip("fe80::5"), 64)];
    crate::link::links(&Situation { addresses, ..Situation::default() }).remove(0)
}

fn name(key: &PublicKey, nonce: u16) -> Name {
    let mut bytes = [0; 12];
    bytes[..2].copy_from_slice(&nonce.to_be_bytes());
    Name::new(key, bytes)
}

struct Reader {
    book: Book,
    now: Instant,
}

impl Reader {
    fn new() -> Self {
        let now = Instant::now();
        Self { book: Book::new(now), now }
    }

    fn hears(&mut self, name: Name, addresses: &[&str]) -> Taken {
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        self.book.heard(self.now, 2, name, (9, addresses), PEERS.iter())
    }

    fn reachable(&self) -> Vec<String> {
        let link = link();
        let reachable = self.book.reachable(self.now, &[&link]);
        reachable.into_iter().map(|(peer, endpoint)| format!("{} {endpoint}", peer.as_bytes()[0])).collect()
    }
}

#[test]
fn a_peer_is_recognised_and_a_stranger_is_not() {
    let mut reader = Reader::new();
    reader.hears(name(&OTHER, 1), &["192.168.1.7", "10.0.0.7", "192.168.1.5"]);
    reader.hears(name(&PublicKey::from_bytes([3; 32]), 2), &["192.168.1.8"]);
    assert_eq!(reader.reachable(), ["2 192.168.1.7:9"]);
    reader.book.gone(2, name(&OTHER, 1));
    assert!(reader.reachable().is_empty());
}

#[test]
fn a_link_local_address_counts_only_where_there_is_no_other() {
    let mut reader = Reader::new();
    reader.hears(name(&PEER, 1), &["fe80::7"]);
    assert!(reader.reachable().is_empty(), "another one may come");
    assert_eq!(reader.book.next_timeout(reader.now), Some(reader.now + LINK_LOCAL_WAITS));
    reader.now += LINK_LOCAL_WAITS;
    assert_eq!(reader.reachable(), ["1 [fe80::7%2]:9"]);
    reader.hears(name(&PEER, 1), &["fe80::7", "192.168.1.7"]);
    assert_eq!(reader.reachable(), ["1 192.168.1.7:9"]);
}

#[test]
fn who_does_not_answer_when_asked_has_gone() {
    let mut reader = Reader::new();
    reader.hears(name(&PEER, 1), &["192.168.1.7"]);
    reader.hears(name(&OTHER, 1), &["192.168.1.8"]);
    reader.book.ask(reader.now);
    reader.hears(name(&OTHER, 1), &["192.168.1.8"]);
    assert_eq!(reader.reachable().len(), 2, "both stand until the time is over");
    reader.now += CONFIRM_WITHIN;
    reader.book.handle_timeout(reader.now);
    assert_eq!(reader.reachable(), ["2 192.168.1.8:9"]);
    assert_eq!(reader.book.next_timeout(reader.now), None);

    reader.book.ask(reader.now);
    reader.book.stop_asking();
    reader.now += 10 * CONFIRM_WITHIN;
    reader.book.handle_timeout(reader.now);
    assert_eq!(reader.reachable(), ["2 192.168.1.8:9"], "nobody was asked for long enough");
}

#[test]
fn of_a_peers_many_names_the_newest_count() {
    let mut reader = Reader::new();
    for nonce in 1..=9 {
        reader.now += Duration::from_secs(1);
        reader.hears(name(&PEER, nonce), &[&format!("192.168.1.{}", 10 + nonce)]);
    }
    assert_eq!(reader.reachable().len(), MAX_NAMES_OF_PEER);
    assert!(reader.reachable().contains(&"1 192.168.1.19:9".to_owned()));
}

#[test]
fn a_flood_of_strangers_costs_bounded_work_and_memory_and_pushes_no_peer_out() {
    let mut reader = Reader::new();
    reader.hears(name(&PEER, 1), &["192.168.1.7"]);
    let stranger = PublicKey::from_bytes([3; 32]);
    let taken = (0..10_000).filter(|nonce| reader.hears(name(&stranger, *nonce), &[]) == Taken::Yes).count();
    assert_eq!(taken, MAC_BURST as usize / PEERS.len() - 1);
    assert_eq!(reader.book.entries.len(), MAX_NAMES);
    assert_eq!(reader.reachable(), ["1 192.168.1.7:9"]);
    assert_eq!(reader.hears(name(&OTHER, 1), &["192.168.1.8"]), Taken::Later);
    reader.now += Duration::from_secs(1);
    assert_eq!(reader.hears(name(&OTHER, 1), &["192.168.1.8"]), Taken::Yes);
    assert_eq!(reader.reachable().len(), 2);
}

#[test]
fn names_of_former_peers_and_links_are_forgotten() {
    let mut reader = Reader::new();
    reader.hears(name(&PEER, 1), &["192.168.1.7"]);
    reader.hears(name(&OTHER, 1), &["192.168.1.8"]);
    reader.book.follow_peers(|key| *key == OTHER);
    assert_eq!(reader.reachable(), ["2 192.168.1.8:9"]);
    reader.book.retain_links(|ifindex| ifindex == 3);
    assert!(reader.reachable().is_empty());
}
