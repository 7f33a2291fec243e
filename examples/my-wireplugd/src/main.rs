//! wireplug with somebody else's strategy: its one line is all that differs.

use static_hints as _;

fn main() -> std::process::ExitCode {
    wireplugd::cli::wireplug()
}
