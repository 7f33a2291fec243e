//! For the fuzz targets: what reads a router's bytes, without a router. Not an interface to build upon.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wireplug_strategy::Context;
use wireplug_strategy::mapping::Ask;

use crate::http::Reading;
use crate::link::Link;
use crate::soap::{self, Reply};
use crate::{description, ssdp, xml};

/// The LOCATION of an answer to a search.
pub fn location(datagram: &[u8]) -> Option<String> {
    ssdp::location(datagram)
}

/// The texts of a description: of the model and the services that are shown, of base, types and control URLs.
pub fn description(document: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let read = description::read(document).ok()?;
    let shown = read.model.into_iter().chain(read.others).collect();
    let offers = read.offers.into_iter().flat_map(|offer| [offer.service, offer.control]);
    Some((shown, read.base.into_iter().chain(offers).collect()))
}

/// The values of an action's answer, or its fault's code and words.
pub fn soap(action: &str, body: &[u8]) -> Option<Result<BTreeMap<String, String>, (u16, String)>> {
    Some(match soap::read(action, body)? {
        Reply::Done(values) => Ok(values),
        Reply::Fault { code, says } => Err((code, says)),
    })
}

/// The same answer as a strict reader wants it.
pub fn tidy(action: &str, values: &BTreeMap<String, String>) -> String {
    soap::tidy(action, values)
}

/// The envelope of an action.
pub fn envelope(service: &str, action: &str, arguments: &[(&str, String)]) -> String {
    soap::envelope(service, action, arguments)
}

/// Number of elements, depth, and bytes of names and texts of a document, if it is read.
pub fn xml(document: &[u8]) -> Option<(usize, usize, usize)> {
    fn measure(element: &xml::Element, depth: usize) -> (usize, usize, usize) {
        let own = (1, depth, element.name.len() + element.text.len());
        element
            .children
            .iter()
            .map(|child| measure(child, depth + 1))
            .fold(own, |all, child| (all.0 + child.0, all.1.max(child.1), all.2 + child.2))
    }
    Some(measure(&xml::parse(document).ok()?, 0))
}

/// Status and body of an HTTP answer that comes in these pieces and then ends.
pub fn http<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(u16, Vec<u8>)> {
    let mut reading = Reading::default();
    for piece in pieces {
        reading.add(piece).ok()?;
        if let Some(answer) = reading.answer(false).ok()? {
            return Some((answer.status, answer.body));
        }
    }
    let answer = reading.answer(true).ok()??;
    Some((answer.status, answer.body))
}

/// Where a URL leads, on the link of a router: address, value of the header HOST, and path of the request. `base` is
/// what it is relative to.
pub fn place(
    context: &Context,
    ask: &Ask,
    base: Option<&str>,
    url: &str,
) -> Option<(SocketAddr, String, String)> {
    let link = Link::new(context.clone(), ask);
    let base = base.and_then(|base| link.place(None, base).ok());
    let place = link.place(base.as_ref(), url).ok()?;
    Some((place.at, place.host(), place.path()))
}
