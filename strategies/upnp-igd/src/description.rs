//! What a device's description offers (UDA 1.1 section 2.3), as far as it is of use here.

use crate::soap;
use crate::xml::{self, BadXml};

/// The most services of one description that are looked at.
const MAX_SERVICES: usize = 8;

const SERVICES: &str = "urn:schemas-upnp-org:service:";

/// A kind of service, the better one greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `WANPPPConnection`, of this version.
    Ppp(u8),
    /// `WANIPConnection`, of this version; 2 is IGD 2's.
    Ip(u8),
    /// `WANIPv6FirewallControl`, of this version.
    Firewall(u8),
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) kind: Kind,
    /// Its type, as actions must name it.
    pub(crate) service: String,
    /// Where it is spoken with, as it was written.
    pub(crate) control: String,
}

/// A description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// What the device calls itself, for a person.
    pub(crate) model: Option<String>,
    /// What relative URLs are relative to, where it says so (UDA 1.0 section 2.1).
    pub(crate) base: Option<String>,
    /// The services of use, in its order.
    pub(crate) offers: Vec<Offer>,
    /// The services that are of no use, in short, for a person.
    pub(crate) others: Vec<String>,
}

/// Reads a description.
pub(crate) fn read(document: &[u8]) -> Result<Description, BadXml> {
    let document = xml::parse(document)?;
    let mut description = Description {
        model: soap::first_words(&document, "modelName")
            .or_else(|| soap::first_words(&document, "friendlyName")),
        base: document.all("URLBase").first().map(|base| base.text.clone()).filter(|base| !base.is_empty()),
        offers: Vec::new(),
        others: Vec::new(),
    };
    for service in document.all("service").into_iter().take(MAX_SERVICES * 4) {
        let Some(name) = service.child_text("serviceType") else { continue };
        match (kind(name), service.child_text("controlURL")) {
            (Some(kind), Some(control)) if description.offers.len() < MAX_SERVICES => {
                let (service, control) = (name.to_owned(), control.to_owned());
                description.offers.push(Offer { kind, service, control });
            }
            _ if description.others.len() < MAX_SERVICES => description.others.push(soap::words(name)),
            _ => {}
        }
    }
    Ok(description)
}

/// The kind of a service's type, with any version that is a number.
fn kind(service: &str) -> Option<Kind> {
    let (name, version) = service.strip_prefix(SERVICES)?.split_once(':')?;
    let version = version.parse().ok().filter(|version| *version > 0)?;
    match name {
        "WANIPConnection" => Some(Kind::Ip(version)),
        "WANPPPConnection" => Some(Kind::Ppp(version)),
        "WANIPv6FirewallControl" => Some(Kind::Firewall(version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn services_of_use_are_found_at_any_depth() {
        let description = read(
            b"<root><URLBase> http://192.168.1.1:5000 </URLBase><device><modelName>Box\n 3000</modelName><deviceList>\
              <device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1\
              </serviceType><controlURL>/c</controlURL></service></serviceList><deviceList><device><serviceList>\
              <service><serviceType> urn:schemas-upnp-org:service:WANIPConnection:2 </serviceType>\
              <controlURL>ip</controlURL></service>\
              <service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1</serviceType>\
              <controlURL>/fw</controlURL></service>\
              <service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType></service>",
        )
        .unwrap();
        assert_eq!(description.model.as_deref(), Some("Box 3000"));
        assert_eq!(description.base.as_deref(), Some("http://192.168.1.1:5000"));
        let offers: Vec<_> = description.offers.iter().map(|offer| (offer.kind, &*offer.control)).collect();
        assert_eq!(offers, [(Kind::Ip(2), "ip"), (Kind::Firewall(1), "/fw")]);
        assert_eq!(description.others.len(), 2);
        assert!(Kind::Ip(2) > Kind::Ip(1) && Kind::Ip(1) > Kind::Ppp(1));
    }

    #[test]
    fn the_number_of_services_is_bounded() {
        let service = "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                       <controlURL>/x</controlURL></service>";
        let description = read(format!("<r>{}</r>", service.repeat(1000)).as_bytes()).unwrap();
        assert_eq!(description.offers.len(), MAX_SERVICES);
    }

    proptest! {
        #[test]
        fn never_panics(document in prop::collection::vec(any::<u8>(), 0..1000)) {
            let _ = read(&document);
        }
    }
}
