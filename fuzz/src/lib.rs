//! Fuzz targets for everything that reads bytes from outside, and one for what decides.
//!
//! A target is a function that takes any bytes and panics where something that must hold does not: not only that
//! nothing panics, but that what is read is written back the same, that sizes are bounded, and that nothing forged is
//! taken. `cargo xtask fuzz MINUTES` runs them under libFuzzer, `cargo xtask test --fuzz` for a short time. The corpora
//! in `corpus/TARGET/` are played by this crate's own tests, as they are and damaged in many places, in every run of
//! all tests.
//!
//! A crash is repeated without a fuzzer by `cargo run -p wireplug-fuzz --bin TARGET -- FILE`. A file that once found
//! something belongs into the corpus, under a name that tells what it found.

mod config;
mod control;
mod kept;
mod offer;
mod relay;
mod relay_server;
mod rendezvous;
mod replay;
mod router;
mod scheduler;
mod stun;
mod upnp;

#[doc(hidden)]
pub use replay::files;

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident: $run:path,)*) => {
        /// The targets by their names.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), run::$name)),*];

        /// The targets as functions.
        #[doc(hidden)]
        pub mod run {
            $($(#[$doc])* pub fn $name(data: &[u8]) { ($run)(data); })*
        }

        #[cfg(test)]
        mod corpus {
            $(#[test] fn $name() { crate::replay::corpus(stringify!($name), crate::run::$name); })*
        }
    };
}

targets! {
    /// What `wireplug status` reads from a daemon, and shows.
    control_answer: crate::control::answer,
    /// What a daemon reads from its control socket.
    control_question: crate::control::question,
    /// `wireplug.toml`.
    daemon_config: crate::config::daemon,
    /// HTTP answers of a router, in pieces.
    http: crate::upnp::http,
    /// Which keepalives are ours.
    keepalives: crate::kept::keepalives,
    /// What is kept of peers and networks, sealed and not.
    kept: crate::kept::kept,
    /// Names of services that multicast DNS finds.
    mdns_name: crate::router::mdns_name,
    /// NAT-PMP answers and notices.
    nat_pmp: crate::router::nat_pmp,
    /// Sealed offers, and what is in them.
    offer: crate::offer::offer,
    /// PCP responses.
    pcp: crate::router::pcp,
    /// Requests to bind to a relay port, and their answers.
    relay_bind: crate::relay::bind,
    /// The relay's frames over TLS.
    relay_frame: crate::relay::frame,
    /// The relay's state, with whatever its clients and strangers may do in any order.
    relay_server: crate::relay_server::relay_server,
    /// Frames of a daemon, as the server reads them.
    rendezvous_client: crate::rendezvous::client,
    /// Frames of the server, as a daemon reads them.
    rendezvous_server: crate::rendezvous::server,
    /// The scheduler, with whatever can happen to it in any order.
    scheduler: crate::scheduler::scheduler,
    /// `serverd.toml`.
    server_config: crate::config::server,
    /// Where servers last answered.
    servers: crate::kept::servers,
    /// SOAP answers of a router.
    soap: crate::upnp::soap,
    /// Answers to an SSDP search.
    ssdp: crate::upnp::ssdp,
    /// STUN between daemon and server.
    stun_binding: crate::stun::binding,
    /// Sorting of datagrams, and checks between peers.
    stun_check: crate::stun::check,
    /// URLs of routers: on the link or not.
    url: crate::upnp::url,
    /// WireGuard's own messages.
    wireguard: crate::stun::wireguard,
    /// XML of routers: a device's description.
    xml: crate::upnp::xml,
}

/// The program of a target: libFuzzer's where cargo-fuzz builds it, else one that plays the files that it is given.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        ::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::run::$name(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::files($crate::run::$name)
        }
    };
}
