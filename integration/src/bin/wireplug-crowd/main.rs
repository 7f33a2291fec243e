//! `wireplug-crowd`: the other ends of many tunnels of one interface, played by one program over real sockets.
//!
//! Part of the lab; the lab starts it in a namespace. Each member has a key, a UDP port in a WireGuard port's place and a
//! topic of its own; a few connections to the rendezvous carry all of them, as a daemon's would. What it says is
//! [`CrowdSays`], one JSON object on a line.
//!
//! | part | what |
//! |---|---|
//! | `member` | one member: its offer, checks and WireGuard, without IO |
//! | `port` | its UDP port, which runs it |
//! | `mail` | a connection to the rendezvous |
//! | `tally` | who is connected, and how much was said |

mod mail;
mod member;
mod port;
mod tally;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::sync::mpsc;
use wireplug_core::{PrivateKey, PublicKey};
use wireplug_lab::{CrowdSays, LabError, Result};

use crate::mail::{Letterbox, Mail};
use crate::member::Member;
use crate::port::Port;
use crate::tally::Tally;

/// Connections to the rendezvous: peers of one interface are seldom all in one household.
const CONNECTIONS: usize = 4;

/// The other ends of many tunnels of one interface.
#[derive(Debug, Parser)]
#[command(name = "wireplug-crowd")]
struct Arguments {
    /// The interface's public key.
    #[arg(long)]
    of: PublicKey,
    /// How many members.
    #[arg(long)]
    members: usize,
    /// Where the first member's port is; the others have the ports after it.
    #[arg(long)]
    address: SocketAddr,
    /// The server's HTTPS.
    #[arg(long)]
    server: SocketAddr,
    /// One member more floods the interface with so many checks a second.
    #[arg(long)]
    flood: Option<u32>,
}

fn main() -> ExitCode {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| LabError::Io { what: "start a runtime".to_owned(), source })?;
        runtime.block_on(crowd(&Arguments::parse()))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the crowd until something fails.
async fn crowd(arguments: &Arguments) -> Result<()> {
    let all = arguments.members + usize::from(arguments.flood.is_some());
    let keys: Vec<_> = (0..all).map(|_| PrivateKey::from_bytes(wireplug_integration::random())).collect();
    say(&CrowdSays::Keys(keys.iter().map(|key| public(key).to_string()).collect()))?;

    let (failures, mut failed) = mpsc::unbounded_channel();
    let tally = Tally::new(arguments.members);
    let mut letterboxes: Vec<Vec<Letterbox>> = (0..CONNECTIONS).map(|_| Vec::new()).collect();
    for (number, key) in keys.iter().enumerate() {
        let address = port::of(arguments.address, number)?;
        let mut member = Member::new(key, &arguments.of, address)?;
        let flood = arguments.flood.filter(|_| number == arguments.members);
        if let Some(rate) = flood {
            member.flood(Duration::from_secs(1) / rate.max(1));
        }
        let (letters, offers) = mpsc::unbounded_channel();
        letterboxes[number % CONNECTIONS].push(Letterbox::of(&member, letters));
        let port = Port::open(address, member, offers)?;
        tokio::spawn(report(port.run(tally.clone()), failures.clone()));
    }
    for boxes in letterboxes {
        let mail = Mail::open(arguments.server, boxes).await?;
        tokio::spawn(report(mail.run(tally.clone()), failures.clone()));
    }
    say(&CrowdSays::Joined)?;
    tokio::select! {
        Some(error) = failed.recv() => return Err(error),
        told = tally.all_connected() => say(&CrowdSays::Connected(told))?,
    }
    failed.recv().await.map_or(Ok(()), Err)
}

async fn report(work: impl Future<Output = LabError>, failures: mpsc::UnboundedSender<LabError>) {
    let error = work.await;
    // Nobody listens any more when the program ends.
    let _ = failures.send(error);
}

fn public(private: &PrivateKey) -> PublicKey {
    let secret = x25519_dalek::StaticSecret::from(*private.expose());
    PublicKey::from_bytes(x25519_dalek::PublicKey::from(&secret).to_bytes())
}

fn say(what: &CrowdSays) -> Result<()> {
    let line = serde_json::to_string(what).map_err(|error| LabError::unexpected(error.to_string()))?;
    println!("{line}");
    Ok(())
}
