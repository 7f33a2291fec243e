//! A delay line for kernels without netem.
//!
//! The internet's router sends everything that it forwards through a TUN device; this process reads
//! each packet, holds it for a fixed time, and writes it back, where it goes on to its destination.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use crate::cmd;
use crate::error::{LabError, Result};
use crate::namespace::Namespace;

const DEVICE: &str = "delay0";

/// The routing table that leads into the device.
const TABLE: u32 = 100;

/// Below this, sleeping is less exact than spinning; it costs at most so much CPU time per packet.
const SPIN: Duration = Duration::from_micros(80);

/// Largest packet of the lab with room to spare.
const MTU: usize = 9000;

/// A running delay line; dropping it removes the device and ends its threads.
#[derive(Debug)]
pub(crate) struct DelayLine {
    net: Namespace,
    threads: Vec<JoinHandle<()>>,
}

impl DelayLine {
    /// Delays all that comes into `net` by one of `devices` and is not for `net` itself.
    pub(crate) fn start(net: &Namespace, devices: &[String], one_way: Duration) -> Result<Self> {
        let device = net.enter(|| {
            DeviceBuilder::new()
                .name(DEVICE)
                .build_sync()
                .map_err(LabError::io("open a TUN device for the delay line"))
        })?;
        // What is for the router itself is looked up in the local table before these rules.
        let mut lines = vec![format!("route add default dev {DEVICE} table {TABLE}")];
        lines.extend(devices.iter().map(|link| rule(link)));
        net.ip(&[format!("link set {DEVICE} up")])?;
        net.ip(&lines)?;
        net.ip6(&lines)?;
        let device = Arc::new(device);
        let (sender, receiver) = channel();
        let reader = {
            let device = Arc::clone(&device);
            thread::spawn(move || {
                be_punctual();
                read(&device, &sender, one_way);
            })
        };
        let writer = thread::spawn(move || {
            be_punctual();
            write(&device, &receiver);
        });
        Ok(Self { net: net.clone(), threads: vec![reader, writer] })
    }

    /// Delays what comes in by this device too.
    pub(crate) fn meet(&self, device: &str) -> Result<()> {
        self.net.ip(&[rule(device)])?;
        self.net.ip6(&[rule(device)])
    }
}

fn rule(device: &str) -> String {
    format!("rule add iif {device} table {TABLE}")
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        // Ends the pending read, and with it both threads.
        let gone = self.net.ip(&[format!("link del {DEVICE}")]);
        if gone.is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

/// Gives this thread real-time priority, so that a busy machine does not add to the delay. Where that is not
/// allowed, the delay is less exact and nothing else.
fn be_punctual() {
    let _ = cmd::output(&["chrt", "--fifo", "--pid", "10", &nix::unistd::gettid().to_string()], "");
}

fn read(device: &SyncDevice, out: &Sender<(Instant, Vec<u8>)>, one_way: Duration) {
    let mut packet = [0; MTU];
    while let Ok(length) = device.recv(&mut packet) {
        if out.send((Instant::now() + one_way, packet[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn write(device: &SyncDevice, packets: &Receiver<(Instant, Vec<u8>)>) {
    for (due, packet) in packets {
        let left = due.saturating_duration_since(Instant::now());
        thread::sleep(left.saturating_sub(SPIN));
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        // A packet that the router refuses (no route) is lost, as it would be elsewhere.
        let _ = device.send(&packet);
    }
}
