//! Which service of which device is used.

use futures_util::future::join_all;
use wireplug_strategy::mapping::{MapError, Patience};

use crate::description::{self, Description, Kind};
use crate::http::{self, HttpError};
use crate::link::{Link, Place};
use crate::search::{self, Seen};
use crate::wire::{Control, Outside};
use crate::xml::BadXml;

/// The most services that are asked how they are.
const MAX_SERVICES: usize = 8;

/// For people.
pub(crate) const TITLE: &str = "UPnP";

/// A service that was chosen, to be used until it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) kind: Kind,
    /// Its type, as actions must name it.
    pub(crate) kind_name: String,
    pub(crate) place: Place,
    /// For people: `UPnP IGD 2 (model)`.
    pub(crate) version: String,
    /// Whether it was found to grant mappings without an end only.
    pub(crate) only_permanent: bool,
}

impl Service {
    pub(crate) fn control<'a>(&'a self, link: &'a Link) -> Control<'a> {
        Control { link, place: &self.place, service: &self.kind_name }
    }
}

/// What a service is worth, the best one greatest: the router that our packets leave by before any other device,
/// as others' mappings lead nowhere or to a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    by_router: bool,
    is_public: bool,
    /// 0 no, 1 not known, 2 yes.
    connected: u8,
    kind: Kind,
}

/// A service that may be used.
struct Choice {
    service: Service,
    by_router: bool,
}

/// Finds the best service for mappings of IPv4, and where it says that it is.
pub(crate) async fn wan(link: &Link, patience: Patience) -> Result<(Service, Outside), MapError> {
    let choices = choices(link, patience, |kind| matches!(kind, Kind::Ip(_) | Kind::Ppp(_))).await?;
    let asked = choices.into_iter().take(MAX_SERVICES).map(async |choice| {
        let control = choice.service.control(link);
        let (connected, outside) = futures_util::join!(control.is_connected(), control.outside());
        let outside = outside?;
        let worth = Worth {
            by_router: choice.by_router,
            is_public: matches!(outside, Outside::Public(_)),
            connected: connected.map_or(1, |yes| 2 * u8::from(yes)),
            kind: choice.service.kind,
        };
        Ok((worth, choice.service, outside))
    });
    let (mut best, mut failed) = (None::<(Worth, Service, Outside)>, None::<HttpError>);
    for outcome in join_all(asked).await {
        match outcome {
            Ok(found) if best.as_ref().is_none_or(|best| best.0 < found.0) => best = Some(found),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    match (best, failed) {
        (Some((_, service, outside)), _) => Ok((service, outside)),
        (None, Some(error)) => Err(other(link, format!("has UPnP, but {error}"))),
        (None, None) => Err(other(link, "has no usable UPnP service".to_owned())),
    }
}

/// Finds the service for pinholes of IPv6.
pub(crate) async fn firewall(link: &Link, patience: Patience) -> Result<Service, MapError> {
    let mut choices = choices(link, patience, |kind| matches!(kind, Kind::Firewall(_))).await?;
    choices.sort_by_key(|choice| !choice.by_router);
    let first = choices.into_iter().next();
    first.map(|choice| choice.service).ok_or_else(|| other(link, "has no usable UPnP service".to_owned()))
}

async fn choices(
    link: &Link,
    patience: Patience,
    wanted: impl Fn(Kind) -> bool,
) -> Result<Vec<Choice>, MapError> {
    let gateway = link.gateway();
    let found = search::find(link, patience).await;
    let found = found.map_err(|error| MapError::Socket { gateway, why: error.to_string() })?;
    if found.places.is_empty() {
        return Err(match found.refused {
            Some(refused) => other(link, format!("is not asked by UPnP: {refused}")),
            None => MapError::Silent { gateway, service: TITLE },
        });
    }
    let (mut choices, mut why) = (Vec::new(), None);
    for (seen, outcome) in join_all(found.places.into_iter().map(|seen| describe(link, seen))).await {
        match outcome {
            Ok((place, description)) => {
                let before = choices.len();
                choices.extend(chosen(link, &seen, &place, &description, &wanted));
                if choices.len() == before && (why.is_none() || seen.by_router) {
                    why = Some(nothing_usable(&description));
                }
            }
            Err(error) if why.is_none() || seen.by_router => why = Some(error),
            Err(_) => {}
        }
    }
    if choices.is_empty() {
        return Err(other(link, why.unwrap_or_else(|| "has no usable UPnP service".to_owned())));
    }
    Ok(choices)
}

/// Gets a description: where its place was told, else at the same place of the router, whose address it may share
/// with another (CARP, VRRP).
async fn describe(link: &Link, seen: Seen) -> (Seen, Result<(Place, Description), String>) {
    let first = description_at(link, &seen.place).await;
    let outcome = match (first, link.at_gateway(&seen.place)) {
        (Err(why), Some(place)) if place != seen.place => description_at(link, &place).await.map_err(|_| why),
        (first, _) => first,
    };
    (seen, outcome)
}

async fn description_at(link: &Link, place: &Place) -> Result<(Place, Description), String> {
    let got = http::get(link, place).await;
    let (place, document) = got.map_err(|error| format!("has UPnP, but of its description {error}"))?;
    let description = description::read(&document).map_err(|bad| {
        let why = match bad {
            BadXml::DocumentType => "declares a document type, which none needs",
            BadXml::TooLarge => "has too many elements",
            BadXml::Empty => "is no XML",
        };
        format!("has UPnP, but its description {why}")
    })?;
    Ok((place, description))
}

/// The usable services of a description, each where its base or its own place leads.
fn chosen<'a>(
    link: &'a Link,
    seen: &'a Seen,
    place: &'a Place,
    description: &'a Description,
    wanted: impl Fn(Kind) -> bool + 'a,
) -> impl Iterator<Item = Choice> + 'a {
    let told = description.base.as_ref().and_then(|base| link.place(Some(place), base).ok());
    let bases: Vec<Place> = told.into_iter().chain([place.clone()]).collect();
    let offers = description.offers.iter().filter(move |offer| wanted(offer.kind));
    offers.flat_map(move |offer| {
        let mut places: Vec<Place> =
            bases.iter().filter_map(|base| link.place(Some(base), &offer.control).ok()).collect();
        places.dedup();
        let version = match (offer.kind, &description.model) {
            (Kind::Ip(2..) | Kind::Firewall(_), model) => titled("UPnP IGD 2", model.as_deref()),
            (Kind::Ip(_) | Kind::Ppp(_), model) => titled("UPnP IGD 1", model.as_deref()),
        };
        places.into_iter().map(move |place| Choice {
            service: Service {
                kind: offer.kind,
                kind_name: offer.service.clone(),
                place,
                version: version.clone(),
                only_permanent: false,
            },
            by_router: seen.by_router,
        })
    })
}

fn titled(title: &str, model: Option<&str>) -> String {
    model.map_or_else(|| title.to_owned(), |model| format!("{title} ({model})"))
}

fn nothing_usable(description: &Description) -> String {
    if description.others.is_empty() {
        return "has UPnP, but no usable service: it can map no ports, or that is switched off there"
            .to_owned();
    }
    let others: Vec<&str> =
        description.others.iter().map(|name| name.rsplit("service:").next().unwrap_or(name)).collect();
    format!("has UPnP, but no usable service for this (it has {})", others.join(", "))
}

/// What the router says that is of no use.
fn other(link: &Link, says: String) -> MapError {
    MapError::Other { gateway: link.gateway(), says }
}
