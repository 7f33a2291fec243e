//! `wireplug`: looks after one interface in the foreground, and shows how it goes.

fn main() -> std::process::ExitCode {
    wireplugd::cli::wireplug()
}
