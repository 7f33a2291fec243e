//! Links with neighbours, without a network: multicast DNS for paused time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use wireplug_core::PublicKey;
use wireplug_lan_mdns::{
    CannotJoin, Heard, Joined, LanMdns, Link, Listening, Multicast, Name, NotAName, Service,
};
use wireplug_strategy::{BoxFuture, Registration};

/// How long a neighbour takes to answer.
pub(crate) const LATENCY: Duration = Duration::from_millis(40);

/// All links of one test, by the name of the interface that leads there.
#[derive(Clone, Default)]
pub(crate) struct Ether(Arc<Mutex<BTreeMap<String, Lan>>>);

/// One link.
#[derive(Default)]
struct Lan {
    neighbours: Vec<(Name, u16, Vec<IpAddr>)>,
    listeners: Vec<(Listening, mpsc::UnboundedSender<Heard>)>,
    announced: Vec<Service>,
    /// Services that were announced, ever.
    history: Vec<Service>,
    questions: usize,
    is_broken: bool,
    without_neighbours: bool,
}

impl Ether {
    fn lan<T>(&self, interface: &str, act: impl FnOnce(&mut Lan) -> T) -> T {
        act(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(interface.to_owned()).or_default())
    }

    /// Somebody comes and announces himself.
    pub(crate) fn comes(&self, interface: &str, name: Name, port: u16, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.lan(interface, |lan| {
            lan.neighbours.push((name, port, addresses.clone()));
            lan.tell(|_| true, &Heard::There { name, port, addresses });
        });
    }

    /// Somebody says goodbye, which only those hear of who remember him.
    pub(crate) fn goes(&self, interface: &str, name: Name) {
        self.lan(interface, |lan| {
            lan.neighbours.retain(|(known, _, _)| *known != name);
            lan.tell(|how| how == Listening::Asking, &Heard::Gone(name));
        });
    }

    /// Somebody is switched off.
    pub(crate) fn vanishes(&self, interface: &str, name: Name) {
        self.lan(interface, |lan| lan.neighbours.retain(|(known, _, _)| *known != name));
    }

    /// Nothing can be heard on the link any more, until it is joined anew.
    pub(crate) fn overflows(&self, interface: &str) {
        self.lan(interface, |lan| lan.listeners.clear());
    }

    pub(crate) fn breaks(&self, interface: &str) {
        self.lan(interface, |lan| lan.is_broken = true);
    }

    pub(crate) fn has_no_neighbours(&self, interface: &str) {
        self.lan(interface, |lan| lan.without_neighbours = true);
    }

    /// What is announced now.
    pub(crate) fn announced(&self, interface: &str) -> Vec<Service> {
        self.lan(interface, |lan| lan.announced.clone())
    }

    /// What was announced, ever.
    pub(crate) fn history(&self, interface: &str) -> Vec<Service> {
        self.lan(interface, |lan| lan.history.clone())
    }

    /// How often somebody began to ask.
    pub(crate) fn questions(&self, interface: &str) -> usize {
        self.lan(interface, |lan| lan.questions)
    }

    /// All that is announced anywhere, in words.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let lans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = lans.iter().filter(|(_, lan)| !lan.announced.is_empty());
        left.map(|(interface, lan)| format!("{} services on {interface}", lan.announced.len())).collect()
    }
}

impl Lan {
    fn tell(&mut self, whom: impl Fn(Listening) -> bool, heard: &Heard) {
        self.listeners.retain(|(how, listener)| !whom(*how) || listener.send(heard.clone()).is_ok());
    }
}

impl Multicast for Ether {
    fn join(&self, link: &Link, service: &Service) -> Result<Box<dyn Joined>, CannotJoin> {
        let interface = link.interface.clone();
        self.lan(&interface, |lan| {
            if lan.without_neighbours {
                return Err(CannotJoin::NotALan { interface: interface.clone() });
            }
            if lan.is_broken {
                return Err(CannotJoin::Failed { interface: interface.clone(), why: "a test".to_owned() });
            }
            lan.announced.push(service.clone());
            lan.history.push(service.clone());
            Ok(())
        })?;
        let (ether, service) = (self.clone(), service.clone());
        Ok(Box::new(Present { ether, interface, service, heard: None, has_told: false }))
    }
}

struct Present {
    ether: Ether,
    interface: String,
    service: Service,
    heard: Option<(Instant, mpsc::UnboundedReceiver<Heard>)>,
    has_told: bool,
}

impl Joined for Present {
    fn listen(&mut self, how: Listening) {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.ether.lan(&self.interface, |lan| {
            if how == Listening::Asking {
                lan.questions += 1;
                for (name, port, addresses) in lan.neighbours.clone() {
                    sender.send(Heard::There { name, port, addresses }).unwrap();
                }
            }
            lan.listeners.push((how, sender));
        });
        self.heard = Some((Instant::now() + LATENCY, receiver));
    }

    fn next(&mut self) -> BoxFuture<'_, Heard> {
        Box::pin(async move {
            if !self.has_told {
                self.has_told = true;
                return Heard::Announced;
            }
            let Some((from, receiver)) = &mut self.heard else { return Heard::Deaf };
            sleep_until(*from).await;
            receiver.recv().await.unwrap_or(Heard::Deaf)
        })
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::time::sleep(LATENCY).await;
            drop(self);
        })
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.ether.lan(&self.interface, |lan| lan.announced.retain(|service| *service != self.service));
    }
}

thread_local! {
    /// Every test has a thread of its own, and so an ether of its own.
    static ETHER: Ether = Ether::default();
}

/// The ether of this test.
pub(crate) fn ether() -> Ether {
    ETHER.with(Clone::clone)
}

/// The strategy on [`ether`].
pub(crate) static REGISTRATION: Registration =
    Registration { build: |table| LanMdns::build(table, Arc::new(ether())), ..LanMdns::REGISTRATION };

/// A name of this key.
pub(crate) fn name_of(key: &PublicKey, nonce: u8) -> Name {
    Name::new(key, [nonce; 12])
}

#[test]
fn a_name_reads_back() {
    let name = name_of(&PublicKey::from_bytes([1; 32]), 1);
    assert_eq!(name.to_string().parse::<Name>(), Ok(name));
    assert_eq!("x".parse::<Name>(), Err(NotAName));
}
