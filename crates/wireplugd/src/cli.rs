//! The command line of `wireplug` and `wireplugd`, and what each of them does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{BadServer, ServerConfig};
use crate::control::{ControlError, ReloadReport};
use crate::daemon::{self, Source};
use crate::interface::InterfaceName;
use crate::status::StrategyInfo;
use crate::{control, files, status};

/// The program `wireplug`: its `main`, also for a build with strategies of your own.
pub fn wireplug() -> ExitCode {
    finish("wireplug", Wireplug::parse().run())
}

/// The program `wireplugd`, likewise.
pub fn wireplugd() -> ExitCode {
    finish("wireplugd", Wireplugd::parse().run())
}

fn finish(program: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Finds, proves and sets the endpoints of a WireGuard interface's peers.
#[derive(Debug, Parser)]
#[command(
    name = "wireplug",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "An interface that is named like a subcommand is reached behind two dashes: wireplug -- status\n\
                  WIREPLUG_LOG sets what is logged to standard error, such as \"debug\"; default \"info\"."
)]
pub struct Wireplug {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    daemon: Daemon,
}

/// `wireplug INTERFACE`: looks after one interface, in the foreground.
#[derive(Debug, Args)]
pub struct Daemon {
    /// The WireGuard interface to look after, such as wg0
    #[arg(required = true)]
    interface: Option<InterfaceName>,
    /// The config; without it /etc/wireplug/wireplug.toml, which may be missing
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The rendezvous server, in place of those of the config
    #[arg(long, value_name = "wss://HOST[:PORT]")]
    server: Option<String>,
    /// The server's pin, as `wireplug-serverd pin` prints it
    #[arg(long, value_name = "sha256/BASE64", requires = "server")]
    pin: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows how it goes with the peers
    Status {
        /// One interface only
        interface: Option<InterfaceName>,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Has the daemons read their config again, and says what is another, or why it is refused
    Reload {
        /// The daemon of one interface only, with all that it looks after
        interface: Option<InterfaceName>,
    },
    /// Lists the strategies of this build, and how they go on the interfaces that are looked after
    Strategies {
        /// One interface only
        interface: Option<InterfaceName>,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

impl Wireplug {
    /// Does what the command line says. What is to be read by people or scripts goes to standard output.
    ///
    /// # Errors
    /// Whatever keeps it from being done, in words that say what to do.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(Command::Status { interface, json }) => print_status(interface.as_ref(), json),
            Some(Command::Strategies { interface, json }) => print_strategies(interface.as_ref(), json),
            Some(Command::Reload { interface }) => reload(interface.as_ref()),
            None => self.daemon.run(),
        }
    }
}

impl Daemon {
    fn run(self) -> anyhow::Result<()> {
        let interface = self.interface.context("name the interface: wireplug INTERFACE")?;
        let server =
            self.server.as_ref().map(|url| ServerConfig::parse(url, self.pin.as_deref())).transpose();
        let server = server.map_err(|error| match error {
            BadServer::Url { .. } => anyhow::anyhow!("--server {error}"),
            BadServer::Pin(_) => anyhow::anyhow!("--pin {error}"),
        })?;
        daemon::run(Source { file: self.config, server, only: Some(interface) })
    }
}

/// Looks after all interfaces of the config.
#[derive(Debug, Parser)]
#[command(
    name = "wireplugd",
    version,
    about,
    after_help = "WIREPLUG_LOG sets what is logged; default \"info\"."
)]
pub struct Wireplugd {
    /// The config; without it /etc/wireplug/wireplug.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Wireplugd {
    /// Looks after the interfaces of the config until it is told to stop.
    ///
    /// # Errors
    /// Whatever keeps it from being done, in words that say what to do.
    pub fn run(self) -> anyhow::Result<()> {
        daemon::run(Source { file: self.config, ..Source::default() })
    }
}

fn reload(interface: Option<&InterfaceName>) -> anyhow::Result<()> {
    let directory = run_directory()?;
    let (reports, mut silent) = match interface {
        Some(interface) => (vec![control::ask_reload(&directory, interface)?], vec![]),
        None => control::reload_all(&directory)?,
    };
    print(&reports.iter().map(ReloadReport::lines).collect::<String>())?;
    if let Some(error) = silent.pop() {
        return Err(error.into());
    }
    if reports.iter().any(|report| report.refused.is_some()) {
        anyhow::bail!("the config is refused; the one before stays in force");
    }
    Ok(())
}

fn print_status(interface: Option<&InterfaceName>, json: bool) -> anyhow::Result<()> {
    let directory = run_directory()?;
    let (all, mut silent) = match interface {
        Some(interface) => (vec![control::ask(&directory, interface)?], vec![]),
        None => control::ask_all(&directory)?,
    };
    let text = if json {
        let mut text = serde_json::to_string_pretty(&all)?;
        text.push('\n');
        text
    } else {
        status::table(&all, SystemTime::now())
    };
    print(&text)?;
    match silent.pop() {
        // One that hangs does not hide the others, but it is not a success either.
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn print_strategies(interface: Option<&InterfaceName>, json: bool) -> anyhow::Result<()> {
    let directory = run_directory()?;
    let here = || wireplug_strategy::registered().into_iter().map(StrategyInfo::of).collect();
    let (all, mut silent) = match interface {
        Some(interface) => (control::ask_strategies(&directory, interface)?, vec![]),
        None => match control::ask_all_strategies(&directory) {
            Ok((told, silent)) => (StrategyInfo::merge(here(), told), silent),
            Err(error) => (here(), vec![error]),
        },
    };
    let text = if json {
        serde_json::to_string_pretty(&all)? + "\n"
    } else {
        let goes = status::interfaces_table(&all, SystemTime::now());
        match (interface, silent.last()) {
            (Some(_), _) => goes,
            (None, Some(ControlError::NoneRunning)) => {
                format!("{}\n{}\n", status::strategies_table(&all), ControlError::NoneRunning)
            }
            (None, _) => format!("{}\n{goes}", status::strategies_table(&all)),
        }
    };
    print(&text)?;
    match silent.pop() {
        // What is in this build needs no daemon.
        None | Some(ControlError::NoneRunning) => Ok(()),
        Some(error) => Err(error.into()),
    }
}

fn run_directory() -> anyhow::Result<PathBuf> {
    files::run_directory().context("cannot tell this network namespace: is /proc mounted?")
}

/// Prints; whoever stopped reading (`| head`) has read enough.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wireplug, clap::Error> {
        Wireplug::try_parse_from(line.split(' '))
    }

    #[test]
    fn an_interface_is_the_daemon() {
        let parsed = parse("wireplug wg0 --config /x --server wss://a --pin b").unwrap();
        assert!(parsed.command.is_none());
        assert_eq!(parsed.daemon.interface, Some("wg0".parse().unwrap()));
        assert_eq!(parsed.daemon.config, Some("/x".into()));
    }

    #[test]
    fn an_interface_named_like_a_command_is_behind_dashes() {
        assert!(matches!(parse("wireplug status").unwrap().command, Some(Command::Status { .. })));
        let parsed = parse("wireplug -- status").unwrap();
        assert!(parsed.command.is_none());
        assert_eq!(parsed.daemon.interface, Some("status".parse().unwrap()));
    }

    #[test]
    fn status_takes_an_interface_and_json() {
        let parsed = parse("wireplug status wg0 --json").unwrap();
        assert!(matches!(parsed.command, Some(Command::Status { interface: Some(_), json: true })));
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for line in [
            "wireplug",
            "wireplug a/b",
            "wireplug wg0 --pin x",
            "wireplug wg0 wg1",
            "wireplug wg0 --nonsense",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
