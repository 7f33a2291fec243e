//! How a fake router speaks UPnP: plain data for tests to change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How it speaks UPnP. As it is made, it is an IGD 1 that answers every search and maps for any lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpnpScript {
    /// Whether it answers searches that are sent to it alone.
    pub hears_unicast: bool,
    /// Whether it answers searches that are sent to everybody.
    pub hears_multicast: bool,
    /// The targets of searches that it answers, as the ends of their names, such as `Device:1`.
    pub targets: Vec<String>,
    /// The port that its answers to searches come from.
    pub answers_from: u16,
    /// The answers to a search, each a whole datagram; `{at}` is its address, `{target}` what was searched for.
    pub answers: Vec<String>,
    /// The TCP port of its descriptions and services.
    pub port: u16,
    /// What its document is; at the paths that `described` does not have.
    pub description: Page,
    /// Other documents by their paths.
    pub described: BTreeMap<String, Page>,
    /// The `URLBase` that its description tells.
    pub url_base: Option<String>,
    /// What stands before the services' paths, such as `/ctl/`: service number 1 is at `/ctl/1`.
    pub control: String,
    /// Its services, in the order of the description.
    pub services: Vec<FakeService>,
    /// Refuses leases with this error: 725 or 402.
    pub refuses_leases: Option<u16>,
    /// Refuses other outer ports than the inner one (724).
    pub same_ports: bool,
    /// Refuses these actions with these errors.
    pub refuses: BTreeMap<String, u16>,
    /// Answers these actions with this status and no SOAP.
    pub breaks: BTreeMap<String, u16>,
    /// Never answers these actions.
    pub hangs: BTreeSet<String>,
    /// How its faults are written; `{code}` stands for the error.
    pub fault: String,
    /// Lists mappings as this host's.
    pub lists_client: Option<IpAddr>,
    /// Lists this lease, in seconds.
    pub lists_lease: Option<u32>,
    /// What it does when a mapping is asked for that stands already.
    pub renewal: Renewal,
    /// Puts this inner port into every mapping.
    pub maps_to: Option<u16>,
}

/// What a fake router does with a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renewal {
    /// It prolongs the mapping.
    #[default]
    Prolongs,
    /// It prolongs the mapping, and has it lead to this inner port.
    LeadsTo(u16),
    /// It takes it for a conflict (718).
    Conflicts,
}

/// One service of a fake router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeService {
    /// Its type, such as `urn:schemas-upnp-org:service:WANIPConnection:1`.
    pub kind: String,
    /// What it calls its connection's state; `None`: it fails when it is asked.
    pub status: Option<String>,
    /// What it calls its outer address; `None`: the script's `outside`.
    pub outside: Option<String>,
}

/// What comes for a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// The description of its services.
    Own,
    /// This text.
    Text(String),
    /// This text in chunks (RFC 9112 section 7.1).
    Chunks(Vec<String>),
    /// This status, and nothing else.
    Status(u16),
    /// Another place.
    Redirect(String),
    /// Text that never ends.
    Endless(String),
    /// The description, one byte at a time.
    Drip(Duration),
    /// Nothing: the connection stays open.
    Hangs,
    /// No connection.
    Refused,
}

impl Default for UpnpScript {
    fn default() -> Self {
        Self {
            hears_unicast: true,
            hears_multicast: true,
            targets: vec!["InternetGatewayDevice:1".to_owned()],
            answers_from: 1900,
            answers: vec![
                "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {target}\r\nUSN: uuid:fake::{target}\r\nEXT:\r\n\
                 SERVER: Fake/1.0 UPnP/1.1 Fake/1.0\r\nLOCATION: http://{at}:5000/desc.xml\r\n\r\n"
                    .to_owned(),
            ],
            port: 5000,
            description: Page::Own,
            described: BTreeMap::new(),
            url_base: None,
            control: "/ctl/".to_owned(),
            services: vec![FakeService::wan_ip(1)],
            refuses_leases: None,
            same_ports: false,
            refuses: BTreeMap::new(),
            breaks: BTreeMap::new(),
            hangs: BTreeSet::new(),
            fault: "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\
                    <faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
                    <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode>\
                    <errorDescription>no</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>"
                .to_owned(),
            lists_client: None,
            lists_lease: None,
            renewal: Renewal::default(),
            maps_to: None,
        }
    }
}

impl UpnpScript {
    /// Speaks none.
    pub fn silent(&mut self) {
        self.hears_unicast = false;
        self.hears_multicast = false;
        self.description = Page::Refused;
    }

    /// An IGD 2 with a service for mappings and one for pinholes.
    pub fn igd2(&mut self) {
        self.targets = vec!["InternetGatewayDevice:1".to_owned(), "InternetGatewayDevice:2".to_owned()];
        self.services = vec![FakeService::wan_ip(2), FakeService::of("WANIPv6FirewallControl:1")];
    }

    /// Answers searches with this place instead of its own.
    pub fn locate(&mut self, url: &str) {
        self.answers = vec![format!("HTTP/1.1 200 OK\r\nST: {{target}}\r\nLOCATION: {url}\r\n\r\n")];
    }
}

impl FakeService {
    /// `WANIPConnection` of a version, connected.
    pub fn wan_ip(version: u8) -> Self {
        Self::of(&format!("WANIPConnection:{version}"))
    }

    /// Any of the standard's, connected.
    pub fn of(name: &str) -> Self {
        Self {
            kind: format!("urn:schemas-upnp-org:service:{name}"),
            status: Some("Connected".to_owned()),
            outside: None,
        }
    }
}
