//! The router's side of UPnP's descriptions and actions (WANIPConnection:1 and :2, WANIPv6FirewallControl:1).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::http::{Reply, answer};
use super::upnp::Renewal;
use super::{FakeMapping, Inner, Speech, now};

/// A lease without an end.
const FOR_GOOD: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What an action gives: the values of its answer, or an error's code.
type Outcome = Result<Vec<(&'static str, String)>, u16>;

impl Inner {
    /// A description of its services, within the devices that the standard wants around them.
    pub(super) fn description(&self) -> String {
        let script = &self.script.upnp;
        let mut services = String::new();
        for (number, service) in script.services.iter().enumerate() {
            let (kind, control) = (&service.kind, &script.control);
            // Writing to a String cannot fail.
            let _ = write!(
                services,
                "<service><serviceType>{kind}</serviceType><serviceId>urn:upnp-org:serviceId:{number}</serviceId>\
                 <controlURL>{control}{number}</controlURL><eventSubURL>/evt</eventSubURL><SCPDURL>/scpd.xml</SCPDURL>\
                 </service>"
            );
        }
        let base =
            script.url_base.as_ref().map(|base| format!("<URLBase>{base}</URLBase>")).unwrap_or_default();
        format!(
            "<?xml version=\"1.0\"?>\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device>\
             <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><modelName>Fake 1</modelName>\
             <deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>\
             <serviceList>{services}</serviceList></device></deviceList></device></deviceList></device></root>\n"
        )
    }

    pub(super) fn action(&mut self, from: IpAddr, path: &str, header: &str, body: &str) -> Reply {
        let script = &self.script.upnp;
        let number = path.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        let service = number.and_then(|number| script.services.get(number)).cloned();
        let action = header.trim_matches('"').rsplit('#').next().unwrap_or_default().to_owned();
        let named = service.as_ref().map(|service| format!("\"{}#{action}\"", service.kind));
        if script.hangs.contains(&action) {
            return Reply::Never;
        }
        if let Some(status) = script.breaks.get(&action) {
            return Reply::Whole(answer(*status, "<html>no</html>"));
        }
        let (Some(service), true) = (service, named.as_deref() == Some(header)) else {
            return self.fault(401);
        };
        if let Some(code) = script.refuses.get(&action) {
            return self.fault(*code);
        }
        let outcome = match action.as_str() {
            "GetStatusInfo" => match service.status {
                Some(status) => Ok(vec![("NewConnectionStatus", status), ("NewUptime", "60".to_owned())]),
                None => return Reply::Whole(answer(500, "")),
            },
            "GetExternalIPAddress" => {
                let outside = service.outside.unwrap_or_else(|| self.script.outside.to_string());
                Ok(vec![("NewExternalIPAddress", outside)])
            }
            "AddPortMapping" => self.add(from, body, false),
            "AddAnyPortMapping" if service.kind.ends_with(":2") => self.add(from, body, true),
            "GetSpecificPortMappingEntry" => self.entry(body),
            "DeletePortMapping" => self.delete(body),
            "AddPinhole" if service.kind.contains("WANIPv6FirewallControl") => self.add_pinhole(from, body),
            "UpdatePinhole" => self.update_pinhole(body),
            "DeletePinhole" => self.delete_pinhole(body),
            _ => Err(401),
        };
        match outcome {
            Ok(values) => {
                let values: Vec<String> =
                    values.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
                let values = values.concat();
                let body = format!(
                    "<?xml version=\"1.0\"?>\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
                     <u:{action}Response xmlns:u=\"{}\">{values}</u:{action}Response></s:Body></s:Envelope>",
                    service.kind
                );
                Reply::Whole(answer(200, &body))
            }
            Err(code) => self.fault(code),
        }
    }

    fn fault(&self, code: u16) -> Reply {
        Reply::Whole(answer(500, &self.script.upnp.fault.replace("{code}", &code.to_string())))
    }

    /// WANIPConnection:2 sections 2.5.16 and 2.5.20.
    fn add(&mut self, from: IpAddr, body: &str, any: bool) -> Outcome {
        let script = self.script.upnp.clone();
        let inner: u16 = number(body, "NewInternalPort")?;
        let wanted: u16 = number(body, "NewExternalPort")?;
        let lease: u32 = number(body, "NewLeaseDuration")?;
        let client: IpAddr = number(body, "NewInternalClient")?;
        if value(body, "NewProtocol") != Some("UDP") || value(body, "NewEnabled") != Some("1") {
            return Err(402);
        }
        if client != from || wanted < 1024 {
            return Err(606);
        }
        if let Some(code) = script.refuses_leases.filter(|_| lease != 0) {
            return Err(code);
        }
        if script.same_ports && wanted != inner {
            return Err(724);
        }
        let outer = if any {
            let mut ports = (wanted..=u16::MAX).chain(1024..wanted);
            ports.find(|port| !self.is_others(client, *port)).ok_or(728u16)?
        } else {
            wanted
        };
        if self.is_others(client, outer) {
            return Err(718);
        }
        let outside = SocketAddr::new(self.script.outside, outer);
        let known = self.mappings.iter().position(|known| known.outside == outside);
        let renewed = match script.renewal {
            Renewal::Conflicts if known.is_some() => return Err(718),
            Renewal::LeadsTo(port) if known.is_some() => Some(port),
            Renewal::Prolongs | Renewal::LeadsTo(_) | Renewal::Conflicts => None,
        };
        let inside = SocketAddr::new(client, renewed.or(script.maps_to).unwrap_or(inner));
        let lease = match lease {
            0 => FOR_GOOD,
            lease => Duration::from_secs(lease.min(self.script.longest_lease).into()),
        };
        let mapping = FakeMapping { by: Speech::Upnp, inside, outside, expires: now() + lease, nonce: None };
        match known {
            Some(known) => self.mappings[known] = mapping,
            None => self.mappings.push(mapping),
        }
        Ok(if any { vec![("NewReservedPort", outer.to_string())] } else { Vec::new() })
    }

    fn is_others(&self, client: IpAddr, port: u16) -> bool {
        let others = |known: &FakeMapping| known.outside.port() == port && known.inside.ip() != client;
        self.script.taken.contains(&port) || self.mappings.iter().any(others)
    }

    fn entry(&self, body: &str) -> Outcome {
        let port: u16 = number(body, "NewExternalPort")?;
        let script = &self.script.upnp;
        let known = self.mappings.iter().find(|known| known.inside.is_ipv4() && known.outside.port() == port);
        let known = known.ok_or(714u16)?;
        let left = known.expires.saturating_duration_since(now());
        let left = if left > FOR_GOOD / 2 { 0 } else { left.as_secs() };
        let lease = script.lists_lease.map_or(left, u64::from);
        Ok(vec![
            ("NewInternalPort", known.inside.port().to_string()),
            ("NewInternalClient", script.lists_client.unwrap_or(known.inside.ip()).to_string()),
            ("NewEnabled", "1".to_owned()),
            ("NewPortMappingDescription", "x".to_owned()),
            ("NewLeaseDuration", lease.to_string()),
        ])
    }

    fn delete(&mut self, body: &str) -> Outcome {
        let port: u16 = number(body, "NewExternalPort")?;
        let before = self.mappings.len();
        self.mappings.retain(|known| known.inside.is_ipv6() || known.outside.port() != port);
        if self.mappings.len() < before { Ok(Vec::new()) } else { Err(714) }
    }

    /// WANIPv6FirewallControl:1 section 2.5.3: the same pinhole again is the same number.
    fn add_pinhole(&mut self, from: IpAddr, body: &str) -> Outcome {
        let client: IpAddr = number(body, "InternalClient")?;
        let inside = SocketAddr::new(client, number(body, "InternalPort")?);
        let lease: u32 = number(body, "LeaseTime")?;
        if value(body, "Protocol") != Some("17") || !(1..=86_400).contains(&lease) {
            return Err(402);
        }
        if client != from {
            return Err(606);
        }
        let known = self.pinholes.iter().position(|known| *known == inside);
        let id = known.unwrap_or_else(|| {
            self.pinholes.push(inside);
            self.pinholes.len() - 1
        });
        self.mappings.retain(|known| known.inside != inside);
        let expires = now() + Duration::from_secs(lease.into());
        self.mappings.push(FakeMapping { by: Speech::Upnp, inside, outside: inside, expires, nonce: None });
        Ok(vec![("UniqueID", id.to_string())])
    }

    fn update_pinhole(&mut self, body: &str) -> Outcome {
        let lease: u32 = number(body, "NewLeaseTime")?;
        let inside = self.pinhole(body)?;
        let known = self.mappings.iter_mut().find(|known| known.inside == inside).ok_or(704u16)?;
        known.expires = now() + Duration::from_secs(lease.into());
        Ok(Vec::new())
    }

    fn delete_pinhole(&mut self, body: &str) -> Outcome {
        let inside = self.pinhole(body)?;
        let before = self.mappings.len();
        self.mappings.retain(|known| known.inside != inside);
        if self.mappings.len() < before { Ok(Vec::new()) } else { Err(704) }
    }

    fn pinhole(&self, body: &str) -> Result<SocketAddr, u16> {
        let id: usize = number(body, "UniqueID")?;
        self.pinholes.get(id).copied().ok_or(704)
    }
}

/// An argument's text.
fn value<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = &body[body.find(&open)? + open.len()..];
    Some(&rest[..rest.find(&close)?])
}

/// An argument that must be there and readable: a number, or an address.
fn number<T: std::str::FromStr>(body: &str, name: &str) -> Result<T, u16> {
    value(body, name).and_then(|text| text.parse().ok()).ok_or(402)
}
