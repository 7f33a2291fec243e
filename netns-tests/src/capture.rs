//! Sniffing: what crosses the internet of a lab, as Wireshark's programs see it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cmd::{run, wait_for};
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::process::Process;

/// How long the sniffer may take to begin, to write down what it has seen, and to end.
const LIMIT: Duration = Duration::from_secs(10);

/// A running `dumpcap` on all links of the internet. A packet that crosses it is there twice: as it comes and as it goes.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    /// Its packets stay in the internet's namespace, and are seen as all others are.
    mark: UdpSocket,
}

impl Lab {
    /// Begins to write down all UDP that crosses the internet.
    ///
    /// # Errors
    /// When `dumpcap` does not begin.
    pub fn capture(&self) -> Result<Capture> {
        let shared = self.shared();
        let file = shared.file("udp.pcapng");
        let path = file.display().to_string();
        let args = ["-q", "-i", "any", "-f", "udp", "-w", &path];
        let internet = shared.internet();
        let process = shared.spawn(&internet, "dumpcap", Path::new("dumpcap"), &args, &[])?;
        process.wait_log("File: ", LIMIT)?;
        let capture = Capture { process, file, mark: internet.enter(mark)? };
        // It says that it captures a little before it does.
        capture.pass("begin")?;
        Ok(capture)
    }
}

impl Capture {
    /// Ends it, with all that has crossed until now written down.
    ///
    /// # Errors
    /// When `dumpcap` fails.
    pub fn stop(&self) -> Result<()> {
        // What it has seen last it would lose.
        self.pass("end")?;
        self.process.terminate();
        let status = self.process.wait(LIMIT)?;
        if status.success() {
            return Ok(());
        }
        Err(LabError::unexpected(format!("dumpcap ended with {status}: {}", self.process.log())))
    }

    /// What `tshark` makes of the packets that a display filter of its lets pass: for each, these fields, one that occurs
    /// repeatedly with commas between. It is not told what is where, only to believe what packets look like before what
    /// their ports are known for: relay ports and mappings are other protocols' too.
    ///
    /// # Errors
    /// When it fails.
    pub fn decode(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let path = self.file.display().to_string();
        let mut argv = vec!["tshark", "-n", "-o", "udp.try_heuristic_first:TRUE", "-r", &path];
        argv.extend(["-Y", filter, "-T", "fields"]);
        for field in fields {
            argv.extend(["-e", field]);
        }
        let lines = run(&argv, "")?;
        Ok(lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// Sends a packet with this text until one is written down: then so is all that was seen before it.
    fn pass(&self, text: &str) -> Result<()> {
        let text = format!("capture {text}").into_bytes();
        wait_for("dumpcap to write down what it sees", LIMIT, || {
            self.mark.send(&text).map_err(LabError::io("send a packet to be captured"))?;
            let written =
                fs::read(&self.file).map_err(LabError::io(format!("read {}", self.file.display())))?;
            Ok(written.windows(text.len()).any(|part| part == text).then_some(()))
        })
    }
}

/// A socket that sends to itself. Nobody reads it: what does not fit its buffer is gone.
fn mark() -> Result<UdpSocket> {
    let open = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        Ok(socket)
    };
    open().map_err(LabError::io("open a socket on the internet's loopback"))
}
