//! A rendezvous server in the real one's place: its address, its certificate, its protocol, but not its intentions.
//!
//! It runs on threads of the test, with sockets in the server's namespace. What it does wrong is its [`Temper`],
//! which a test changes while everything runs; all else it does as it should.

mod connection;
mod mailboxes;
mod stun;
mod temper;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use wireplug_lab::{LabError, Pair, Result, STUN_PORT};
use wireplug_proto::{Side, Topic};

use crate::failed;
use mailboxes::Mailboxes;
pub use temper::{Babble, Temper};

/// Where the real server listens for HTTPS.
const HTTPS_PORT: u16 = 443;

/// A running rogue server. Dropping it ends it.
#[derive(Debug)]
pub struct Rogue {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What all its tasks share.
#[derive(Debug)]
struct Shared {
    /// Where STUN is answered: the first and the second address.
    stun: [SocketAddr; 2],
    mailboxes: Mutex<Mailboxes>,
}

/// Everything that it listens on.
struct Sockets {
    https: TcpListener,
    stun: [UdpSocket; 2],
    /// Clients have never sent to this one.
    probes: UdpSocket,
}

impl Rogue {
    /// Kills the pair's real server and stands in its place.
    ///
    /// # Errors
    /// When the certificate cannot be read or a socket not be had.
    pub fn replace(pair: &Pair, temper: Temper) -> Result<Self> {
        pair.server.kill();
        let stun = [0, 1].map(|index| SocketAddr::new(pair.server.v4(index).into(), STUN_PORT));
        let https = SocketAddr::new(pair.server.v4(0).into(), HTTPS_PORT);
        let sockets = Sockets {
            https: pair.server.namespace().enter(|| {
                TcpListener::bind(https).map_err(failed("listen for HTTPS in the real server's place"))
            })?,
            stun: [pair.server.udp(stun[0])?, pair.server.udp(stun[1])?],
            probes: pair.server.udp(SocketAddr::new(pair.server.v4(1).into(), 0))?,
        };
        let tls = acceptor(pair)?;
        let shared = Arc::new(Shared { stun, mailboxes: Mutex::new(Mailboxes::new(temper)) });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("start a runtime for the rogue server"))?;
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || runtime.block_on(serve(shared, sockets, tls, stopped)))
        };
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Changes what it does from now on.
    pub fn become_a(&self, temper: Temper) {
        self.shared.mailboxes().set_temper(temper);
    }

    /// Changes what it does and hangs up on everybody, as when a server is replaced by another one.
    pub fn restart_as(&self, temper: Temper) {
        let mut mailboxes = self.shared.mailboxes();
        mailboxes.set_temper(temper);
        mailboxes.hang_up();
    }

    /// Tells one side of a topic that the other one published this.
    pub fn tell(&self, topic: Topic, reader: Side, sealed: Vec<u8>) {
        self.shared.mailboxes().tell(topic, reader, sealed);
    }

    /// How many offers it has told that nobody published in that way.
    pub fn lies(&self) -> usize {
        self.shared.mailboxes().lies()
    }

    /// How many offers were published.
    pub fn published(&self) -> usize {
        self.shared.mailboxes().published()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.mailboxes().connections()
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of its was printed; the test judges by what the daemons do.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn mailboxes(&self) -> MutexGuard<'_, Mailboxes> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS with the certificate that the daemons have the pin of.
fn acceptor(pair: &Pair) -> Result<TlsAcceptor> {
    let path = pair.server.certificate();
    let unusable = |why: String| LabError::unexpected(format!("no certificate in {}: {why}", path.display()));
    let pem = std::fs::read(&path).map_err(failed("read the real server's certificate"))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(config).into())
}

async fn serve(shared: Arc<Shared>, sockets: Sockets, tls: TlsAcceptor, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = tokio_listener(sockets.https) else { return };
    let Ok(probes) = tokio_udp(sockets.probes).map(Arc::new) else { return };
    for (index, socket) in sockets.stun.into_iter().enumerate() {
        let Ok(socket) = tokio_udp(socket) else { return };
        tokio::spawn(stun::answer(Arc::clone(&shared), socket, index));
    }
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((tcp, _)) = accepted {
            tokio::spawn(connection::run(Arc::clone(&shared), tcp, tls.clone(), Arc::clone(&probes)));
        }
    }
}

fn tokio_listener(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn tokio_udp(socket: UdpSocket) -> std::io::Result<tokio::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}
