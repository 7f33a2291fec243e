use std::net::UdpSocket;
use std::time::Duration;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn one(text: &str) -> BatchSocket {
    BatchSocket::bind_group(address(text), 1).unwrap().remove(0)
}

fn receiver(text: &str) -> UdpSocket {
    let socket = UdpSocket::bind(text).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Receives until there are so many datagrams.
fn receive(pool: &mut Pool, poller: &mut Poller, socket: &BatchSocket, datagrams: usize) {
    let mut ready = Vec::new();
    while pool.bursts().iter().flat_map(Burst::datagrams).count() < datagrams {
        poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
        assert!(!ready.is_empty(), "nothing came: {:?}", pool.bursts());
        pool.receive(socket, 64).unwrap();
    }
}

fn watched(socket: &BatchSocket) -> Poller {
    let poller = Poller::new().unwrap();
    poller.add(socket, 0).unwrap();
    poller
}

fn whole(pool: &Pool, to: SocketAddr) -> (Vec<Part>, Vec<Message>) {
    let parts: Vec<Part> = pool.bursts().iter().flat_map(Burst::datagrams).collect();
    let messages = pool.bursts().iter().flat_map(|burst| burst.datagrams().map(move |_| burst.to));
    let messages = messages.zip(0..).map(|(from, first)| Message {
        to,
        from,
        first,
        parts: 1,
        segment: None,
        outcome: Outcome::Waiting,
    });
    let messages = messages.collect();
    (parts, messages)
}

#[test]
fn datagrams_pass_through_a_pool_from_the_address_that_they_came_to() {
    for (bound, asked, client) in [
        ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
        ("127.0.0.3:0", "127.0.0.3", "127.0.0.1:0"),
        ("[::]:0", "::1", "[::1]:0"),
    ] {
        let socket = one(bound);
        let asked = SocketAddr::new(asked.parse().unwrap(), socket.local_addr().port());
        let client = receiver(client);
        for datagram in [&b"one"[..], b"", b"three"] {
            client.send_to(datagram, asked).unwrap();
        }
        let (mut pool, mut poller) = (Pool::new(8), watched(&socket));
        receive(&mut pool, &mut poller, &socket, 3);
        for burst in pool.bursts() {
            assert_eq!((burst.from, burst.to), (client.local_addr().unwrap(), asked.ip()));
        }
        let (parts, mut messages) = whole(&pool, client.local_addr().unwrap());
        socket.send(&mut SendScratch::new(), &pool, &parts, &mut messages);
        assert!(messages.iter().all(|message| message.outcome == Outcome::Sent));
        let mut buffer = [0; 16];
        for datagram in [&b"one"[..], b"", b"three"] {
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (datagram, asked));
        }
    }
}

#[test]
fn a_run_leaves_as_one_message_and_arrives_whole() {
    let (near, far) = (one("127.0.0.1:0"), one("127.0.0.1:0"));
    assert!(near.segments(), "the tests need a kernel with UDP_SEGMENT");
    let source = receiver("127.0.0.1:0");
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| vec![n; if n == 9 { 77 } else { 1200 }]).collect();
    for payload in &payloads {
        source.send_to(payload, near.local_addr()).unwrap();
    }
    let mut pool = Pool::new(32);
    receive(&mut pool, &mut watched(&near), &near, 10);
    let parts: Vec<Part> = pool.bursts().iter().map(Burst::whole).collect();
    let mut messages = [Message {
        to: far.local_addr(),
        from: near.local_addr().ip(),
        first: 0,
        parts: u32::try_from(parts.len()).unwrap(),
        segment: Some(1200),
        outcome: Outcome::Waiting,
    }];
    near.send(&mut SendScratch::new(), &pool, &parts, &mut messages);
    assert_eq!(messages[0].outcome, Outcome::Sent);
    pool.clear();
    receive(&mut pool, &mut watched(&far), &far, 10);
    assert_eq!(pool.bursts().len(), 1, "the kernel hands a run over as one burst: {:?}", pool.bursts());
    let arrived: Vec<&[u8]> =
        pool.bursts().iter().flat_map(Burst::datagrams).map(|it| pool.bytes(it)).collect();
    assert_eq!(arrived, payloads);
}

#[test]
fn a_run_that_does_not_fit_the_way_goes_apart_and_whole() {
    let socket = one("127.0.0.1:0");
    let (client, source) = (receiver("127.0.0.1:0"), receiver("127.0.0.1:0"));
    let payload = vec![7; 65_000]; // no segment of this size fits a loopback frame of 64 KiB with a second
    for _ in 0..2 {
        source.send_to(&payload[..30_000], socket.local_addr()).unwrap();
    }
    let mut pool = Pool::new(4);
    receive(&mut pool, &mut watched(&socket), &socket, 2);
    let (parts, mut messages) = whole(&pool, client.local_addr().unwrap());
    messages.truncate(1);
    messages[0].parts = 2;
    messages[0].segment = Some(30_000);
    socket.send(&mut SendScratch::new(), &pool, &parts, &mut messages);
    assert!(matches!(messages[0].outcome, Outcome::Sent | Outcome::SentApart), "{messages:?}");
    let mut buffer = vec![0; 65_536];
    for _ in 0..2 {
        assert_eq!(client.recv_from(&mut buffer).unwrap().0, 30_000);
    }
}

#[test]
fn one_that_cannot_be_sent_does_not_stop_the_others() {
    let socket = one("127.0.0.1:0");
    let client = receiver("127.0.0.1:0");
    for n in 0..3 {
        client.send_to(&[n], socket.local_addr()).unwrap();
    }
    let mut pool = Pool::new(4);
    receive(&mut pool, &mut watched(&socket), &socket, 3);
    let (parts, mut messages) = whole(&pool, client.local_addr().unwrap());
    messages[1].to = address("[2001:db8::1]:9");
    socket.send(&mut SendScratch::new(), &pool, &parts, &mut messages);
    let outcomes: Vec<Outcome> = messages.iter().map(|message| message.outcome).collect();
    assert_eq!(outcomes, [Outcome::Sent, Outcome::Lost, Outcome::Sent]);
    let mut buffer = [0; 4];
    assert_eq!(client.recv(&mut buffer).unwrap(), 1);
    assert_eq!(client.recv(&mut buffer).map(|_| buffer[0]).unwrap(), 2);
}

#[test]
fn a_group_shares_one_port_and_nobody_else_joins_it() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let group = BatchSocket::bind_group(address(any), 2).unwrap();
        let local = group[0].local_addr();
        assert_eq!(local, group[1].local_addr());
        let error = BatchSocket::bind_group(local, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // Of many flows, each of the two gets some.
        let clients: Vec<UdpSocket> =
            (0..32).map(|_| UdpSocket::bind(SocketAddr::new(local.ip(), 0)).unwrap()).collect();
        for client in &clients {
            client.send_to(b"x", local).unwrap();
        }
        let mut counts = [0, 0];
        for (count, socket) in counts.iter_mut().zip(&group) {
            let (mut pool, mut poller, mut ready) = (Pool::new(64), watched(socket), Vec::new());
            poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
            *count = pool.receive(socket, 64).unwrap();
        }
        assert!(counts[0] > 0 && counts[1] > 0 && counts[0] + counts[1] == 32, "{counts:?}");
    }
}

#[test]
fn a_wake_ends_a_wait_without_a_socket() {
    let mut poller = Poller::new().unwrap();
    let waker = poller.waker();
    let other = std::thread::spawn(move || waker.wake());
    let mut ready = vec![7];
    poller.wait(&mut ready, None).unwrap();
    assert!(ready.is_empty());
    other.join().unwrap();
    poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
}
