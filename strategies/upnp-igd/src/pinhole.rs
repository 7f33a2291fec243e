//! A pinhole for IPv6: `WANIPv6FirewallControl`, which IGD 2 offers.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use wireplug_strategy::Context;
use wireplug_strategy::mapping::{Ask, Checked, Grant, MapError};

use crate::link::Link;
use crate::service::{self, Service};
use crate::wire::CallError;
use crate::{Known, Upnp, inner, refused};

/// WANIPv6FirewallControl:1 section 2.3.6: a pinhole's lease is a day at most.
const LONGEST: u32 = 86_400;

/// Opens or prolongs the pinhole.
pub(crate) async fn map(upnp: &Upnp, context: Context, ask: &Ask, own: Ipv6Addr) -> Result<Grant, MapError> {
    let link = Link::new(context, ask);
    let lease = u32::try_from(ask.lease.as_secs()).unwrap_or(LONGEST).clamp(1, LONGEST);
    let outcome = match upnp.known(&ask.site) {
        Some(known) => match prolong(&link, &known, ask.port, lease).await {
            Ok(()) => Ok(known),
            Err(_) => open(&link, known.service, ask, own, lease).await,
        },
        None => Err(CallError::Unreadable),
    };
    let known = if let Ok(known) = outcome {
        known
    } else {
        upnp.forget(&ask.site);
        let service = service::firewall(&link, ask.patience).await?;
        open(&link, service, ask, own, lease).await.map_err(|error| refused(ask, &error))?
    };
    upnp.learn(known.clone());
    Ok(Grant {
        external: inner(ask),
        lease: Some(Duration::from_secs(lease.into())),
        epoch: None,
        version: known.service.version,
    })
}

/// Prolongs the pinhole: there is no question whether it still is there that all routers know.
pub(crate) async fn check(upnp: &Upnp, context: Context, ask: &Ask) -> Result<Checked, MapError> {
    let link = Link::new(context, ask);
    let lease = u32::try_from(ask.lease.as_secs()).unwrap_or(LONGEST).clamp(1, LONGEST);
    let gone = Checked { holds: false, external: None, epoch: None };
    let Some(known) = upnp.known(&ask.site) else { return Ok(gone) };
    match prolong(&link, &known, ask.port, lease).await {
        Ok(()) => Ok(Checked { holds: true, ..gone }),
        Err(CallError::Refused { .. }) => Ok(gone),
        Err(error) => Err(refused(ask, &error)),
    }
}

/// Closes the pinhole. One whose number is not known is opened again first: the router answers with its number.
pub(crate) async fn unmap(upnp: &Upnp, context: Context, ask: &Ask, own: Ipv6Addr) -> Result<(), MapError> {
    let link = Link::new(context, ask);
    let known = match upnp.known(&ask.site) {
        Some(known @ Known { pinhole: Some((port, _)), .. }) if port == ask.port => Ok(known),
        Some(known) => open(&link, known.service, ask, own, 60).await,
        None => {
            let service = service::firewall(&link, ask.patience).await?;
            open(&link, service, ask, own, 60).await
        }
    };
    let known = known.map_err(|error| refused(ask, &error))?;
    if let Some((_, id)) = known.pinhole {
        let removed = known.service.control(&link).remove_pinhole(id).await;
        removed.map_err(|error| refused(ask, &error))?;
    }
    upnp.learn(Known { pinhole: None, ..known });
    Ok(())
}

async fn prolong(link: &Link, known: &Known, port: u16, lease: u32) -> Result<(), CallError> {
    match known.pinhole {
        Some((of, id)) if of == port => known.service.control(link).update_pinhole(id, lease).await,
        _ => Err(CallError::Unreadable),
    }
}

async fn open(
    link: &Link,
    service: Service,
    ask: &Ask,
    own: Ipv6Addr,
    lease: u32,
) -> Result<Known, CallError> {
    let inside = SocketAddrV6::new(own, ask.port, 0, 0);
    debug_assert_eq!(SocketAddr::from(inside), inner(ask));
    let id = service.control(link).add_pinhole(inside, lease).await?;
    Ok(Known { site: ask.site.clone(), service, pinhole: Some((ask.port, id)) })
}
