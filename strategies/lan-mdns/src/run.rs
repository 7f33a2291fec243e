//! The event loop: joins and leaves links, listens, and says what was heard.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, pending, select_all};
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use wireplug_core::{Endpoint, PublicKey, Reach, RemoteCandidate, Tier};
use wireplug_strategy::{BoxFuture, Context, Failure, Situation};

use crate::book::{Book, Taken};
use crate::link::{Link, links};
use crate::multicast::{CannotJoin, Heard, Joined, Listening, Multicast, Service};
use crate::name::Name;

/// A name is used for 18 to 24 hours, at random, so that nobody can follow a host by the hour at which its name
/// changes.
const NAME_LIFE: Duration = Duration::from_hours(18);
const NAME_LIFE_JITTER_MS: u32 = 6 * 3600 * 1000;

/// How long a link is left alone that said too much, or that could not be heard.
const DEAF_PAUSE: Duration = Duration::from_mins(1);

/// How long after hearing something quietly the library's memory is emptied, or it would ask whether that still
/// holds. Long enough for one announcement over IPv4 and IPv6.
const QUIET_AGAIN: Duration = Duration::from_secs(2);

/// How long to wait before names are looked at for which there was no time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long an announcement may take before that is told.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(5);

/// Runs until it is cancelled.
pub(crate) async fn run(multicast: Arc<dyn Multicast>, mut context: Context) -> Result<(), Failure> {
    let ending = context.clone();
    let mut run = Run::new(multicast, &mut context)?;
    run.follow(context.situation())?;
    loop {
        let now = Instant::now();
        run.handle_timeout(now)?;
        run.tell(now);
        let next = run.next_timeout(now);
        let timer = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ending.cancelled() => break,
            () = context.changed() => run.follow(context.situation())?,
            (ifindex, heard) = hear(&mut run.present) => run.heard(ifindex, heard),
            Some(()) = run.leaving.next() => {}
            () = timer => {}
        }
    }
    run.leave_all().await;
    Ok(())
}

/// One run of the strategy.
struct Run {
    context: Context,
    multicast: Arc<dyn Multicast>,
    situation: Situation,
    present: Vec<Present>,
    leaving: FuturesUnordered<BoxFuture<'static, ()>>,
    book: Book,
    said: BTreeSet<(PublicKey, Endpoint)>,
    noted: String,
    rename_at: Instant,
    listen_again: Option<Instant>,
}

/// A link of this host.
struct Present {
    link: Link,
    state: Presence,
}

enum Presence {
    /// It has no neighbours.
    NotALan,
    /// It is left alone until then.
    Resting { until: Instant },
    /// Our service is announced there.
    Announcing { joined: Box<dyn Joined>, name: Name, since: Instant, announced: bool },
}

/// The next news of any link.
async fn hear(present: &mut [Present]) -> (u32, Heard) {
    let joined = present.iter_mut().filter_map(|present| match &mut present.state {
        Presence::Announcing { joined, .. } => {
            let ifindex = present.link.ifindex;
            Some(Box::pin(async move { (ifindex, joined.next().await) }))
        }
        Presence::NotALan | Presence::Resting { .. } => None,
    });
    let joined: Vec<_> = joined.collect();
    if joined.is_empty() { pending().await } else { select_all(joined).await.0 }
}

impl Run {
    fn new(multicast: Arc<dyn Multicast>, context: &mut Context) -> Result<Self, Failure> {
        let now = Instant::now();
        Ok(Self {
            multicast,
            situation: Situation::default(),
            context: context.clone(),
            present: Vec::new(),
            leaving: FuturesUnordered::new(),
            book: Book::new(now),
            said: BTreeSet::new(),
            noted: String::new(),
            rename_at: now + name_life()?,
            listen_again: None,
        })
    }

    /// The world is another one.
    fn follow(&mut self, situation: Situation) -> Result<(), Failure> {
        let now = Instant::now();
        let old = std::mem::replace(&mut self.situation, situation);
        let new = &self.situation;
        let elsewhere = old.generation != new.generation;
        if elsewhere {
            self.book.clear();
            self.said.clear();
            self.noted.clear();
        }
        let peers_differ = !old.peers.iter().map(|peer| peer.public_key).eq(self.peers());
        if peers_differ {
            let is_peer = |key: &PublicKey| new.peers.iter().any(|peer| peer.public_key == *key);
            self.book.follow_peers(is_peer);
        }
        let service_differs = (old.listen_port, old.public_key) != (new.listen_port, new.public_key);
        if elsewhere || service_differs {
            self.leave();
        }
        self.settle_links(now)?;
        let wanted_differs = old.wanted != self.situation.wanted;
        if wanted_differs || peers_differ {
            self.listen(now);
        }
        Ok(())
    }

    /// Joins the links that are there and leaves the others.
    fn settle_links(&mut self, now: Instant) -> Result<(), Failure> {
        let is_of_use = self.situation.listen_port != 0 && !self.situation.peers.is_empty();
        let key = self.situation.public_key.filter(|_| is_of_use);
        let wanted = key.map(|key| (key, links(&self.situation)));
        let is_wanted =
            |present: &Present| wanted.as_ref().is_some_and(|(_, links)| links.contains(&present.link));
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.present).into_iter().partition(is_wanted);
        self.present = stay;
        for present in go {
            self.part_with(present);
        }
        for (key, link) in
            wanted.into_iter().flat_map(|(key, links)| links.into_iter().map(move |link| (key, link)))
        {
            if self.present.iter().all(|present| present.link.ifindex != link.ifindex) {
                let state = self.join(now, &key, &link)?;
                self.present.push(Present { link, state });
            }
        }
        let present = &self.present;
        self.book.retain_links(|ifindex| present.iter().any(|present| present.link.ifindex == ifindex));
        Ok(())
    }

    /// Announces us on a link under a new name.
    fn join(&mut self, now: Instant, key: &PublicKey, link: &Link) -> Result<Presence, Failure> {
        let name = Name::new(key, random()?);
        let host = format!("{:016x}", u64::from_ne_bytes(random()?));
        let service = Service { name, host, port: self.situation.listen_port };
        match self.multicast.join(link, &service) {
            Ok(mut joined) => {
                joined.listen(self.listening());
                if self.situation.wanted {
                    self.book.ask(now);
                }
                Ok(Presence::Announcing { joined, name, since: now, announced: false })
            }
            Err(CannotJoin::NotALan { .. }) => Ok(Presence::NotALan),
            Err(error @ CannotJoin::Failed { .. }) => Err(Failure(error.to_string())),
        }
    }

    fn listening(&self) -> Listening {
        if self.situation.wanted { Listening::Asking } else { Listening::Quietly }
    }

    /// Listens on all links as is wanted now, and so is told again what is known.
    fn listen(&mut self, now: Instant) {
        let how = self.listening();
        for present in &mut self.present {
            if let Presence::Announcing { joined, .. } = &mut present.state {
                joined.listen(how);
            }
        }
        match how {
            Listening::Asking => self.book.ask(now),
            Listening::Quietly => self.book.stop_asking(),
        }
        self.listen_again = None;
    }

    fn heard(&mut self, ifindex: u32, heard: Heard) {
        let now = Instant::now();
        let is_ours = |name: Name| {
            let mut links = self.present.iter();
            links.any(
                |present| matches!(&present.state, Presence::Announcing { name: ours, .. } if *ours == name),
            )
        };
        match heard {
            Heard::There { name, port, addresses } if !is_ours(name) => {
                let peers: Vec<_> = self.situation.peers.iter().map(|peer| &peer.public_key).collect();
                let taken = self.book.heard(now, ifindex, name, (port, addresses), peers.into_iter());
                match (taken, self.situation.wanted) {
                    (Taken::Later, _) => self.listen_again_at(now + LOOK_AGAIN),
                    (Taken::Yes, false) => self.listen_again_at(now + QUIET_AGAIN),
                    (Taken::Yes, true) => {}
                }
            }
            Heard::There { .. } => {}
            Heard::Gone(name) => self.book.gone(ifindex, name),
            Heard::Announced => {
                for present in self.present.iter_mut().filter(|present| present.link.ifindex == ifindex) {
                    if let Presence::Announcing { announced, .. } = &mut present.state {
                        *announced = true;
                    }
                }
            }
            Heard::Deaf => {
                let Some(at) = self.present.iter().position(|present| present.link.ifindex == ifindex) else {
                    return;
                };
                let present = self.present.remove(at);
                let link = present.link.clone();
                self.part_with(present);
                self.present.push(Present { link, state: Presence::Resting { until: now + DEAF_PAUSE } });
            }
        }
    }

    fn listen_again_at(&mut self, at: Instant) {
        self.listen_again = Some(self.listen_again.map_or(at, |before| before.min(at)));
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        self.book.handle_timeout(now);
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen(now);
        }
        if self.rename_at <= now {
            self.rename_at = now + name_life()?;
            self.leave();
        }
        let rested =
            |present: &Present| !matches!(present.state, Presence::Resting { until } if until <= now);
        self.present.retain(rested);
        self.settle_links(now)
    }

    fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let of_links = self.present.iter().filter_map(|present| match &present.state {
            Presence::NotALan => None,
            Presence::Resting { until } => Some(*until),
            Presence::Announcing { since, announced, .. } => {
                Some(*since + ANNOUNCE_WITHIN).filter(|at| !announced && *at > now)
            }
        });
        let rename = Some(self.rename_at).filter(|_| !self.present.is_empty());
        of_links.chain(self.book.next_timeout(now)).chain(self.listen_again).chain(rename).min()
    }

    /// Says what differs from what was said before.
    fn tell(&mut self, now: Instant) {
        let links: Vec<&Link> = self.present.iter().map(|present| &present.link).collect();
        let reachable = self.book.reachable(now, &links);
        let generation = self.situation.generation;
        for (peer, endpoint) in self.said.difference(&reachable) {
            self.context.withdraw(generation, *peer, *endpoint);
        }
        for (peer, endpoint) in reachable.difference(&self.said) {
            let candidate = RemoteCandidate {
                endpoint: *endpoint,
                strategy: self.context.name().clone(),
                tier: Tier::Lan,
                reach: Reach::Filtered,
            };
            self.context.suggest(generation, *peer, candidate);
        }
        self.said = reachable;
        if let Some(words) = self.words(now)
            && words != self.noted
        {
            self.context.note(generation, words.clone());
            self.noted = words;
        }
    }

    /// How it goes, as soon as that is known: "announced on eth0; hears 1 of 2 peers".
    fn words(&self, now: Instant) -> Option<String> {
        let (mut announced, mut silent) = (Vec::new(), Vec::new());
        for Present { link, state } in &self.present {
            match state {
                Presence::Announcing { announced: true, .. } => announced.push(link.interface.as_str()),
                Presence::Announcing { since, .. } if *since + ANNOUNCE_WITHIN <= now => {
                    silent.push(link.interface.as_str());
                }
                Presence::Resting { .. } => silent.push(link.interface.as_str()),
                Presence::Announcing { .. } | Presence::NotALan => {}
            }
        }
        let heard: BTreeSet<&PublicKey> = self.said.iter().map(|(peer, _)| peer).collect();
        let (heard, peers) = (heard.len(), self.situation.peers.len());
        let has_lan = self.present.iter().any(|present| !matches!(present.state, Presence::NotALan));
        let mut parts = Vec::new();
        if !announced.is_empty() {
            parts.push(format!("announced on {}; hears {heard} of {peers} peers", announced.join(", ")));
        } else if !has_lan && self.situation.listen_port != 0 && peers != 0 {
            parts.push("this host is on no LAN".to_owned());
        }
        if !silent.is_empty() {
            parts.push(format!(
                "multicast DNS does not work on {}: is UDP port 5353 taken, or are there too many announcements?",
                silent.join(", ")
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn peers(&self) -> impl Iterator<Item = PublicKey> {
        self.situation.peers.iter().map(|peer| peer.public_key)
    }

    fn part_with(&mut self, present: Present) {
        if let Presence::Announcing { joined, .. } = present.state {
            self.leaving.push(joined.leave());
        }
    }

    /// Leaves all links; the leaving goes on by itself.
    fn leave(&mut self) {
        for present in std::mem::take(&mut self.present) {
            self.part_with(present);
        }
    }

    /// Leaves all links and waits until that is done.
    async fn leave_all(mut self) {
        self.leave();
        join_all(self.leaving).await;
    }
}

fn name_life() -> Result<Duration, Failure> {
    let jitter = u32::from_ne_bytes(random()?) % NAME_LIFE_JITTER_MS;
    Ok(NAME_LIFE + Duration::from_millis(jitter.into()))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Failure(format!("no names without randomness from the system: {error}"))),
    }
}
