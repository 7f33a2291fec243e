//! Strategy `pcp`: a mapping (IPv4) or a pinhole in the firewall (IPv6) that a router makes for the WireGuard port by
//! PCP (RFC 6887).
//!
//! When, for how long and what happens to it is `wireplug_strategy::mapping`'s. Here is the protocol: `protocol` is
//! the bytes, this file asks.
//!
//! What it leaves on the router is one UDP mapping for IPv4 and one pinhole for each IPv6 address in use, deleted on
//! stop and gone with their leases otherwise. It never asks for another host (`THIRD_PARTY`).

#[doc(hidden)]
pub mod fuzzing;
mod protocol;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::mapping::{self, Ask, Checked, EpochRule, Grant, MapError, Protocol, Site, exchange};
use wireplug_strategy::options;
use wireplug_strategy::{
    BoxFuture, ConfigError, Context, Datagrams, Dial, Gateway, Listen, Registration, Situation, Strategy,
};

use protocol::request::{Request, Suggestion};
use protocol::response::{Body, Mapped, Response, ResultCode};
use protocol::{CLIENT_PORT, OPCODE_MAP, SERVER_PORT};

const SERVICE: &str = "PCP";

/// RFC 6887 section 14.1.2: where a server tells all clients on the link that it restarted.
const NOTICE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
const NOTICE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

inventory::submit! {
    Registration {
        name: "pcp",
        tier: Tier::Mapped,
        about: "a mapping or pinhole for the WireGuard port that the router makes by PCP",
        options: &mapping::OPTIONS,
        build,
    }
}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    Ok(mapping::strategy(Pcp, options::parse(table, &mapping::OPTIONS)?))
}

/// The protocol, for [`mapping::strategy`].
struct Pcp;

impl Protocol for Pcp {
    fn title(&self) -> &'static str {
        SERVICE
    }

    fn epoch_rule(&self) -> EpochRule {
        EpochRule::Pcp
    }

    fn sites(&self, situation: &Situation) -> Vec<Site> {
        mapping::sites_with_pinholes(situation)
    }

    fn map(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Grant, MapError>> {
        Box::pin(async move {
            let suggested = match ask.external {
                Some(external) => Suggestion::Address(external),
                None => Suggestion::Port(ask.first_choice()),
            };
            let seconds = u32::try_from(ask.lease.as_secs()).unwrap_or(u32::MAX);
            let (answer, mapped) = asked_to_map(&context, &ask, seconds, suggested).await?;
            Ok(Grant {
                external: mapped.external,
                lease: Some(Duration::from_secs(answer.lifetime.into())),
                epoch: Some(answer.epoch),
                version: "PCP 2".to_owned(),
            })
        })
    }

    /// ANNOUNCE tells whether the server lost its table. (Another MAP would tell of the mapping itself, but it is a
    /// renewal, which RFC 6887 section 11.2.1 wants no earlier than at half of the lease.)
    fn check(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Checked, MapError>> {
        Box::pin(async move {
            let socket = dial(&context, &ask)?;
            let question = Request::Announce { client: ask.site.source }.encode();
            let answer = exchange(&*socket, &question, ask.patience, SERVICE, &ask.site, |datagram| {
                let read = Response::decode(datagram)?;
                match read.body {
                    Body::Announce | Body::NatPmp => Some(read),
                    Body::Error { opcode, .. } => (opcode != OPCODE_MAP).then_some(read),
                    Body::Map(_) => None,
                }
            });
            let answer = answer.await?;
            match answer.body {
                // A server that knows no ANNOUNCE tells its seconds all the same.
                Body::Announce | Body::Error { .. } => {
                    Ok(Checked { holds: true, external: None, epoch: Some(answer.epoch) })
                }
                Body::Map(_) | Body::NatPmp => Err(speaks_nat_pmp(&ask)),
            }
        })
    }

    fn unmap(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<(), MapError>> {
        Box::pin(async move { asked_to_map(&context, &ask, 0, Suggestion::Port(0)).await.map(drop) })
    }

    fn notice(&self, context: Context, gateway: Gateway) -> BoxFuture<'static, u32> {
        Box::pin(async move {
            let group = if gateway.ip.is_ipv4() { NOTICE_V4 } else { NOTICE_V6 };
            let Ok(ear) = context.listen(&Listen { gateway, group, port: CLIENT_PORT }) else {
                return std::future::pending().await;
            };
            while let Ok(datagram) = ear.receive().await {
                if let Some(Response { epoch, body: Body::Announce, .. }) = Response::decode(&datagram) {
                    return epoch;
                }
            }
            std::future::pending().await
        })
    }
}

fn dial(context: &Context, ask: &Ask) -> Result<Arc<dyn Datagrams>, MapError> {
    let Ask { site, fwmark, .. } = ask;
    let (gateway, source) = (site.gateway.clone(), site.source);
    let dial = Dial { gateway, source, port: SERVER_PORT, fwmark: *fwmark };
    context.dial(&dial).map_err(|error| site.failed(SERVICE, &error))
}

/// Asks for a mapping, or for its end with no seconds.
async fn asked_to_map(
    context: &Context,
    ask: &Ask,
    seconds: u32,
    suggested: Suggestion,
) -> Result<(Response, Mapped), MapError> {
    let (client, nonce, port) = (ask.site.source, ask.nonce, ask.port);
    let question = Request::Map { client, seconds, nonce, port, suggested }.encode();
    let socket = dial(context, ask)?;
    let gateway = ask.site.gateway.ip;
    let answer = exchange(&*socket, &question, ask.patience, SERVICE, &ask.site, |datagram| {
        let read = Response::decode(datagram)?;
        // RFC 6887 section 11.4: what is of another mapping is not for us.
        let ours = match read.body {
            Body::Map(mapped) => (mapped.nonce, mapped.port) == (nonce, port),
            Body::Error { opcode, of, .. } => opcode == OPCODE_MAP && of.is_none_or(|of| of == (nonce, port)),
            Body::NatPmp => true,
            Body::Announce => false,
        };
        ours.then_some(read)
    });
    let answer = answer.await?;
    match answer.body {
        Body::Map(mapped) => Ok((answer, mapped)),
        Body::NatPmp | Body::Announce => Err(speaks_nat_pmp(ask)),
        Body::Error { code: ResultCode::ADDRESS_MISMATCH, .. } => {
            let why = format!("it sees us under another address than {client}");
            Err(MapError::DoubleNat { gateway, why })
        }
        Body::Error { code: code @ ResultCode::UNSUPP_VERSION, .. } => {
            Err(MapError::Other { gateway, says: format!("answers {}", code.words()) })
        }
        Body::Error { code, .. } => {
            // RFC 6887 section 8.3: the error holds that long.
            let retry_after = Some(Duration::from_secs(answer.lifetime.into()));
            Err(MapError::Denied { gateway, why: code.words(), retry_after })
        }
    }
}

fn speaks_nat_pmp(ask: &Ask) -> MapError {
    let says = "speaks NAT-PMP instead of PCP: leave it to the strategy nat-pmp".to_owned();
    MapError::Other { gateway: ask.site.gateway.ip, says }
}
