//! A service's actions.
//!
//! `igd-next` writes and reads those that it has: `AddPortMapping`, `DeletePortMapping`, `GetExternalIPAddress`, the
//! pinholes. It is given a transport of ours ([`Wire`]) that is bounded, keeps to the link, and hands it tidy answers,
//! since it wants no white space and the standard's prefixes. Beside it stand the actions that it lacks:
//! `GetStatusInfo`, `GetSpecificPortMappingEntry`, and `AddAnyPortMapping` with a port of our choice.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use igd_next::aio::{Gateway, Provider};
use igd_next::{
    AddPortError, GetExternalIpError, PinholeError, PortMappingProtocol, RemovePortError, RequestError,
};
use wireplug_core::is_global;

use crate::http::{self, HttpError};
use crate::link::{Link, Place};
use crate::soap::{self, Reply};

/// What a mapping is called in the router's own list.
const DESCRIPTION: &str = "wireplug";

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The router did not speak.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// It refused.
    #[error("UPnP error {code} ({})", meaning(*.code, says))]
    Refused {
        /// UPnP's code.
        code: u16,
        /// Its words.
        says: String,
    },
    /// It answered something.
    #[error("its answer cannot be read")]
    Unreadable,
}

impl CallError {
    /// UPnP's code, if it gave one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Http(_) | Self::Unreadable => None,
        }
    }
}

/// WANIPConnection:2 section 2.5 and WANIPv6FirewallControl:1 section 2.4: the codes that are acted upon.
pub(crate) mod code {
    pub(crate) const INVALID_ARGS: u16 = 402;
    pub(crate) const NO_SUCH_ENTRY: u16 = 714;
    pub(crate) const CONFLICT: u16 = 718;
    pub(crate) const SAME_PORTS: u16 = 724;
    pub(crate) const ONLY_PERMANENT: u16 = 725;
    pub(crate) const NO_PORTS: u16 = 728;
    pub(crate) const OTHER_MECHANISM: u16 = 729;
}

/// What a code means, for a person; else the router's own words.
fn meaning(code: u16, says: &str) -> String {
    let known = match code {
        401 => "the router does not know this action",
        402 => "invalid arguments",
        501 => "the router failed",
        606 => "not allowed; if the router has a list of devices that may map ports, add this one",
        701 => "no more room for pinholes",
        702 => "its firewall is off",
        703 => "pinholes are not allowed; switch them on there",
        704 | 714 => "no such entry",
        718 => "all ports that were tried are taken",
        724 => "the outer port must be the inner one, which is taken",
        725 => "only mappings without an end",
        728 | 729 => "no port is free",
        _ => return says.to_owned(),
    };
    known.to_owned()
}

/// Where a router says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outside {
    /// Behind another NAT.
    Private(IpAddr),
    /// It does not know, or says what cannot be: nothing, 0.0.0.0, itself.
    Unknown,
    /// On the internet.
    Public(IpAddr),
}

impl Outside {
    fn new(ip: IpAddr) -> Self {
        match ip {
            ip if is_global(ip) => Self::Public(ip),
            ip if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() => Self::Unknown,
            ip => Self::Private(ip),
        }
    }
}

/// An entry of a router's table, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) client: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) enabled: bool,
    /// In seconds; 0 is no end, or not known.
    pub(crate) lease: u32,
}

/// A service to speak with.
pub(crate) struct Control<'a> {
    pub(crate) link: &'a Link,
    pub(crate) place: &'a Place,
    pub(crate) service: &'a str,
}

impl Control<'_> {
    /// `GetExternalIPAddress`. Whatever is answered is an answer: some routers cannot do this, but map.
    pub(crate) async fn outside(&self) -> Result<Outside, HttpError> {
        match self.igd(async |gateway| gateway.get_external_ip().await).await {
            Ok(ip) => Ok(Outside::new(ip)),
            Err(GetExternalIpError::ActionNotAuthorized) => Ok(Outside::Unknown),
            Err(GetExternalIpError::RequestError(error)) => match failed(error) {
                CallError::Http(error) => Err(error),
                CallError::Refused { .. } | CallError::Unreadable => Ok(Outside::Unknown),
            },
        }
    }

    /// `GetStatusInfo`: whether it is connected, as far as it tells; `None` where it does not tell.
    pub(crate) async fn is_connected(&self) -> Option<bool> {
        let values = self.own("GetStatusInfo", &[]).await.ok()?;
        let status = values.get("NewConnectionStatus")?;
        // The standard knows Connected; routers say Up as well.
        let up = ["connected", "up"].iter().any(|up| status.eq_ignore_ascii_case(up));
        let down =
            ["disconnected", "down", "unconfigured"].iter().any(|down| status.eq_ignore_ascii_case(down));
        (up || down).then_some(up)
    }

    /// `AddPortMapping`, for anybody who sends to the outer port. `lease` in seconds, 0 for no end.
    pub(crate) async fn add(&self, outer: u16, inner: SocketAddr, lease: u32) -> Result<(), CallError> {
        let udp = PortMappingProtocol::UDP;
        let refused = |code, says: &str| CallError::Refused { code, says: says.to_owned() };
        self.igd(async |gateway| gateway.add_port(udp, outer, inner, lease, DESCRIPTION).await).await.map_err(
            |error| match error {
                AddPortError::PortInUse => refused(code::CONFLICT, ""),
                AddPortError::SamePortValuesRequired => refused(code::SAME_PORTS, ""),
                AddPortError::OnlyPermanentLeasesSupported => refused(code::ONLY_PERMANENT, ""),
                AddPortError::ActionNotAuthorized => refused(606, ""),
                AddPortError::DescriptionTooLong => refused(605, "the description is too long"),
                AddPortError::InternalPortZeroInvalid | AddPortError::ExternalPortZeroInvalid => {
                    refused(code::INVALID_ARGS, "")
                }
                AddPortError::RequestError(error) => failed(error),
            },
        )
    }

    /// `AddAnyPortMapping` (WANIPConnection:2 section 2.5.20): the same, but the router may choose another port, which
    /// is returned.
    pub(crate) async fn add_any(&self, outer: u16, inner: SocketAddr, lease: u32) -> Result<u16, CallError> {
        let arguments = [
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", outer.to_string()),
            ("NewProtocol", PortMappingProtocol::UDP.to_string()),
            ("NewInternalPort", inner.port().to_string()),
            ("NewInternalClient", inner.ip().to_string()),
            ("NewEnabled", "1".to_owned()),
            ("NewPortMappingDescription", DESCRIPTION.to_owned()),
            ("NewLeaseDuration", lease.to_string()),
        ];
        let values = self.own("AddAnyPortMapping", &arguments).await?;
        let port = values.get("NewReservedPort").and_then(|port| port.parse().ok());
        port.filter(|port| *port != 0).ok_or(CallError::Unreadable)
    }

    /// `GetSpecificPortMappingEntry`.
    pub(crate) async fn entry(&self, outer: u16) -> Result<Entry, CallError> {
        let arguments = [
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", outer.to_string()),
            ("NewProtocol", PortMappingProtocol::UDP.to_string()),
        ];
        let values = self.own("GetSpecificPortMappingEntry", &arguments).await?;
        let value = |name: &str| values.get(name).map(String::as_str);
        let off = value("NewEnabled").is_some_and(|on| matches!(on, "0" | "false" | "no"));
        Ok(Entry {
            client: value("NewInternalClient").and_then(|client| client.parse().ok()),
            port: value("NewInternalPort").and_then(|port| port.parse().ok()),
            enabled: !off,
            lease: value("NewLeaseDuration").and_then(|lease| lease.parse().ok()).unwrap_or(0),
        })
    }

    /// `DeletePortMapping`; one that is gone already is as good as deleted.
    pub(crate) async fn remove(&self, outer: u16) -> Result<(), CallError> {
        match self.igd(async |gateway| gateway.remove_port(PortMappingProtocol::UDP, outer).await).await {
            Ok(()) | Err(RemovePortError::NoSuchPortMapping) => Ok(()),
            Err(RemovePortError::ActionNotAuthorized) => {
                Err(CallError::Refused { code: 606, says: String::new() })
            }
            Err(RemovePortError::RequestError(error)) => Err(failed(error)),
        }
    }

    /// `AddPinhole`, for anybody. Returns the router's number of it.
    pub(crate) async fn add_pinhole(&self, inner: SocketAddrV6, lease: u32) -> Result<u16, CallError> {
        let udp = PortMappingProtocol::UDP;
        self.igd(async |gateway| gateway.add_pinhole(udp, inner, lease).await).await.map_err(pinhole)
    }

    /// `UpdatePinhole`.
    pub(crate) async fn update_pinhole(&self, id: u16, lease: u32) -> Result<(), CallError> {
        self.igd(async |gateway| gateway.update_pinhole(id, lease).await).await.map_err(pinhole)
    }

    /// `DeletePinhole`; one that is gone already is as good as deleted.
    pub(crate) async fn remove_pinhole(&self, id: u16) -> Result<(), CallError> {
        match self.igd(async |gateway| gateway.remove_pinhole(id).await).await {
            Ok(()) | Err(PinholeError::NoSuchEntry) => Ok(()),
            Err(error) => Err(pinhole(error)),
        }
    }

    /// An action that igd-next lacks.
    async fn own(
        &self,
        action: &str,
        arguments: &[(&str, String)],
    ) -> Result<BTreeMap<String, String>, CallError> {
        let envelope = soap::envelope(self.service, action, arguments);
        let header = format!("\"{}#{action}\"", self.service);
        match exchange(self.link, self.place, action, &header, &envelope).await? {
            Reply::Done(values) => Ok(values),
            Reply::Fault { code, says } => Err(CallError::Refused { code, says }),
        }
    }

    /// An action that igd-next has.
    async fn igd<T, F: Future<Output = T>>(&self, action: impl FnOnce(Gateway<Wire>) -> F) -> T {
        let gateway = Gateway {
            addr: self.place.at,
            root_url: String::new(),
            // Where to is told by WAY.
            control_url: "/".to_owned(),
            control_schema_url: String::new(),
            // The standard's arguments in the standard's order: no router wants others, and asking each for its own
            // list costs two more round trips and one more parser.
            control_schema: schema(),
            service_type: self.service.to_owned(),
            ipv6_firewall_control_url: Some("/".to_owned()),
            provider: Wire,
        };
        WAY.scope((self.link.clone(), self.place.clone()), action(gateway)).await
    }
}

tokio::task_local! {
    /// Whom [`Wire`] speaks with: igd-next gives it nothing but a URL.
    static WAY: (Link, Place);
}

/// igd-next's transport.
struct Wire;

impl Provider for Wire {
    async fn send_async(_url: &str, header: &str, envelope: &str) -> Result<String, RequestError> {
        let way = WAY.try_with(Clone::clone);
        let (link, place) = way.map_err(|_| RequestError::InvalidResponse("no way".to_owned()))?;
        let action = header.rsplit('#').next().unwrap_or_default().trim_matches('"').to_owned();
        match exchange(&link, &place, &action, header, envelope).await {
            Ok(Reply::Done(values)) => Ok(soap::tidy(&action, &values)),
            Ok(Reply::Fault { code, says }) => Err(RequestError::ErrorCode(code, says)),
            Err(CallError::Http(error)) => Err(RequestError::IoError(io::Error::other(error))),
            Err(error) => Err(RequestError::InvalidResponse(error.to_string())),
        }
    }
}

async fn exchange(
    link: &Link,
    place: &Place,
    action: &str,
    header: &str,
    envelope: &str,
) -> Result<Reply, CallError> {
    let answer = http::post(link, place, header, envelope).await?;
    match soap::read(action, &answer.body) {
        Some(reply) => Ok(reply),
        None if answer.status != 200 => Err(HttpError::Status(answer.status).into()),
        None => Err(CallError::Unreadable),
    }
}

/// What igd-next's error means.
fn failed(error: RequestError) -> CallError {
    match error {
        RequestError::ErrorCode(code, says) => CallError::Refused { code, says },
        RequestError::IoError(error) => match error.downcast::<HttpError>() {
            Ok(error) => CallError::Http(error),
            Err(error) => CallError::Http(HttpError::Io(error)),
        },
        _ => CallError::Unreadable,
    }
}

fn pinhole(error: PinholeError) -> CallError {
    let code = match error {
        PinholeError::ActionNotAuthorized => 606,
        PinholeError::PinholeSpaceExhausted => 701,
        PinholeError::FirewallDisabled => 702,
        PinholeError::InboundPinholeNotAllowed => 703,
        PinholeError::NoSuchEntry => 704,
        PinholeError::InvalidLeaseDuration => code::INVALID_ARGS,
        PinholeError::FirewallControlUnavailable => return CallError::Unreadable,
        PinholeError::RequestError(error) => return failed(error),
    };
    CallError::Refused { code, says: String::new() }
}

/// WANIPConnection:1 sections 2.4.16 and 2.4.18: the arguments of the actions, in their order.
fn schema() -> std::collections::HashMap<String, Vec<String>> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    [
        (
            "AddPortMapping",
            owned(&[
                "NewRemoteHost",
                "NewExternalPort",
                "NewProtocol",
                "NewInternalPort",
                "NewInternalClient",
                "NewEnabled",
                "NewPortMappingDescription",
                "NewLeaseDuration",
            ]),
        ),
        ("DeletePortMapping", owned(&["NewRemoteHost", "NewExternalPort", "NewProtocol"])),
    ]
    .map(|(action, arguments)| (action.to_owned(), arguments))
    .into()
}
