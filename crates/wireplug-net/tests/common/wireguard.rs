//! A real WireGuard device of a test's own, of either backend.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wireplug_net::Backend;

use super::Namespace;

/// A device with a private key, port 51820 and fwmark 7, that goes with the test.
pub(crate) struct WireGuard {
    pub(crate) name: String,
    /// The running wireguard-go, of a userspace device.
    process: Option<Child>,
}

impl WireGuard {
    /// `tag` tells this test's device from others: control sockets are shared by all namespaces.
    pub(crate) fn start(backend: Backend, host: &Namespace, tag: &str) -> Self {
        let name = format!("wpn{tag}{}", std::process::id());
        let process = match backend {
            Backend::Kernel => {
                host.sh(&format!("ip link add {name} type wireguard"));
                None
            }
            Backend::Userspace => Some(start_wireguard_go(host, &name)),
        };
        host.sh(&format!(
            "wg genkey | wg set {name} private-key /dev/stdin listen-port 51820 fwmark 7
             ip addr add 10.77.0.1/24 dev {name}
             ip link set {name} up"
        ));
        Self { name, process }
    }

    /// Takes the device away while its namespace stays.
    pub(crate) fn remove(mut self, host: &Namespace) {
        if self.process.is_none() {
            host.sh(&format!("ip link del {}", self.name));
        }
        self.end();
    }

    pub(crate) fn show(&self, host: &Namespace, what: &str) -> String {
        host.sh(&format!("wg show {} {what}", self.name)).trim().to_owned()
    }

    /// A device of the kernel goes with its namespace.
    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            let _ = std::fs::remove_file(socket(&self.name));
        }
    }
}

impl Drop for WireGuard {
    fn drop(&mut self) {
        self.end();
    }
}

fn start_wireguard_go(host: &Namespace, name: &str) -> Child {
    let name_there = name.to_owned();
    let process = host.run(move || {
        Command::new("wireguard-go")
            .args(["-f", &name_there])
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("wireguard-go is installed")
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket(name).exists() {
        assert!(Instant::now() < deadline, "wireguard-go does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    process
}

fn socket(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{name}.sock"))
}
