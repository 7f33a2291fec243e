//! What a router says by UPnP.

use std::cell::LazyCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wireplug_strategy::kit::{FakeHost, Place, address};
use wireplug_strategy::mapping::{Ask, Patience, Site};
use wireplug_strategy::{Context, Gateway, Situation};
use wireplug_upnp_igd::fuzzing as upnp;

/// The longest that a router's words become, in characters: they are shown and logged.
const MAX_WORDS: usize = 80;
/// The longest URL in bytes.
const MAX_URL: usize = 1024;
/// The largest answer in bytes.
const MAX_ANSWER: usize = 64 << 10;

pub(crate) fn ssdp(data: &[u8]) {
    if let Some(url) = upnp::location(data) {
        assert!(!url.is_empty() && url.len() <= MAX_URL);
        assert!(data.windows(url.len()).any(|part| part == url.as_bytes()), "not what was said");
    }
}

/// The first byte is how long the pieces are.
pub(crate) fn http(data: &[u8]) {
    let Some((size, text)) = data.split_first() else { return };
    let whole = upnp::http([text]);
    let pieces = upnp::http(text.chunks(usize::from(*size).max(1)));
    for (_, body) in whole.iter().chain(&pieces) {
        assert!(body.len() <= text.len().min(MAX_ANSWER));
    }
    // In pieces it may be seen sooner that it has ended, but it is the same.
    if let (Some((whole, all)), Some((status, body))) = (whole, pieces) {
        assert!(whole == status && all.starts_with(&body));
    }
}

pub(crate) fn xml(data: &[u8]) {
    let Some((elements, depth, bytes)) = upnp::xml(data) else {
        assert_eq!(upnp::description(data), None);
        return;
    };
    // A byte that is not UTF-8 becomes a character of three. Nothing else grows.
    assert!(
        elements <= 4097 && depth <= 33 && bytes <= 3 * data.len(),
        "{elements} elements, {depth} deep, {bytes}"
    );
    let Some((shown, used)) = upnp::description(data) else { panic!("a document without a description") };
    assert!(shown.len() <= 9 && used.len() <= 17);
    assert!(shown.iter().all(|words| are_words(words)));
}

pub(crate) fn soap(data: &[u8]) {
    const ACTION: &str = "GetSpecificPortMappingEntry";
    match upnp::soap(ACTION, data) {
        Some(Ok(mut values)) => {
            // The tidy answer, which igd-next reads, says the same.
            values.retain(|name, _| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let tidy = upnp::tidy(ACTION, &values);
            assert_eq!(upnp::soap(ACTION, tidy.as_bytes()), Some(Ok(values)), "{tidy}");
        }
        Some(Err((_, says))) => assert!(are_words(&says)),
        None => {}
    }
    // What we write is read as it was meant.
    let text = String::from_utf8_lossy(data).trim().to_owned();
    let envelope = upnp::envelope(&text, "GetSpecificPortMappingEntryResponse", &[("Value", text.clone())]);
    let Some(Ok(values)) = upnp::soap(ACTION, envelope.as_bytes()) else { panic!("{envelope}") };
    assert_eq!(values.get("Value"), Some(&text), "{envelope}");
}

/// Up to the first line break, what the URL after it is relative to.
pub(crate) fn url(data: &[u8]) {
    thread_local! {
        static LINK: LazyCell<(Context, Ask)> = const { LazyCell::new(link) };
    }
    let text = String::from_utf8_lossy(data);
    let (base, url) = text.split_once('\n').map_or((None, &*text), |(base, url)| (Some(base), url));
    let Some((at, host, path)) = LINK.with(|link| upnp::place(&link.0, &link.1, base, url)) else { return };
    match at {
        SocketAddr::V4(at) => {
            let ip = at.ip().octets();
            assert!(ip[..3] == [192, 168, 1] && ip[3] != 5, "{at} is off the link, or ourselves");
        }
        SocketAddr::V6(at) => {
            assert!(at.ip().is_unicast_link_local() && at.scope_id() == 2, "{at} is off the link");
        }
    }
    assert_ne!(at.port(), 0);
    assert!(host.ends_with(&format!(":{}", at.port())) && host.bytes().all(|byte| byte.is_ascii_graphic()));
    // They stand in the head of a request, where a space or a line break would say more than was meant.
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
}

/// At home: we are 192.168.1.5/24, the router is 192.168.1.1.
fn link() -> (Context, Ask) {
    let source = IpAddr::from([192, 168, 1, 5]);
    let gateway = Gateway { ip: [192, 168, 1, 1].into(), source, ifindex: 2, interface: "eth0".to_owned() };
    let situation = Situation {
        addresses: vec![address(source, 24)],
        gateways: vec![gateway.clone()],
        ..Situation::default()
    };
    let host = Arc::new(FakeHost::new(Place::new(situation.clone())));
    let (_, situation) = watch::channel(situation);
    #[expect(clippy::expect_used, reason = "the strategy's own name")]
    let name = "upnp-igd".parse().expect("a name");
    let ask = Ask {
        site: Site { gateway, source },
        port: 51820,
        fwmark: 0,
        external: None,
        lease: Duration::from_secs(3600),
        nonce: [0; 12],
        other_port: 40000,
        patience: Patience::Known,
    };
    (Context::new(host, name, situation, CancellationToken::new()), ask)
}

fn are_words(text: &str) -> bool {
    text.chars().count() <= MAX_WORDS && !text.contains(char::is_control)
}
