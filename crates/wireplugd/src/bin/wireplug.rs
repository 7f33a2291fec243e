//! `wireplug`: looks after one interface in the foreground, and shows how it goes.

use std::process::ExitCode;

use clap::Parser as _;
use wireplugd::cli::Wireplug;

fn main() -> ExitCode {
    match Wireplug::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wireplug: {error:#}");
            ExitCode::FAILURE
        }
    }
}
