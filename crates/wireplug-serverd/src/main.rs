//! `wireplug-serverd`: the rendezvous server in the foreground.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use wireplug_serverd::config::Config;
use wireplug_serverd::limits::Limits;
use wireplug_serverd::server::{Server, identity};

/// The server that lets wireplug daemons find each other.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration; by default /etc/wireplug/serverd.toml if it exists.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the pin of the server's certificate, for `pin` in wireplug.toml, making the certificate if needed.
    Pin,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("WIREPLUG_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let done = match arguments.command {
        Some(Command::Pin) => print_pin(&arguments),
        None => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wireplug-serverd: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; one that already tells its cause does not tell it twice.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn print_pin(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(arguments.config.as_deref())?;
    let identity = identity(&config, SystemTime::now())?
        .context("there is no pin: tls = false leaves the certificate to the reverse proxy")?;
    writeln!(std::io::stdout(), "{}", identity.pin()).context("cannot print")
}

/// One thread: a server's work is many small messages, and one core does tens of thousands of them a second;
/// more threads would cost memory and locks.
#[tokio::main(flavor = "current_thread")]
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(arguments.config.as_deref())?;
    allow_many_files();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Server::bind(&config, Limits::default())?;
    if let Some(pin) = server.pin() {
        // A closed standard output is no reason not to serve: the pin is in the log too.
        writeln!(std::io::stdout(), "pin = \"{pin}\"").ok();
        tracing::info!(%pin, "clients take this pin");
    }
    tracing::info!(https = %server.https(), udp = ?server.udp(), tls = config.tls, "ready");
    match (config.relay.enabled, config.relay.is_private()) {
        (false, _) => tracing::info!("the relay is off"),
        (true, true) => tracing::info!(ports = ?config.relay.ports, "the relay serves who has a token"),
        (true, false) => tracing::info!(
            ports = ?config.relay.ports,
            "the relay serves everybody; name tokens in [relay] to choose whom, bandwidth to say how much"
        ),
    }
    server
        .run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    Ok(())
}

/// Each client is an open file, and the usual limit of 1024 is for programs that use select(2).
fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot allow more open files: fewer clients can connect");
    }
}
