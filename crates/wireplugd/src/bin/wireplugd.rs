//! `wireplugd`: looks after all interfaces of the config.

use std::process::ExitCode;

use clap::Parser as _;
use wireplugd::cli::Wireplugd;

fn main() -> ExitCode {
    match Wireplugd::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wireplugd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
