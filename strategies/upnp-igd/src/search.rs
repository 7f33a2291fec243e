//! Who on the link says that it is a gateway.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use wireplug_strategy::Letters;
use wireplug_strategy::mapping::Patience;

use crate::link::{Link, Place};
use crate::ssdp::{GROUP_V4, GROUP_V6, PORT, TARGETS, location, search};

/// The most descriptions that are looked at.
const MAX_PLACES: usize = 4;
/// How many datagrams are read: a flood costs no more.
const MAX_DATAGRAMS: usize = 64;
/// How long others are waited for, once the router itself has answered: it may have told one place of two.
const AFTER_ROUTER: Duration = Duration::from_millis(40);
/// The same once somebody else has answered: the router is preferred, and may be slower.
const AFTER_OTHER: Duration = Duration::from_millis(300);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Where descriptions are, the router's first.
    pub(crate) places: Vec<Seen>,
    /// What was not believed, in words.
    pub(crate) refused: Option<String>,
}

/// A place that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) place: Place,
    /// Whether the router itself told it.
    pub(crate) by_router: bool,
}

/// Whom a search is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Router,
    Everybody,
}

/// When is sent what, in milliseconds: first to the router alone, because multicast is broken on some links and in
/// some routers, then to everybody, because some routers hear nothing else; both again, because datagrams get lost.
fn plan(patience: Patience) -> (&'static [(u64, To)], u64) {
    match patience {
        Patience::First => {
            (&[(0, To::Router), (120, To::Everybody), (350, To::Router), (500, To::Everybody)], 1000)
        }
        Patience::Known => (
            &[
                (0, To::Router),
                (120, To::Everybody),
                (400, To::Router),
                (800, To::Everybody),
                (1500, To::Router),
                (1500, To::Everybody),
            ],
            2500,
        ),
        Patience::Last => (&[(0, To::Router), (60, To::Everybody)], 250),
    }
}

/// Searches for gateways.
///
/// # Errors
/// What the system says, where nothing could be sent at all.
pub(crate) async fn find(link: &Link, patience: Patience) -> io::Result<Found> {
    let socket = link.letters()?;
    let started = Instant::now();
    let at = |millis| started + Duration::from_millis(millis);
    let (plan, end) = plan(patience);
    let mut plan = plan.iter().peekable();
    let mut end = at(end);
    let mut found = Found::default();
    let mut datagrams = 0;
    let mut error = None;
    let mut sent = false;
    while Instant::now() < end && datagrams < MAX_DATAGRAMS {
        if let Some((_, to)) = plan.next_if(|(millis, _)| at(*millis) <= Instant::now()) {
            match send(link, &*socket, *to).await {
                Ok(()) => sent = true,
                Err(why) => error = Some(why),
            }
            continue;
        }
        let next = plan.peek().map_or(end, |(millis, _)| at(*millis).min(end));
        match timeout_at(next, socket.receive_from()).await {
            Ok(Ok((datagram, from))) => {
                datagrams += 1;
                if let Some(by_router) = found.take(link, &datagram, from) {
                    let wait = if by_router { AFTER_ROUTER } else { AFTER_OTHER };
                    end = end.min(Instant::now() + wait);
                }
            }
            // An error that belongs to a datagram sent before; the answers may still come.
            Ok(Err(why)) => {
                datagrams += 1;
                error = Some(why);
            }
            Err(_) => {}
        }
    }
    found.places.sort_by_key(|seen| !seen.by_router);
    found.places.truncate(MAX_PLACES);
    match error {
        Some(error) if !sent => Err(error),
        _ => Ok(found),
    }
}

async fn send(link: &Link, socket: &dyn Letters, to: To) -> io::Result<()> {
    let ip = match (to, link.gateway()) {
        (To::Router, ip) => ip,
        (To::Everybody, IpAddr::V4(_)) => GROUP_V4.into(),
        (To::Everybody, IpAddr::V6(_)) => GROUP_V6.into(),
    };
    let to = link.socket_address(ip, PORT);
    for target in TARGETS {
        socket.send_to(&search(to, target), to).await?;
    }
    Ok(())
}

impl Found {
    /// Takes an answer; from whatever port, but of this link. Says whether it is news, and then whether it is the
    /// router's.
    fn take(&mut self, link: &Link, datagram: &[u8], from: SocketAddr) -> Option<bool> {
        if !link.has(from.ip()) {
            return None;
        }
        let url = location(datagram)?;
        match link.place(None, &url) {
            Ok(place) => {
                let by_router = from.ip() == link.gateway() || place.at.ip() == link.gateway();
                let known = self.places.iter().any(|seen| seen.place == place);
                // A flood of others does not hide the router.
                let room =
                    by_router || self.places.iter().filter(|seen| !seen.by_router).count() < MAX_PLACES;
                let news = !known && room && self.places.len() < 2 * MAX_PLACES;
                if news {
                    self.places.push(Seen { place, by_router });
                }
                news.then_some(by_router)
            }
            Err(bad) => {
                self.refused = Some(format!("{} says where its description is, but {bad}", from.ip()));
                None
            }
        }
    }
}
