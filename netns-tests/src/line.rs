//! What the way between a site and the internet does to packets: distance, jitter, loss, a narrow line.
//!
//! The kernel's netem does it, where the kernel has it; that of `cargo xtask vm` has. A plain delay, the same for all,
//! works everywhere: [`Lab::delay`] falls back on a delay line of its own.

use std::time::Duration;

use crate::delay::DelayLine;
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::site::Site;

/// What `tc` says where the kernel has no netem.
const UNKNOWN: &str = "qdisc kind is unknown";

/// Packets that a line keeps while they are under way. With a rate, what comes when so many wait is lost.
const UNDER_WAY: u32 = 100_000;
/// The same of a narrow line: a third of a second of full packets at 1 Mbit/s, as home routers keep.
const NARROW: u32 = 30;

/// What a site's line does to every packet, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// How much longer it takes, on average.
    pub delay: Duration,
    /// How far its delay may be from that, less and more. Packets then overtake each other.
    pub jitter: Duration,
    /// How many of 100 are lost.
    pub loss: u8,
    /// Kilobits that go through in a second; none: as many as there are.
    pub rate: Option<u32>,
}

impl Line {
    /// The words for `tc qdisc ... netem`.
    fn netem(&self) -> Vec<String> {
        let micros = |time: Duration| format!("{}us", time.as_micros());
        let mut words = vec!["delay".to_owned(), micros(self.delay)];
        if !self.jitter.is_zero() {
            words.push(micros(self.jitter));
        }
        if self.loss > 0 {
            words.extend(["loss".to_owned(), format!("{}%", self.loss)]);
        }
        if let Some(rate) = self.rate {
            words.extend(["rate".to_owned(), format!("{rate}kbit")]);
        }
        let limit = if self.rate.is_some() { NARROW } else { UNDER_WAY };
        words.extend(["limit".to_owned(), limit.to_string()]);
        words
    }

    /// Makes what leaves `device` cross this line.
    fn lay(&self, net: &Namespace, device: &str) -> Result<()> {
        let words = self.netem();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = [&["tc", "qdisc", "replace", "dev", device, "root", "netem"], &words[..]].concat();
        match net.run(&command) {
            Err(LabError::Failed { stderr, .. }) if stderr.contains(UNKNOWN) => {
                Err(LabError::NoNetem { line: *self })
            }
            other => other.map(drop),
        }
    }
}

impl Lab {
    /// Makes every packet that crosses the internet take `one_way` longer: by netem where the kernel
    /// has it, else by a delay line in this process. Call it once; links that are made later are slow too.
    ///
    /// # Errors
    /// When the delay line cannot be set up.
    pub fn delay(&self, one_way: Duration) -> Result<()> {
        let net = self.shared().internet();
        let devices: Vec<String> = (1..=self.shared().links()).map(|link| format!("l{link}")).collect();
        let line = Line { delay: one_way, ..Line::default() };
        let delay = match devices.iter().try_for_each(|device| line.lay(&net, device)) {
            Ok(()) => Delay::Netem(line),
            Err(LabError::NoNetem { .. }) => Delay::Own(DelayLine::start(&net, &devices, one_way)?),
            Err(other) => return Err(other),
        };
        self.shared().keep_delay(delay);
        Ok(())
    }
}

/// What delays all packets that cross the internet.
#[derive(Debug)]
pub(crate) enum Delay {
    /// The kernel, on each link.
    Netem(Line),
    /// This process.
    Own(DelayLine),
}

impl Delay {
    /// Has it meet a new link of the internet too.
    pub(crate) fn meet(&self, net: &Namespace, device: &str) -> Result<()> {
        match self {
            Self::Netem(line) => line.lay(net, device),
            Self::Own(delay) => delay.meet(device),
        }
    }
}

impl Site {
    /// Makes the site's line to the internet such, in both directions, from now on. What [`Lab::delay`] made of it by netem is
    /// gone then.
    ///
    /// # Errors
    /// [`LabError::NoNetem`] where the kernel has none; when the site has no link yet.
    pub fn line(&self, line: Line) -> Result<()> {
        let links = self.links();
        if links.is_empty() {
            return Err(LabError::unexpected(format!("site {} has no link to the internet yet", self.label)));
        }
        links.iter().try_for_each(|link| {
            line.lay(&self.shared.internet(), &link.outer)?;
            line.lay(&link.namespace, &link.inner)
        })
    }
}

/// A link to the internet.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The device in the internet's namespace.
    pub(crate) outer: String,
    /// The customer's namespace and device.
    pub(crate) namespace: Namespace,
    pub(crate) inner: String,
}

/// Whether this machine's kernel has netem.
///
/// # Errors
/// When no namespace can be made to try it.
pub fn has_netem() -> Result<bool> {
    let lab = Lab::new("netem")?;
    match Line::default().lay(&lab.shared().internet(), "lo") {
        Ok(()) => Ok(true),
        Err(LabError::NoNetem { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}
