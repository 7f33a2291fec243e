//! SSDP, as far as finding a gateway needs it: the question and its answer (UPnP Device Architecture 1.1,
//! section 1.3).

use std::net::SocketAddr;

use igd_next::IPV6_SSDP_LINK_LOCAL;

/// UDA 1.1 section 1.3.2: where devices listen.
pub(crate) const PORT: u16 = 1900;
/// UDA 1.1 section 1.3.2.
pub(crate) const GROUP_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(239, 255, 255, 250);
/// UDA 1.1 annex A.
pub(crate) const GROUP_V6: std::net::Ipv6Addr = IPV6_SSDP_LINK_LOCAL;

/// What is searched for, each by its name: a search for everything is answered by one wrong device only on some
/// networks. An IGD 2 answers to the first too, but not every one does.
pub(crate) const TARGETS: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
];

/// The most headers of an answer.
const MAX_HEADERS: usize = 64;

/// A search for `target`, to be sent to `to`.
pub(crate) fn search(to: SocketAddr, target: &str) -> Vec<u8> {
    // The scope of a link-local address means nothing to others.
    let host = match to {
        SocketAddr::V4(to) => to.to_string(),
        SocketAddr::V6(to) => format!("[{}]:{}", to.ip(), to.port()),
    };
    // UDA 1.1 section 1.3.2: MX is 1 at least; devices may wait for so many seconds.
    format!("M-SEARCH * HTTP/1.1\r\nHOST: {host}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n")
        .into_bytes()
}

/// The LOCATION of an answer: a URL, as it was written. `None` for all else that comes along.
pub(crate) fn location(datagram: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    // Some devices forget the empty line at the end.
    let whole = [datagram, b"\r\n\r\n"].concat();
    match lenient().parse_response(&mut answer, &whole) {
        Ok(_) if answer.code == Some(200) => {}
        _ => return None,
    }
    let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("location"))?;
    let url = std::str::from_utf8(header.value).ok()?.trim();
    (!url.is_empty() && url.len() <= 1024).then(|| url.to_owned())
}

/// How routers' heads are read.
pub(crate) fn lenient() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_search_is_what_the_standard_says() {
        let search = |to: &str| String::from_utf8(search(to.parse().unwrap(), TARGETS[1])).unwrap();
        assert_eq!(
            search("239.255.255.250:1900"),
            "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
             ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
        );
        assert!(search("[fe80::1%3]:1900").contains("\r\nHOST: [fe80::1]:1900\r\n"));
    }

    #[test]
    fn an_answer_tells_its_location() {
        let url = "http://192.168.1.1:5000/desc.xml";
        for good in [
            "HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/desc.xml\r\n\r\n",
            "HTTP/1.1 200 OK\r\nSERVER:\r\nlocation:http://192.168.1.1:5000/desc.xml\r\nEXT:\r\n\r\n",
            "HTTP/1.0 200 \r\nLocation  :  http://192.168.1.1:5000/desc.xml  \r\n\r\n",
            "HTTP/1.1 200 OK\r\nS T: x\r\nLocation: http://192.168.1.1:5000/desc.xml\r\n",
        ] {
            assert_eq!(location(good.as_bytes()).as_deref(), Some(url), "{good:?}");
        }
        for bad in [
            "",
            "NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1:5000/desc.xml\r\n\r\n",
            "HTTP/1.1 404 No\r\nLOCATION: http://192.168.1.1:5000/desc.xml\r\n\r\n",
            "HTTP/1.1 200 OK\r\nST: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLOCATION:\r\n\r\n",
        ] {
            assert_eq!(location(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(datagram in prop::collection::vec(any::<u8>(), 0..1500)) {
            location(&datagram);
        }

        #[test]
        fn never_panics_on_almost_right(tail in "[ -~\r\n:]{0,300}") {
            location(format!("HTTP/1.1 200 OK\r\n{tail}").as_bytes());
        }
    }
}
