//! The lab itself: what it holds, and how it ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::error::{LabError, Result};
use crate::line::Delay;
use crate::namespace::{self, Namespace};
use crate::process::Process;

/// Log lines of each process that a failed test shows.
const DIGEST_LINES: usize = 40;

/// Labs made by this process so far, for unique names.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A number by chance, below 2^16, for the devices of this process's first lab.
static FIRST: OnceLock<u32> = OnceLock::new();

/// A lab: an internet of its own in network namespaces, with everything that runs in it.
///
/// Dropping it ends every process that it started and removes its namespaces, also while a panic
/// unwinds; a panic (or an error inside [`Lab::with`]) first prints a digest of all logs and states.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
}

/// What the lab and the handles into it share.
#[derive(Debug)]
pub(crate) struct Shared {
    id: String,
    /// Start of this lab's device names; wireguard-go's are the whole machine's.
    device_prefix: String,
    dir: Mutex<Option<TempDir>>,
    dir_path: PathBuf,
    pub(crate) binaries: Binaries,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: Vec<Namespace>,
    processes: Vec<Process>,
    /// How often each label was used, for the names of logs.
    labels: BTreeMap<String, u32>,
    routers: Vec<Namespace>,
    devices: Vec<(Namespace, String)>,
    delay: Option<Delay>,
    /// Directories that `ip netns exec` lays over /etc.
    overlays: Vec<PathBuf>,
    links: u8,
}

impl Lab {
    /// An empty internet, for the product's binaries as [`Binaries::find`] finds them.
    ///
    /// # Errors
    /// When not root, or when namespaces cannot be made.
    pub fn new(label: &str) -> Result<Self> {
        Self::with_binaries(label, Binaries::find()?)
    }

    /// As [`Self::new`], with binaries from somewhere else.
    ///
    /// # Errors
    /// When not root, or when namespaces cannot be made.
    pub fn with_binaries(label: &str, binaries: Binaries) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        namespace::sweep();
        crate::wireguard::sweep();
        let mut random = [0; 2];
        getrandom::fill(&mut random)
            .map_err(|error| LabError::unexpected(format!("no random bytes from the system: {error}")))?;
        let (pid, number) = (std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let random = u16::from_ne_bytes(random);
        let dir = tempfile::Builder::new()
            .prefix(&format!("wireplug-lab-{label}-"))
            .tempdir()
            .map_err(LabError::io("make a directory for the lab's logs"))?;
        let shared = Arc::new(Shared {
            id: format!("{pid}-{number}-{random:04x}"),
            // Labs of one process count on from its first one's number: several may run side by side.
            device_prefix: format!("w{pid:x}{:03x}", (FIRST.get_or_init(|| random.into()) + number) & 0xfff),
            dir_path: dir.path().to_owned(),
            dir: Mutex::new(Some(dir)),
            binaries,
            state: Mutex::default(),
        });
        let lab = Self { shared };
        lab.make_internet()?;
        Ok(lab)
    }

    /// Runs `work` in a new lab; its error prints the digest.
    ///
    /// # Errors
    /// Those of [`Self::new`] and of `work`.
    pub fn with<T>(label: &str, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let lab = Self::new(label)?;
        let result = work(&lab);
        if let Err(error) = &result {
            lab.fail(&error.to_string());
        }
        result
    }

    /// The directory of this lab's logs and configs; it goes with the lab, unless something failed.
    pub fn dir(&self) -> &Path {
        &self.shared.dir_path
    }

    /// Prints what a reader needs to understand a failure, and keeps the logs.
    pub fn fail(&self, why: &str) {
        eprintln!("{}", self.digest(why));
        if let Some(dir) = lock(&self.shared.dir).take() {
            eprintln!("logs are kept in {}", dir.keep().display());
        }
    }

    /// Logs, WireGuard's view and the routers' mappings. What was paused runs on.
    pub fn digest(&self, why: &str) -> String {
        use std::fmt::Write as _;
        let state = self.shared.state();
        let mut text = format!("==== lab {}: {why}\n", self.shared.id);
        let mut section = |title: String, body: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "---- {title}\n{}", body.trim_end());
        };
        for process in &state.processes {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let ended = process.exited().map_or_else(|| "running".to_owned(), |status| status.to_string());
            let title = format!("{} (pid {}, {ended})", process.name(), process.pid());
            section(title, lines[lines.len().saturating_sub(DIGEST_LINES)..].join("\n"));
            // A wireguard-go that a test has paused would leave `wg show` waiting for ever.
            process.resume();
        }
        for (namespace, device) in &state.devices {
            let body = namespace.run(&["wg", "show", device]).unwrap_or_else(|error| error.to_string());
            section(format!("wg show {device} in {}", namespace.name()), body);
        }
        for router in &state.routers {
            let body =
                router.run(&["conntrack", "-L", "-p", "udp"]).unwrap_or_else(|error| error.to_string());
            section(format!("mappings of {}", router.name()), body);
        }
        text
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("the test panicked");
        }
        let mut state = self.shared.state();
        for process in state.processes.iter().rev() {
            process.kill();
        }
        for (_, device) in &state.devices {
            // Left behind by a wireguard-go that was killed.
            let _ = fs::remove_file(crate::wireguard::control_socket(device));
        }
        drop(state.delay.take());
        for overlay in &state.overlays {
            let _ = fs::remove_dir_all(overlay);
        }
        for namespace in &state.namespaces {
            namespace.delete();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Makes a namespace that goes with the lab.
    pub(crate) fn namespace(&self, label: &str) -> Result<Namespace> {
        let namespace = Namespace::create(&self.id, label)?;
        self.state().namespaces.push(namespace.clone());
        Ok(namespace)
    }

    /// Makes a namespace that forwards, and whose mappings the digest shows.
    pub(crate) fn router(&self, label: &str) -> Result<Namespace> {
        let namespace = self.namespace(label)?;
        namespace.sysctl(&[
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ])?;
        self.state().routers.push(namespace.clone());
        Ok(namespace)
    }

    /// The namespace that is the internet: the first that was made.
    pub(crate) fn internet(&self) -> Namespace {
        self.state().namespaces[0].clone()
    }

    /// The number of the next link to the internet, from 1.
    pub(crate) fn next_link(&self) -> u8 {
        let mut state = self.state();
        state.links += 1;
        state.links
    }

    pub(crate) fn links(&self) -> u8 {
        self.state().links
    }

    /// A device name that nothing else on this machine has: at most 15 characters.
    pub(crate) fn next_device(&self, namespace: &Namespace) -> String {
        let mut state = self.state();
        let name = format!("{}{}", self.device_prefix, state.devices.len());
        state.devices.push((namespace.clone(), name.clone()));
        name
    }

    pub(crate) fn keep_delay(&self, delay: Delay) {
        self.state().delay = Some(delay);
    }

    /// Makes a new link of the internet as slow as the others.
    pub(crate) fn delay_link(&self, net: &Namespace, link: &str) -> Result<()> {
        self.state().delay.as_ref().map_or(Ok(()), |delay| delay.meet(net, link))
    }

    /// Writes a file that programs started in the namespace see in /etc.
    pub(crate) fn overlay_etc(&self, namespace: &Namespace, name: &str, text: &str) -> Result<()> {
        let dir = Path::new("/etc/netns").join(namespace.name());
        self.state().overlays.push(dir.clone());
        fs::create_dir_all(&dir).map_err(LabError::io(format!("make {}", dir.display())))?;
        let path = dir.join(name);
        fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))
    }

    /// A file in the lab's directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir_path.join(name)
    }

    /// Writes a file in the lab's directory that only root may read: it may hold keys.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Starts a program that ends with the lab; its log is named `label`.
    pub(crate) fn spawn(
        &self,
        namespace: &Namespace,
        label: &str,
        program: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Process> {
        let label = {
            let mut state = self.state();
            let count = state.labels.entry(label.to_owned()).or_default();
            *count += 1;
            if *count == 1 { label.to_owned() } else { format!("{label}.{count}") }
        };
        let log = self.file(&format!("{label}.log"));
        let process = Process::start(namespace, label, program, args, env, log)?;
        self.state().processes.push(process.clone());
        Ok(process)
    }
}

/// A poisoned lock only says that a test failed elsewhere; cleaning up must go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
