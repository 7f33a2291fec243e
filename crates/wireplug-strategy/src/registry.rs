//! Who is linked into this binary.

use std::future::Future;
use std::pin::Pin;

use wireplug_core::Tier;

use crate::context::Context;
use crate::options::{ConfigError, OptionDoc};

/// A future that can be sent between threads, boxed because plugins are trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One way of finding candidates, configured for one interface.
pub trait Strategy: Send + 'static {
    /// Finds candidates and keeps them true until [`Context::cancelled`], then takes back what it left
    /// outside this host (mappings on a router) and returns.
    ///
    /// # Errors
    /// A [`Failure`] is logged with its reason, everything found by this run is retracted, and the
    /// strategy is started again after a pause that grows.
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>>;
}

/// Why a strategy cannot go on: what was tried, on what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// What a strategy says of itself to the registry.
#[derive(Debug)]
pub struct Registration {
    /// Its name in the config and in status, such as `hole-punch`.
    pub name: &'static str,
    /// The tier of its candidates; strategies rank in this order where the config gives none.
    pub tier: Tier,
    /// What it does, in one line for people.
    pub about: &'static str,
    /// The keys of its table in the config.
    pub options: &'static [OptionDoc],
    /// Makes one from its table, which is empty where the config has none.
    pub build: fn(&toml::Table) -> Result<Box<dyn Strategy>, ConfigError>,
}

inventory::collect!(Registration);

/// All strategies linked into this binary, best tier first, then by name.
pub fn registered() -> Vec<&'static Registration> {
    let mut all: Vec<_> = inventory::iter::<Registration>.into_iter().collect();
    all.sort_by_key(|registration| (registration.tier, registration.name));
    all
}

/// The strategy of a name, if it is linked into this binary.
pub fn find(name: &str) -> Option<&'static Registration> {
    inventory::iter::<Registration>.into_iter().find(|registration| registration.name == name)
}
