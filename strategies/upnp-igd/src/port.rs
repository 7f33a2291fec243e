//! A mapping for IPv4.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;
use wireplug_core::is_global;
use wireplug_strategy::Context;
use wireplug_strategy::mapping::{Ask, Checked, Grant, MapError, Patience};

use crate::description::Kind;
use crate::link::Link;
use crate::service::{self, Service};
use crate::wire::{CallError, Control, Entry, Outside, code};
use crate::{Known, Upnp, inner, refused};

/// How many requests for a mapping are made in one call, whatever the router answers.
const MAX_TRIES: usize = 6;
/// How long a STUN server may take to say our outer address where the router does not know it.
const STAND_IN: Duration = Duration::from_secs(3);
/// How long the router may take to say whose a mapping is before it is deleted in a hurry.
const LAST_LOOK: Duration = Duration::from_millis(150);

/// Makes or renews the mapping.
pub(crate) async fn map(upnp: &Upnp, context: Context, ask: &Ask) -> Result<Grant, MapError> {
    let gateway = ask.site.gateway.ip;
    let link = Link::new(context.clone(), ask);
    // The outer address first: where it is worth nothing, nothing is left on the router.
    let (mut service, outside) = found(upnp, &link, ask).await?;
    let outside = match outside {
        Outside::Public(ip) => ip,
        Outside::Private(ip) => {
            let why = format!("its outer address is {ip}");
            return Err(MapError::DoubleNat { gateway, why });
        }
        Outside::Unknown => stand_in(context).await.ok_or_else(|| MapError::Denied {
            gateway,
            why: "it does not know its outer address, and no STUN server says it: it may be offline"
                .to_owned(),
            retry_after: None,
        })?,
    };
    let granted = add(&link, &mut service, ask).await;
    if granted.is_err() {
        // Perhaps another service or device does better; and a router that was changed is found anew.
        upnp.forget(&ask.site);
    }
    let (port, lease) = granted?;
    upnp.learn(Known { site: ask.site.clone(), service: service.clone(), pinhole: None });
    Ok(Grant { external: SocketAddr::new(outside, port), lease, epoch: None, version: service.version })
}

/// Asks the router for the mapping and for its outer address.
pub(crate) async fn check(upnp: &Upnp, context: Context, ask: &Ask) -> Result<Checked, MapError> {
    let link = Link::new(context, ask);
    let Some(external) = ask.external else {
        return Ok(Checked { holds: false, external: None, epoch: None });
    };
    let (outside, entry) = look(upnp, &link, ask, external.port()).await?;
    let holds = match entry {
        Ok(entry) => Whose::of(&entry, ask) == Whose::Ours,
        Err(error) if error.code() == Some(code::NO_SUCH_ENTRY) => false,
        Err(CallError::Http(error)) => return Err(refused(ask, &error.into())),
        // It cannot say; most can.
        Err(CallError::Refused { .. } | CallError::Unreadable) => true,
    };
    let external = match outside {
        Outside::Public(ip) | Outside::Private(ip) => Some(ip),
        Outside::Unknown => None,
    };
    Ok(Checked { holds, external, epoch: None })
}

/// Deletes the mapping, unless it is another's by now.
pub(crate) async fn unmap(upnp: &Upnp, context: Context, ask: &Ask) -> Result<(), MapError> {
    let link = Link::new(context, ask);
    let service = match upnp.known(&ask.site) {
        Some(known) => known.service,
        None => service::wan(&link, ask.patience).await?.0,
    };
    let control = service.control(&link);
    let port = ask.external.map_or_else(|| ask.first_choice(), |external| external.port());
    let look = control.entry(port);
    let look = if ask.patience == Patience::Last { timeout(LAST_LOOK, look).await } else { Ok(look.await) };
    let is_ours = match look {
        Ok(Ok(entry)) => Whose::of(&entry, ask).is_at_us(),
        Ok(Err(error)) if error.code() == Some(code::NO_SUCH_ENTRY) => return Ok(()),
        // Where it cannot say, what we were granted is ours; what was only asked for may be anybody's.
        Ok(Err(_)) | Err(_) => ask.external.is_some(),
    };
    if !is_ours {
        return Ok(());
    }
    control.remove(port).await.map_err(|error| refused(ask, &error))
}

/// Asks the service in use, else the best one, where it is and for an entry: both at once, as this is done every few
/// minutes.
async fn look(
    upnp: &Upnp,
    link: &Link,
    ask: &Ask,
    port: u16,
) -> Result<(Outside, Result<Entry, CallError>), MapError> {
    if let Some(Known { service, .. }) = upnp.known(&ask.site) {
        let control = service.control(link);
        if let (Ok(outside), entry) = futures_util::join!(control.outside(), control.entry(port)) {
            return Ok((outside, entry));
        }
        // A router that restarted may be at another port.
        upnp.forget(&ask.site);
    }
    let (service, outside) = found(upnp, link, ask).await?;
    Ok((outside, service.control(link).entry(port).await))
}

/// The service in use and where it says that it is; else the best one.
async fn found(upnp: &Upnp, link: &Link, ask: &Ask) -> Result<(Service, Outside), MapError> {
    if let Some(Known { service, .. }) = upnp.known(&ask.site) {
        if let Ok(outside) = service.control(link).outside().await {
            return Ok((service, outside));
        }
        upnp.forget(&ask.site);
    }
    let (service, outside) = service::wan(link, ask.patience).await?;
    upnp.learn(Known { site: ask.site.clone(), service: service.clone(), pinhole: None });
    Ok((service, outside))
}

/// Our outer address as a STUN server sees it: the mapping's port there is a guess, which the server must prove
/// like any other.
async fn stand_in(mut context: Context) -> Option<IpAddr> {
    let server = context.situation().servers.into_iter().find(|server| server.primary.is_ipv4())?;
    let answer = timeout(STAND_IN, context.binding(server.primary)).await.ok()?.ok()?;
    Some(answer.mapped.ip()).filter(|ip| ip.is_ipv4() && is_global(*ip))
}

/// Adds the mapping at a port that the router takes, and reads it back.
async fn add(link: &Link, service: &mut Service, ask: &Ask) -> Result<(u16, Option<Duration>), MapError> {
    let gateway = ask.site.gateway.ip;
    let denied = |why| MapError::Denied { gateway, why, retry_after: None };
    let mut ports = ports(ask).into_iter();
    let mut port = ports.next().unwrap_or(ask.other_port);
    let mut lease = u32::try_from(ask.lease.as_secs()).unwrap_or(u32::MAX);
    if service.only_permanent {
        lease = 0;
    }
    // AddAnyPortMapping is IGD 2's, and for the first time: a renewal must not move the mapping.
    let mut any = matches!(service.kind, Kind::Ip(2..)) && ask.external.is_none();
    // Whether an entry of our own was deleted, to be made anew: a renewal can be refused, or spoil the entry.
    let mut replaced = false;
    let mut last = denied("it refuses every port".to_owned());
    for _ in 0..MAX_TRIES {
        let control = service.control(link);
        let outcome = if any {
            control.add_any(port, inner(ask), lease).await
        } else {
            control.add(port, inner(ask), lease).await.map(|()| port)
        };
        let error = match outcome {
            Ok(granted) => match read_back(&control, ask, granted, lease).await {
                Ok(lease) => return Ok((granted, lease)),
                Err(wrong) => {
                    last = denied(wrong.why);
                    if wrong.deleted && !std::mem::replace(&mut replaced, true) {
                        port = granted;
                    } else if let Some(next) = ports.next() {
                        port = next;
                    } else {
                        break;
                    }
                    continue;
                }
            },
            Err(error) => error,
        };
        last = refused(ask, &error);
        let next = match error.code() {
            // What the code of an unknown or half-known action means differs too much between routers.
            Some(_) if any => {
                any = false;
                Some(port)
            }
            Some(code::ONLY_PERMANENT | code::INVALID_ARGS) if lease != 0 => {
                lease = 0;
                service.only_permanent = true;
                Some(port)
            }
            Some(code::SAME_PORTS) if port != ask.port => Some(ask.port),
            Some(code::CONFLICT)
                if !replaced && ask.external.is_some() && clear(&control, ask, port).await =>
            {
                replaced = true;
                Some(port)
            }
            Some(code::CONFLICT | code::OTHER_MECHANISM | code::NO_PORTS) => ports.next(),
            _ => None,
        };
        match next {
            Some(next) => port = next,
            None => break,
        }
    }
    Err(last)
}

/// The ports to try in turn: never 0, which means all of them, and none below 1024.
fn ports(ask: &Ask) -> Vec<u16> {
    let [a, b, c, d, ..] = ask.nonce;
    // The mapping's own secret is as good a source as any: the dynamic range (RFC 6335 section 6).
    let more = [[a, b], [c, d]].map(|pair| 0xc000 | u16::from_be_bytes(pair));
    let mut ports = vec![ask.first_choice(), ask.other_port];
    ports.extend(more);
    ports.retain(|port| *port >= 1024);
    ports.dedup();
    ports
}

/// Whom an entry leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    /// To us, but to another port, or it is switched off.
    Crooked,
    /// To somebody else.
    Theirs(IpAddr),
}

impl Whose {
    /// What an entry does not tell is taken to be right.
    fn of(entry: &Entry, ask: &Ask) -> Self {
        match entry {
            Entry { client: Some(client), .. } if *client != ask.site.source => Self::Theirs(*client),
            Entry { port: Some(port), .. } if *port != ask.port => Self::Crooked,
            Entry { enabled: false, .. } => Self::Crooked,
            _ => Self::Ours,
        }
    }

    fn is_at_us(self) -> bool {
        matches!(self, Self::Ours | Self::Crooked)
    }
}

/// Deletes an entry if it is surely ours; whether that was done.
async fn clear(control: &Control<'_>, ask: &Ask, port: u16) -> bool {
    match control.entry(port).await {
        Ok(entry) if entry.client == Some(ask.site.source) => control.remove(port).await.is_ok(),
        Ok(_) | Err(_) => false,
    }
}

/// What is wrong with a mapping that was granted.
struct Wrong {
    why: String,
    /// It was ours, and is no more.
    deleted: bool,
}

/// Looks at what was really added, and says for how long it holds, or what is wrong with it. What is wrong and ours is
/// deleted.
async fn read_back(
    control: &Control<'_>,
    ask: &Ask,
    port: u16,
    lease: u32,
) -> Result<Option<Duration>, Wrong> {
    let wrong = |why, deleted| Err(Wrong { why, deleted });
    let asked = (lease != 0).then(|| Duration::from_secs(lease.into()));
    let entry = match control.entry(port).await {
        Ok(entry) => entry,
        Err(error) if error.code() == Some(code::NO_SUCH_ENTRY) => {
            return wrong(format!("it agreed to map port {port}, but does not list it"), false);
        }
        // It cannot say; the server's probe will.
        Err(_) => return Ok(asked),
    };
    match Whose::of(&entry, ask) {
        Whose::Ours => {}
        Whose::Crooked => {
            let deleted = control.remove(port).await.is_ok();
            let inner = entry.port.unwrap_or_default();
            return wrong(
                format!("it maps port {port} to our port {inner} instead of {}", ask.port),
                deleted,
            );
        }
        Whose::Theirs(client) => {
            return wrong(format!("it maps port {port} to {client} instead of us"), false);
        }
    }
    // Some tell 0 for what they do not know, and no router keeps a mapping longer than it was asked to.
    let told = Duration::from_secs(entry.lease.into());
    Ok(asked.map(|asked| if told.is_zero() { asked } else { told.min(asked) }))
}
