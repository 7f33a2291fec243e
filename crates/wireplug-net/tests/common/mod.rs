//! Network namespaces of a test's own. They have no name, so nothing is left when the test ends, however it ends.

#![allow(dead_code)] // each test file uses its part

pub(crate) mod promises;
pub(crate) mod wireguard;

use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, and the thread that lives in it. Sockets that the thread makes stay in it.
pub(crate) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Namespace {
    /// A new one, with loopback up. Needs root.
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (told, tid) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root, for namespaces of their own");
            told.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in inbox {
                job();
            }
        });
        let namespace = Self { jobs: Some(jobs), thread: Some(thread), tid: tid.recv().unwrap() };
        namespace.sh("ip link set lo up");
        namespace
    }

    /// Runs something in the namespace, and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The same for a future, on a runtime whose threads are all in the namespace, within 20 s.
    pub(crate) fn block_on<T: Send + 'static>(&self, job: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), job()).await.expect("the test hangs")
            })
        })
    }

    /// Runs a script in the namespace; every command must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let script = script.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-euc", &script]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{script}: {error}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// A UDP socket of the namespace, for use from any thread. It does not wait longer than 5 s for anything.
    pub(crate) fn udp(&self, addr: &str) -> UdpSocket {
        let addr = addr.to_owned();
        let socket = self.run(move || UdpSocket::bind(&addr).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Two namespaces with a link `up0` between them: `10.9.0.1/24` and `fd09::1/64` here, 2 for 1 there.
pub(crate) fn pair() -> (Namespace, Namespace) {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.sh(&format!("ip link add up0 type veth peer name up0 netns {}", there.tid));
    for (end, number) in [(&here, 1), (&there, 2)] {
        end.sh(&format!(
            "ip addr add 10.9.0.{number}/24 dev up0
             ip addr add fd09::{number}/64 dev up0 nodad
             ip link set up0 up"
        ));
    }
    // A link-local address that is still tentative does no harm, but the carrier must be there.
    for end in [&here, &there] {
        end.sh("timeout 5 sh -c 'until ip -o link show up0 | grep -q LOWER_UP; do :; done'");
    }
    (here, there)
}

/// A STUN binding request (RFC 8489 section 5) whose transaction id is made of this byte.
pub(crate) fn stun(id: u8) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([id; 12]);
    message
}
