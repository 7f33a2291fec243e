//! Strategy `relay`: a server forwards the WireGuard packets of a pair that nothing better connects, or not yet.
//!
//! - For each peer that the scheduler wants a relay for, every server is asked for a *place*. The other side hears of
//!   it from the server, and asks too.
//! - Each place is suggested as one UDP endpoint for each address family: a relay port that no other pair of this
//!   interface uses at the same address, since the relay tells pairs apart by source and port. A check towards it is
//!   carried out as a bind by the daemon.
//! - Where UDP to the relay is not answered, or cannot be bound for lack of rights, a leg over TLS is asked for. It
//!   begins at an address of this host, which is suggested too.
//! - When the relay is not wanted any more, all of that is taken back.
//!
//! All decisions are the `Planner`'s, which has neither IO nor time: the daemon notices when a relay is silent, and
//! repeats what servers refused for a while.

mod note;
mod planner;
mod ports;

use serde::Deserialize;
use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError, Context, Failure, Registration, Secret, Strategy};

use planner::{Act, Planner};

const OPTIONS: &[OptionDoc] = &[
    OptionDoc {
        key: "udp",
        accepts: "true or false",
        default: "true",
        about: "whether relays are used over UDP",
        secret: false,
    },
    OptionDoc {
        key: "tls",
        accepts: "true or false",
        default: "true",
        about: "whether relays are used over TLS where UDP to them is blocked",
        secret: false,
    },
    OptionDoc {
        key: "token",
        accepts: "the text that the operator of a private relay gave you: 1 to 128 visible characters",
        default: "none",
        about: "shows a private relay that we may use it",
        secret: true,
    },
];

inventory::submit! {
    Registration {
        name: "relay",
        tier: Tier::Relay,
        about: "a server forwards the packets, where nothing better is found or not yet",
        options: OPTIONS,
        build,
    }
}

/// Its table of the config.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Relay {
    udp: bool,
    tls: bool,
    token: Option<Secret>,
}

impl Default for Relay {
    fn default() -> Self {
        Self { udp: true, tls: true, token: None }
    }
}

/// Whether a text can be a token at all: as the servers take them.
fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    let relay: Relay = options::parse(table, OPTIONS)?;
    let refuse = |key: &str, message: &str| {
        Err(ConfigError { key: Some(key.to_owned()), message: format!("{key}: {message}") })
    };
    if relay.token.as_ref().is_some_and(|token| !is_token(token.expose())) {
        return refuse("token", "it must have 1 to 128 visible ASCII characters and no spaces");
    }
    if !relay.udp && !relay.tls {
        return refuse(
            "tls",
            "with udp = false and tls = false there is no way left: leave out the strategy instead",
        );
    }
    Ok(Box::new(relay))
}

impl Strategy for Relay {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(run(*self, context))
    }
}

async fn run(config: Relay, mut context: Context) -> Result<(), Failure> {
    let ending = context.clone();
    let mut planner = Planner::new(config, context.name().clone());
    loop {
        let situation = context.situation();
        let generation = situation.generation;
        for act in planner.update(&situation) {
            match act {
                Act::Want { peer, server, wish } => context.relay(peer, &server, wish),
                Act::Release { peer, server } => context.release(peer, &server),
                Act::Suggest { peer, candidate } => context.suggest(generation, peer, candidate),
                Act::Withdraw { peer, endpoint } => context.withdraw(generation, peer, endpoint),
                Act::Note(words) => context.note(generation, words),
            }
        }
        tokio::select! {
            biased;
            () = ending.cancelled() => return Ok(()),
            () = context.changed() => {}
        }
    }
}
