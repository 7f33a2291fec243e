//! Values of the configuration that are written as text. Each error shows one that would be right.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

const ADDRESS: &str = "an IP address such as \"203.0.113.7\"";
const LISTEN: &str = "an IP address and a port such as \"[::]:443\"";
const UDP: &str = "an IP address and a port such as \"[::]:3478\"";
const PORTS: &str = "a range of ports such as \"3479-3510\"";

pub(super) fn socket_address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    Text::new(LISTEN).deserialize(from)
}

pub(super) fn socket_addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    from.deserialize_seq(Text::new(UDP))
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    from.deserialize_seq(Text::new(ADDRESS))
}

pub(super) fn port_range<'de, D: Deserializer<'de>>(from: D) -> Result<RangeInclusive<u16>, D::Error> {
    Ok(Text::<Ports>::new(PORTS).deserialize(from)?.0)
}

/// Ports `first-last`, or one port; neither is 0.
struct Ports(RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| ());
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 || first > last { Err(()) } else { Ok(Self(first..=last)) }
    }
}

/// Reads a `T`, or a list of them, from text; `expected` is what messages ask for.
#[derive(Clone, Copy)]
struct Text<T> {
    expected: &'static str,
    value: PhantomData<T>,
}

impl<T> Text<T> {
    const fn new(expected: &'static str) -> Self {
        Self { expected, value: PhantomData }
    }
}

impl<'de, T: FromStr> DeserializeSeed<'de> for Text<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_str(One(self))
    }
}

struct One<T>(Text<T>);

impl<T: FromStr> Visitor<'_> for One<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::custom(format!("{text:?} is wrong here, expected {}", self.0.expected)))
    }
}

impl<'de, T: FromStr> Visitor<'de> for Text<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list, each item {}", self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element_seed(Self::new(self.expected))? {
            values.push(value);
        }
        Ok(values)
    }
}
