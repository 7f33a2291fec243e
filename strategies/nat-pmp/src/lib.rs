//! Strategy `nat-pmp`: a mapping that a router makes for the WireGuard port by NAT-PMP (RFC 6886).
//!
//! When, for how long and what happens to it is `wireplug_strategy::mapping`'s. Here is the protocol: the crate
//! `natpmp` makes and reads the bytes; its asynchronous client neither sends again nor gives up, cannot be bound to a
//! link, and takes whatever comes for the answer, so the module `client` brings the socket and all of that.
//!
//! What it leaves on the router is one UDP mapping, deleted on stop and gone with its lease otherwise.

mod client;
#[doc(hidden)]
pub mod fuzzing;
mod socket;

use std::net::{IpAddr, SocketAddr};

use natpmp::Error;
use wireplug_core::{Tier, is_global};
use wireplug_strategy::inventory;
use wireplug_strategy::mapping::{self, Ask, Checked, EpochRule, Grant, MapError, Protocol};
use wireplug_strategy::options;
use wireplug_strategy::{BoxFuture, ConfigError, Context, Gateway, Listen, Registration, Strategy};

use client::Client;

/// RFC 6886 section 3.2.1: a router tells its address, and so its seconds, to 224.0.0.1 port 5350.
const NOTICE_GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 1));
const NOTICE_PORT: u16 = 5350;

inventory::submit! {
    Registration {
        name: "nat-pmp",
        tier: Tier::Mapped,
        about: "a mapping of the WireGuard port that the router makes by NAT-PMP",
        options: &mapping::OPTIONS,
        build,
    }
}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    Ok(mapping::strategy(NatPmp, options::parse(table, &mapping::OPTIONS)?))
}

/// The protocol, for [`mapping::strategy`].
struct NatPmp;

impl Protocol for NatPmp {
    fn title(&self) -> &'static str {
        client::SERVICE
    }

    fn epoch_rule(&self) -> EpochRule {
        EpochRule::NatPmp
    }

    fn map(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Grant, MapError>> {
        Box::pin(async move {
            let client = Client::open(&context, &ask)?;
            // First its outer address: where that is worth nothing, there is nothing to leave behind.
            let outside = client.outside(ask.patience).await?;
            if !is_global(outside.ip.into()) {
                let why = format!("its outer address is {}", outside.ip);
                return Err(MapError::DoubleNat { gateway: ask.site.gateway.ip, why });
            }
            let granted = match client.map(ask.first_choice(), ask.lease).await {
                Err(Error::NATPMP_ERR_NETWORKFAILURE | Error::NATPMP_ERR_UNDEFINEDERROR) => {
                    client.map(ask.other_port, ask.lease).await
                }
                other => other,
            };
            let granted = granted.map_err(|error| client.failed(error))?;
            Ok(Grant {
                external: SocketAddr::new(outside.ip.into(), granted.port),
                lease: Some(granted.lease),
                epoch: Some(granted.epoch),
                version: client::SERVICE.to_owned(),
            })
        })
    }

    /// There is no question about one mapping. The seconds and the outer address tell whether all were lost.
    fn check(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Checked, MapError>> {
        Box::pin(async move {
            let outside = Client::open(&context, &ask)?.outside(ask.patience).await?;
            Ok(Checked { holds: true, external: Some(outside.ip.into()), epoch: Some(outside.epoch) })
        })
    }

    fn unmap(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<(), MapError>> {
        Box::pin(async move {
            let client = Client::open(&context, &ask)?;
            client.unmap(ask.patience).await.map_err(|error| client.failed(error))
        })
    }

    fn notice(&self, context: Context, gateway: Gateway) -> BoxFuture<'static, u32> {
        Box::pin(async move {
            let listen = Listen { gateway, group: NOTICE_GROUP, port: NOTICE_PORT };
            let Ok(ear) = context.listen(&listen) else { return std::future::pending().await };
            while let Ok(datagram) = ear.receive().await {
                if let Some(seconds) = client::announced(&datagram) {
                    return seconds;
                }
            }
            std::future::pending().await
        })
    }
}
