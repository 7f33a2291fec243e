//! Values of the configuration that are written as text. Each error shows one that would be right.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Unexpected, Visitor};

const ADDRESS: &str = "an IP address such as \"203.0.113.7\"";
const LISTEN: &str = "an IP address and a port such as \"[::]:443\"";
const UDP: &str = "an IP address and a port such as \"[::]:3478\"";
const PORTS: &str = "a range of ports such as \"3479-3510\"";
const BANDWIDTH: &str = "a rate such as \"20 Mbit/s\", \"1.5 Gbit/s\" or \"none\", at least \"64 kbit/s\"";
const IDLE: &str = "a duration from \"5s\" to \"1d\", such as \"5m\"";
const TOKEN: &str =
    "a token of 16 to 128 letters, digits and signs, such as `openssl rand -base64 24` prints";

/// The slowest rate that can be asked for: a full packet still passes five times a second.
const LEAST_BANDWIDTH: u64 = 64_000;

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

pub(super) fn bandwidth<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Text::<Bandwidth>::new(BANDWIDTH).deserialize(from)?.0)
}

pub(super) fn idle<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Ok(Text::<Idle>::new(IDLE).deserialize(from)?.0)
}

pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    from.deserialize_u32(Count)
}

/// Reads a text that no message may repeat.
pub(super) fn secret<'de, D: Deserializer<'de>, T: FromStr>(from: D) -> Result<T, D::Error> {
    from.deserialize_str(Secret(PhantomData))
}

/// Bits a second; `None` is no limit.
struct Bandwidth(Option<u64>);

impl FromStr for Bandwidth {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "none" {
            return Ok(Self(None));
        }
        let number = text.strip_suffix("bit/s").ok_or(())?;
        let (number, unit) = match number.as_bytes().last() {
            Some(b'k') => (&number[..number.len() - 1], 1_000),
            Some(b'M') => (&number[..number.len() - 1], 1_000_000),
            Some(b'G') => (&number[..number.len() - 1], 1_000_000_000),
            _ => (number, 1),
        };
        let bits = decimal(number.trim(), unit).ok_or(())?;
        if bits < LEAST_BANDWIDTH { Err(()) } else { Ok(Self(Some(bits))) }
    }
}

/// `12` or `1.5`, times a power of ten; exact, with at most as many decimals as the unit has zeros.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let fraction = decimals.parse::<u64>().ok()?.checked_mul(unit)?;
    let scale = 10_u64.pow(u32::try_from(decimals.len()).ok()?);
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    (fraction % scale == 0).then_some(whole.checked_add(fraction / scale)?)
}

/// A duration in whole seconds within what makes sense for a binding.
struct Idle(Duration);

impl FromStr for Idle {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = match &text[digits..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(()),
        };
        let seconds =
            text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(())?;
        if (5..=86_400).contains(&seconds) { Ok(Self(Duration::from_secs(seconds))) } else { Err(()) }
    }
}

/// A number of things, at least one.
struct Count;

impl Visitor<'_> for Count {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 1 to 10000000")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<usize, E> {
        usize::try_from(number)
            .ok()
            .filter(|number| (1..=10_000_000).contains(number))
            .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

struct Secret<T>(PhantomData<T>);

impl<T: FromStr> Visitor<'_> for Secret<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TOKEN)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::custom(format!("this is no token, expected {TOKEN}")))
    }
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
