//! The daemon's end of the control socket.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Answer, ControlError, Question, Request, socket_path};
use crate::files;
use crate::interface::InterfaceName;

/// The longest question, in bytes.
const MAX_QUESTION: u64 = 1024;
/// How long one conversation may take.
const CONVERSATION: Duration = Duration::from_secs(5);
/// How many may be held at once; others wait in the socket's backlog.
const MAX_CONVERSATIONS: usize = 8;
/// How long to wait after a failed accept, which means that the process has no descriptors left.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A control socket in use. Dropped, it ends all conversations and removes the socket.
pub struct ControlServer {
    path: PathBuf,
    // Dropped with its tasks.
    _tasks: JoinSet<()>,
}

impl ControlServer {
    /// Opens the socket of an interface below [`files::run_directory`], in place of a stale one. Requests
    /// arrive at the receiver. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ControlError`], also where another daemon answers there.
    pub fn open(
        run_directory: &Path,
        interface: &InterfaceName,
    ) -> Result<(Self, mpsc::Receiver<Request>), ControlError> {
        let path = socket_path(run_directory, interface);
        files::make_directory(run_directory)
            .map_err(|error| ControlError::io("make", run_directory, error))?;
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(ControlError::AlreadyRunning(interface.clone()));
        }
        // Whoever left it is gone.
        let _ = std::fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).map_err(|error| ControlError::io("listen on", &path, error))?;
        // The directory is root's, and each conversation looks who asks: this is the third lock of the door.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| ControlError::io("close to others", &path, error))?;
        let (requests, receiver) = mpsc::channel(MAX_CONVERSATIONS);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, requests));
        Ok((Self { path, _tasks: tasks }, receiver))
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
    let mut conversations = JoinSet::new();
    loop {
        while conversations.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                conversations.spawn(async move {
                    if timeout(CONVERSATION, converse(stream, &requests)).await.is_err() {
                        debug!("a control conversation took too long and was ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot take a control connection");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, requests: &mpsc::Sender<Request>) {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => {}
        Ok(peer) => {
            warn!(uid = peer.uid(), "a control connection of somebody other than root is refused");
            return;
        }
        Err(error) => {
            warn!(%error, "cannot tell who asks on the control socket; refused");
            return;
        }
    }
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let answer = match BufReader::new(read.take(MAX_QUESTION)).read_line(&mut line).await {
        Err(_) | Ok(0) => return,
        Ok(_) if !line.ends_with('\n') => Answer::Error("the question is too long".to_owned()),
        Ok(_) => match serde_json::from_str(&line) {
            Ok(Question::Status) => {
                let told = told(requests, Request::Status).await;
                told.map_or_else(stopping, |status| Answer::Status(Box::new(status)))
            }
            Ok(Question::Strategies) => {
                let told = told(requests, Request::Strategies).await;
                told.map_or_else(stopping, Answer::Strategies)
            }
            Ok(Question::Reload) => {
                let told = told(requests, Request::Reload).await;
                told.map_or_else(stopping, Answer::Reload)
            }
            Err(error) => Answer::Error(format!("unknown question: {error}")),
        },
    };
    let Ok(mut text) = serde_json::to_vec(&answer) else { return };
    text.push(b'\n');
    // Who does not wait for the answer does not get it.
    let _ = write.write_all(&text).await;
}

/// Has the event loop answer; none where it is gone.
async fn told<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    requests.send(request(sender)).await.ok()?;
    receiver.await.ok()
}

fn stopping() -> Answer {
    Answer::Error("the daemon is stopping".to_owned())
}
