//! `wireplugd`: looks after all interfaces of the config.

fn main() -> std::process::ExitCode {
    wireplugd::cli::wireplugd()
}
