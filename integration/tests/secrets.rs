//! What the programs log: never a key, and addresses only where debug is asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use wireplug_integration::secrets::{private_key, spellings};
use wireplug_lab::{Binaries, Daemon, Nat, Pair, PairOptions, Peer, Result};

/// How long a daemon may take to stop.
const END: Duration = Duration::from_secs(6);

/// A pair whose programs log as `filter` says, connected; then stopped, with everything that was written.
fn logged(label: &str, filter: &str, look: impl FnOnce(&Pair, &str) -> Result<()>) {
    let binaries = Some(Binaries::beside_current_exe().unwrap().logging(filter));
    let options = PairOptions { binaries, ..PairOptions::default() };
    Pair::with(label, [Nat::PortPreserving, Nat::Fixed], &options, |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        stop(&daemons)?;
        let server = pair.server.process().unwrap();
        server.terminate();
        server.wait(END)?;
        let log = [daemons[0].process().log(), daemons[1].process().log(), server.log()].concat();
        look(pair, &log)
    })
    .unwrap();
}

fn stop(daemons: &[Daemon]) -> Result<()> {
    for daemon in daemons {
        daemon.process().terminate();
        assert!(daemon.process().wait(END)?.success(), "{}", daemon.process().log());
    }
    Ok(())
}

/// The first lines with a text, for the message of a failure.
fn lines_with<'a>(log: &'a str, text: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(text)).take(3).collect()
}

#[test]
fn no_key_is_logged_even_at_trace() {
    let preshared = "h3aHCw7ZdtdtKy1lI7tFtWh8VZ4xMEXsLnyqxV8Y5m0=";
    let binaries = Some(Binaries::beside_current_exe().unwrap().logging("trace"));
    let options = PairOptions { binaries, ..PairOptions::default() };
    Pair::with("no-key", [Nat::PortPreserving, Nat::Fixed], &options, |pair| {
        let file = pair.lab.dir().join("preshared.key");
        std::fs::write(&file, preshared).unwrap();
        for (here, there) in pair.both_ways() {
            let key = there.wireguard.public_key();
            here.wireguard.peer(&Peer::new(key, &format!("{}/32", there.wireguard.address())))?;
            here.wireguard.set(&["peer", key, "preshared-key", &file.display().to_string()])?;
        }
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        stop(&daemons)?;
        let server = pair.server.process().unwrap();
        let log = [daemons[0].process().log(), daemons[1].process().log(), server.log()].concat();
        assert!(log.contains("DEBUG"), "the filter works");
        let pem = std::fs::read_to_string(pair.server.certificate()).unwrap();
        let pem_line = pem.lines().skip_while(|line| !line.contains("PRIVATE KEY")).nth(1).unwrap();
        let mut secrets = vec![pem_line.to_owned()];
        for secret in [private_key(&pair.a)?, private_key(&pair.b)?, preshared.to_owned()] {
            secrets.extend(spellings(&secret));
        }
        for secret in secrets {
            let found = lines_with(&log, &secret);
            assert!(found.is_empty(), "a secret is logged: {found:?}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn no_address_is_logged_at_info() {
    logged("no-address", "info", |pair, log| {
        assert!(log.contains("state=connected"), "{log}");
        let ends = [&pair.a, &pair.b];
        let hosts = ends.iter().flat_map(|end| [end.host.addresses(), end.host.public_addresses()].concat());
        let tunnel = ends.iter().map(|end| end.wireguard.address().into());
        for address in hosts.chain(tunnel) {
            let found = lines_with(log, &address.to_string());
            assert!(found.is_empty(), "{address} is logged: {found:?}");
        }
        Ok(())
    });
}
