//! What one address, one pair and everybody together may have, and what is said when that is all.

use super::*;

#[test]
fn limits_are_told_and_freed() {
    let settings = Settings { allocations: 3, allocations_per_address: 2, ..Settings::default() };
    let mut world = World::new(settings);
    world.ask(1, Side::Low, 1, "198.51.100.1").unwrap();
    world.ask(2, Side::Low, 1, "198.51.100.1").unwrap();
    let refused = world.ask(3, Side::Low, 1, "198.51.100.1").unwrap_err();
    assert_eq!(refused, Refusal::AddressFull { retry_after: IDLE });
    world.ask(1, Side::Low, 1, "198.51.100.1").expect("what one has, one may ask for again");
    world.ask(1, Side::Low, 4, "198.51.100.1").expect("by another connection too");
    world.ask(3, Side::Low, 2, "2001:db8::1").unwrap();
    let refused = world.ask(4, Side::Low, 2, "2001:db8::2").unwrap_err();
    assert_eq!(refused, Refusal::Full { retry_after: IDLE });
    world.ask(3, Side::High, 3, "2001:db8::3").expect("the other side of a pair needs no new place");
    let refused = world.ask(2, Side::High, 3, "2001:db8::4").unwrap_err();
    assert_eq!(refused, Refusal::AddressFull { retry_after: IDLE }, "a /64 is one address");
    world.relay.release(world.now, &topic(2), Side::Low, Asker(1));
    world.ask(4, Side::Low, 1, "198.51.100.1").unwrap();
    assert_eq!(world.relay.counters().refused, 3);
}

#[test]
fn asking_too_often_is_told() {
    let asks = Rate { burst: 3, every: Duration::from_secs(10) };
    let mut world = World::new(Settings { asks, ..Settings::default() });
    for asker in 0..3 {
        world.ask(1, Side::Low, asker, "198.51.100.1").unwrap();
    }
    for _ in 0..10 {
        world.ask(1, Side::Low, 2, "198.51.100.1").expect("repetitions are free");
    }
    let Err(Refusal::TooOften { retry_after }) = world.ask(2, Side::Low, 9, "198.51.100.1") else { panic!() };
    world.ask(2, Side::Low, 9, "198.51.100.2").expect("another address is not meant");
    world.wait(retry_after);
    world.ask(3, Side::Low, 9, "198.51.100.1").unwrap();
}

#[test]
fn who_changes_bindings_all_the_time_is_told_to_stop_and_keeps_what_it_has() {
    let mut world = World::new(Settings::default());
    let (mut low, _) = world.pair(1);
    let mut last = LOW.to_owned();
    let refused = (1..100).find_map(|port| {
        let source = format!("192.0.2.1:{port}");
        match world.try_bind(&mut low, &source, RELAY).1 {
            Some(BindAnswer::Bound { .. }) => {
                last = source;
                None
            }
            other => other,
        }
    });
    assert_eq!(refused, Some(BindAnswer::Refused(BindRefusal::Full)));
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, &last));
    for _ in 0..100 {
        world.bind(&mut low, &last, RELAY);
    }
    world.wait(Duration::from_secs(2));
    world.bind(&mut low, LOW, RELAY);
}

#[test]
fn bandwidth_is_of_the_pair_and_of_the_relay() {
    let limit = |each, all| Settings { bandwidth: each, total_bandwidth: all, ..Settings::default() };
    for (settings, why) in [
        (limit(Some(8_000_000), None), Dropped::Bandwidth),
        (limit(None, Some(8_000_000)), Dropped::TotalBandwidth),
    ] {
        let mut world = World::new(settings);
        world.pair(1);
        let passed = |world: &World| {
            (0..10_000).take_while(|_| world.sized(LOW, RELAY, 1000) == to(RELAY, HIGH)).count()
        };
        assert!((200..=210).contains(&passed(&world)), "a fifth of a second at once");
        assert_eq!(world.packet(HIGH, RELAY), Went::Nowhere(why), "both directions count together");
        world.wait(Duration::from_millis(100));
        assert!((99..=101).contains(&passed(&world)));
    }
}

#[test]
fn a_flood_of_requests_gets_few_answers_and_leaves_others_theirs() {
    let mut world = World::new(Settings::default());
    let mut low = world.client(1, Side::Low);
    let stranger = Client {
        credential: Credential {
            id: CredentialId::from_bytes([9; 16]),
            key: CredentialKey::from_bytes([9; 32]),
        },
        order: 0,
    };
    let junk = request(&stranger.credential, ID, 1, None);
    let mut answers = 0;
    for number in 0..100_000u32 {
        let source = SocketAddr::new(std::net::Ipv4Addr::from_bits(number).into(), 1).to_string();
        answers += usize::from(world.hear(&junk, &source, RELAY).is_some());
    }
    assert!(answers <= 1024, "{answers}");
    let bare = request(&low.credential, ID, 1, None);
    assert!(world.hear(&bare, LOW, RELAY).is_some(), "who has a credential is challenged all the same");
    low.order = 1;
    world.bind(&mut low, LOW, RELAY);
}

#[test]
fn memory_of_idle_places_stays_below_a_kilobyte() {
    const PAIRS: u32 = 100_000;
    let settings = Settings {
        allocations: PAIRS as usize,
        allocations_per_address: usize::MAX,
        asks: Rate { burst: u32::MAX, every: Duration::from_nanos(1) },
        ..Settings::default()
    };
    let mut world = World::new(settings);
    let before = resident();
    let mut clients = Vec::with_capacity(2 * PAIRS as usize);
    for pair in 0..PAIRS {
        for side in [Side::Low, Side::High] {
            clients.push(world.client(pair, side));
        }
    }
    let own = clients.len() * size_of::<Client>();
    let asked = (resident() - before).saturating_sub(own) / PAIRS as usize;
    for (number, client) in (0u32..).zip(&clients) {
        let source = SocketAddr::new(std::net::Ipv4Addr::from_bits(number << 8).into(), 51820);
        let path = Path::new(source, addr(RELAY));
        let bind = UdpBind { id: client.credential.id, order: 1, path, socket: 0 };
        let binding = world.relay.bind_udp(world.now, bind, world.relay.own_counts());
        assert!(matches!(binding, Binding::Bound(_)), "{binding:?}");
    }
    let bound = (resident() - before).saturating_sub(own) / PAIRS as usize;
    println!("{asked} bytes for an allocation with two credentials, {bound} with both sides bound");
    assert!(asked < 1024 && bound < 1024, "{asked} {bound}");
}

/// Bytes of memory that this process uses.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
