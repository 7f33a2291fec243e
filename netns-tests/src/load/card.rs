//! Links that receive as network cards do: many datagrams for each interrupt, and runs of them merged.
//!
//! A virtual link hands over each datagram in the sender's own call, on its own, up to the receiving socket. A network
//! card raises an interrupt after a while, and the driver then takes all that came, merges runs of one flow (generic
//! receive offload) and hands them over. Linux can do the same on a virtual link: a thread of the kernel polls the device
//! after a time. What comes after the wire is then nothing that the sender's call does, either.

use std::collections::BTreeSet;
use std::fs;

use super::{LOAD_CORE, LoadLab, SERVER_CORE};
use crate::cmd;
use crate::error::{LabError, Result};
use crate::namespace::Namespace;

/// Nanoseconds between two polls of a device: 20,000 interrupts a second, with which Intel's drivers for 10 to 100
/// Gbit/s start (`ICE_DFLT_RX_ITR`, `I40E_ITR_RX_DEF`).
const INTERRUPT_GAP: u32 = 50_000;
/// Polls that find nothing before the device waits for the next datagram again.
const EMPTY_POLLS: u32 = 2;
/// Before the load and before servers, as interrupts are.
const PRIORITY: &str = "2";

/// Who cuts a run of datagrams that a server sends as one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// The card (`tx-udp-segmentation`): the server's host hands it over whole.
    Card,
    /// The kernel of the server's host, in the server's send call, for a card that cannot.
    Kernel,
}

impl LoadLab {
    /// Makes the links between the server and both hosts receive like network cards, from now on. Interrupts of the server's
    /// card are worked off on the server's core, those of the other host's on the load's.
    ///
    /// # Errors
    /// When the kernel (before 5.15) or `ethtool` cannot.
    pub fn receive_like_cards(&self, cutting: Cutting) -> Result<()> {
        let cut = match cutting {
            Cutting::Card => "on",
            Cutting::Kernel => "off",
        };
        // A virtual link merges nothing of a sender that cuts TCP's runs by itself (`veth_skb_is_eligible_for_gro`).
        features(&self.left, "up0", &["tso", "off"])?;
        features(&self.server, "right0", &["tso", "off", "tx-udp-segmentation", cut])?;
        receive(&self.server, "left0", SERVER_CORE)?;
        receive(&self.right, "up0", LOAD_CORE)
    }
}

fn receive(net: &Namespace, device: &str, core: usize) -> Result<()> {
    features(net, device, &["gro", "on"])?;
    let before = pollers(device)?;
    let dir = format!("/sys/class/net/{device}");
    net.run(&[
        "sh",
        "-ec",
        &format!(
            "echo {INTERRUPT_GAP} > {dir}/gro_flush_timeout; echo {EMPTY_POLLS} > {dir}/napi_defer_hard_irqs; \
             echo 1 > {dir}/threaded"
        ),
    ])?;
    // Where it was so already, the threads are there and have their place.
    for thread in pollers(device)?.difference(&before) {
        let thread = thread.to_string();
        cmd::run(&["taskset", "--pid", "--cpu-list", &core.to_string(), &thread], "")?;
        cmd::run(&["chrt", "--fifo", "--pid", PRIORITY, &thread], "")?;
    }
    Ok(())
}

fn features(net: &Namespace, device: &str, features: &[&str]) -> Result<()> {
    net.run(&[&["ethtool", "-K", device], features].concat()).map(drop)
}

/// The kernel's threads that poll devices of this name, in whatever namespace.
fn pollers(device: &str) -> Result<BTreeSet<u32>> {
    let prefix = format!("napi/{device}-");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").map_err(LabError::io("read /proc"))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end meanwhile.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            found.insert(pid);
        }
    }
    Ok(found)
}
