//! A TCP stream through the tunnel: iperf3, at a rate that leaves the machine room for other packets.

use std::path::Path;
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::pair::Pair;
use crate::process::Process;
use crate::server::listens;

/// Where iperf3 listens unless told otherwise.
const PORT: u16 = 5201;

/// How fast: a lab's WireGuard, routers and relay share one small machine.
const RATE: &str = "20M";

/// How long a program may take to start or, once its time is over, to end.
const LIMIT: Duration = Duration::from_secs(10);

/// A stream that runs beside the test.
#[derive(Debug)]
pub struct Stream {
    client: Process,
    time: Duration,
}

impl Pair {
    /// Streams from `a` to `b` for so long, in whole seconds.
    ///
    /// # Errors
    /// When iperf3 does not start: is it installed?
    pub fn stream(&self, time: Duration) -> Result<Stream> {
        let to = self.b.wireguard.address().to_string();
        let server = ["--server", "--one-off", "--bind", &to];
        let server = self.b.host.spawn("iperf3", Path::new("iperf3"), &server, &[])?;
        wait_for("iperf3 to listen", LIMIT, || Ok(listens(&server, PORT).then_some(())))?;
        let seconds = time.as_secs().to_string();
        let client = ["--client", &to, "--time", &seconds, "--bitrate", RATE, "--forceflush"];
        let client = self.a.host.spawn("iperf3", Path::new("iperf3"), &client, &[])?;
        Ok(Stream { client, time })
    }
}

impl Stream {
    /// Waits for its end.
    ///
    /// # Errors
    /// When the connection was reset, or stood still for a whole second.
    pub fn finish(&self) -> Result<()> {
        let status = self.client.wait(self.time + LIMIT)?;
        let log = self.client.log();
        // A line for each second, with what was sent in it.
        let stalled = log.lines().find(|line| line.contains("sec") && line.contains(" 0.00 bits/sec"));
        if !status.success() || stalled.is_some() {
            return Err(LabError::unexpected(format!(
                "the TCP stream broke ({status}) or stood still: {log}"
            )));
        }
        Ok(())
    }
}
