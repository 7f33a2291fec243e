//! Strategy `static-hints`: where peers may be, as a file says that other programs write: an inventory, a cloud's
//! command line in a cron job, a file that is synchronised between machines.
//!
//! The file has one peer on each line, its public key and then places where it may be reached:
//!
//! ```text
//! # from the inventory, 2026-11-22
//! xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=  203.0.113.7:51820 [2001:db8::7]:51820
//! ```
//!
//! It is looked at while a peer is worked on. What it says is suggested, checked like anything else, and used where it
//! proves right: a wrong line costs a few datagrams. For a peer that cannot prove anything, because it does not run
//! wireplug, it is tried unproven like an endpoint of the config.

mod file;
mod told;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::time::sleep;
use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError, Context, Failure, Registration, Strategy};

use told::Told;

const OPTIONS: &[OptionDoc] = &[
    OptionDoc {
        key: "file",
        accepts: "a path",
        default: "/etc/wireplug/hints",
        about: "where the hints are",
        secret: false,
    },
    OptionDoc {
        key: "look",
        accepts: "a length of time from \"1s\" to \"1h\"",
        default: "30s",
        about: "how often the file is looked at while a peer is worked on",
        secret: false,
    },
];

inventory::submit! {
    Registration {
        name: "static-hints",
        tier: Tier::Direct,
        about: "places of peers, from a file that other programs write",
        options: OPTIONS,
        build,
    }
}

/// Its table of the config.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct StaticHints {
    file: PathBuf,
    #[serde(deserialize_with = "look")]
    look: Duration,
}

impl Default for StaticHints {
    fn default() -> Self {
        Self { file: "/etc/wireplug/hints".into(), look: Duration::from_secs(30) }
    }
}

fn look<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    options::duration_within(deserializer, Duration::from_secs(1)..=Duration::from_hours(1))
}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    Ok(Box::new(options::parse::<StaticHints>(table, OPTIONS)?))
}

impl Strategy for StaticHints {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            let ending = context.clone();
            tokio::select! {
                () = ending.cancelled() => Ok(()),
                never = suggest(*self, context) => never,
            }
        })
    }
}

/// Goes on until it is dropped: it leaves nothing outside this host that would have to be taken back.
async fn suggest(config: StaticHints, mut context: Context) -> Result<(), Failure> {
    let mut hints = file::Hints::default();
    let mut told = Told::default();
    loop {
        let situation = context.situation();
        if situation.wanted {
            hints = file::read(&config.file).await;
        }
        told.update(&situation, &hints, &context);
        tokio::select! {
            () = context.changed() => {}
            // A settled tunnel costs nothing.
            () = sleep(config.look), if situation.wanted => {}
        }
    }
}
