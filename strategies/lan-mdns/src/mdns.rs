//! Multicast DNS by `mdns-sd`: one responder with its own thread for each link.
//!
//! One for each link, because a service's addresses on two links must not be mixed (link-local ones of both would be
//! told on both), and because each link then has a name of its own. The library sends nothing of itself once its two
//! announcements are out: it answers those who ask.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::pending;
use mdns_sd::{DaemonEvent, IfKind, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::time::timeout;
use wireplug_strategy::BoxFuture;

use crate::link::Link;
use crate::multicast::{CannotJoin, Heard, Joined, Listening, Multicast, Service};
use crate::name::Name;

/// The type and domain of our services (RFC 6763 section 7).
const SERVICE_TYPE: &str = "_wireplug._udp.local.";

/// How long the thread may take to say goodbye.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// The system's own multicast DNS port, by `mdns-sd`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealMulticast;

impl Multicast for RealMulticast {
    fn join(&self, link: &Link, service: &Service) -> Result<Box<dyn Joined>, CannotJoin> {
        if !is_lan(link) {
            return Err(CannotJoin::NotALan { interface: link.interface.clone() });
        }
        match OnLink::open(link, service) {
            Ok(joined) => Ok(Box::new(joined)),
            Err(error) => {
                Err(CannotJoin::Failed { interface: link.interface.clone(), why: error.to_string() })
            }
        }
    }
}

/// Whether a link has neighbours that multicast reaches.
fn is_lan(link: &Link) -> bool {
    let Ok(mut all) = getifaddrs() else { return false };
    all.find(|one| one.interface_name == link.interface).is_some_and(|one| {
        one.flags.contains(InterfaceFlags::IFF_MULTICAST | InterfaceFlags::IFF_BROADCAST)
            && !one.flags.intersects(InterfaceFlags::IFF_POINTOPOINT | InterfaceFlags::IFF_LOOPBACK)
    })
}

/// One running responder.
struct OnLink {
    daemon: ServiceDaemon,
    news: Receiver<DaemonEvent>,
    heard: Option<Receiver<ServiceEvent>>,
}

impl OnLink {
    fn open(link: &Link, service: &Service) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        // From here on, dropping it ends the thread.
        let this = Self { news: daemon.monitor()?, daemon, heard: None };
        this.daemon.disable_interface(IfKind::All)?;
        this.daemon.enable_interface(vec![IfKind::IndexV4(link.ifindex), IfKind::IndexV6(link.ifindex)])?;
        // Changes of the network are heard of from the daemon, which then makes a new responder.
        this.daemon.set_ip_check_interval(0)?;
        this.daemon.register(service_info(link, service)?)?;
        Ok(this)
    }
}

/// The announcement as the library wants it.
fn service_info(link: &Link, service: &Service) -> Result<ServiceInfo, mdns_sd::Error> {
    let mut info = ServiceInfo::new(
        SERVICE_TYPE,
        &service.name.to_string(),
        &format!("{}.local.", service.host),
        link.announced.as_slice(),
        service.port,
        None,
    )?;
    // Asking whether somebody has the name already (RFC 6762 section 8.1) takes 0.75 s; 96 random bits tell sooner.
    info.set_requires_probe(false);
    Ok(info)
}

impl Joined for OnLink {
    fn listen(&mut self, how: Listening) {
        // Stopping empties the library's memory of our service type: what is remembered is asked for again and again.
        let heard = self.daemon.stop_browse(SERVICE_TYPE).and_then(|()| match how {
            Listening::Asking => self.daemon.browse(SERVICE_TYPE),
            Listening::Quietly => self.daemon.browse_cache(SERVICE_TYPE),
        });
        self.heard = heard.ok();
    }

    fn next(&mut self) -> BoxFuture<'_, Heard> {
        Box::pin(async move {
            loop {
                let Some(heard) = &self.heard else { return Heard::Deaf };
                tokio::select! {
                    event = heard.recv_async() => {
                        let Ok(event) = event else {
                            self.heard = None;
                            return Heard::Deaf;
                        };
                        if let Some(heard) = translate(event) {
                            return heard;
                        }
                    }
                    event = self.news.recv_async() => match event {
                        Ok(DaemonEvent::Announce(..)) => return Heard::Announced,
                        Ok(_) => {}
                        // The other channel ends too, and that is told.
                        Err(_) => pending::<()>().await,
                    },
                }
            }
        })
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // It says goodbye for every service before it ends.
            if let Ok(ended) = self.daemon.shutdown() {
                let _ = timeout(LEAVE_WITHIN, ended.recv_async()).await;
            }
        })
    }
}

impl Drop for OnLink {
    fn drop(&mut self) {
        // Its thread would run for ever. It fails only where the thread has ended.
        let _ = self.daemon.shutdown();
    }
}

fn translate(event: ServiceEvent) -> Option<Heard> {
    match event {
        ServiceEvent::ServiceResolved(service) => {
            let addresses: Vec<IpAddr> =
                service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
            Some(Heard::There { name: name_of(&service.fullname)?, port: service.port, addresses })
        }
        ServiceEvent::ServiceRemoved(_, fullname) => Some(Heard::Gone(name_of(&fullname)?)),
        _ => None,
    }
}

/// The first label of a service's full name, if it is a name of ours.
fn name_of(fullname: &str) -> Option<Name> {
    fullname.split_once('.')?.0.parse().ok()
}
