//! The router's side of HTTP: one request and its answer on each connection, at whatever pace the script says.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::upnp::Page;
use super::{FakeGateway, Inner};
use crate::kit::host::InFlight;

/// The most that is taken for a request.
const MAX_REQUEST: usize = 64 << 10;

/// What comes back, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Whole(Vec<u8>),
    /// Then this again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// One byte, a pause, the next byte.
    Drip(Vec<u8>, Duration),
    Never,
}

/// A connection in memory.
#[derive(Debug)]
pub(in crate::kit) struct FakeConnection {
    router: FakeGateway,
    from: IpAddr,
    at: IpAddr,
    /// `None` is for ever.
    latency: Option<Duration>,
    request: Vec<u8>,
    reply: Option<(Reply, usize)>,
    timer: Pin<Box<Sleep>>,
    waker: Option<std::task::Waker>,
    _in_flight: InFlight,
}

impl FakeConnection {
    pub(in crate::kit) fn new(
        router: FakeGateway,
        from: IpAddr,
        at: IpAddr,
        latency: Option<Duration>,
        in_flight: InFlight,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let (request, reply, waker) = (Vec::new(), None, None);
        Self { router, from, at, latency, request, reply, timer, waker, _in_flight: in_flight }
    }
}

impl AsyncWrite for FakeConnection {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.request.len() + bytes.len() > MAX_REQUEST {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.request.extend(bytes);
        if let (None, Some(body), Some(latency)) = (&self.reply, complete(&self.request), self.latency) {
            let reply = self.router.requested(self.from, self.at, &self.request, body);
            self.reply = Some((reply, 0));
            self.timer.as_mut().reset(Instant::now() + latency);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for FakeConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.reply, None | Some((Reply::Never, _))) {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ready!(self.timer.as_mut().poll(cx));
        let mut pause = None;
        if let Some((reply, sent)) = &mut self.reply {
            let (bytes, most): (&[u8], usize) = match reply {
                Reply::Whole(bytes) => (bytes.get(*sent..).unwrap_or_default(), usize::MAX),
                Reply::Endless(head, tail) => match head.get(*sent..).filter(|rest| !rest.is_empty()) {
                    Some(rest) => (rest, usize::MAX),
                    None => (tail, usize::MAX),
                },
                Reply::Drip(bytes, every) => {
                    pause = Some(*every);
                    (bytes.get(*sent..).unwrap_or_default(), 1)
                }
                Reply::Never => (&[], 0),
            };
            let length = bytes.len().min(most).min(buffer.remaining());
            buffer.put_slice(&bytes[..length]);
            *sent += length;
        }
        if let Some(pause) = pause {
            self.timer.as_mut().reset(Instant::now() + pause);
        }
        Poll::Ready(Ok(()))
    }
}

/// Where a request's body begins, once all of it is there.
fn complete(request: &[u8]) -> Option<usize> {
    let head = request.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    (request.len() >= head + length.unwrap_or(0)).then_some(head)
}

impl FakeGateway {
    /// Whether something accepts connections there.
    pub(in crate::kit) fn accepts(&self, port: u16) -> bool {
        let script = &self.lock().script.upnp;
        port == script.port && script.description != Page::Refused
    }

    fn requested(&self, from: IpAddr, at: IpAddr, request: &[u8], body: usize) -> Reply {
        let mut inner = self.lock();
        inner.expire();
        let port = inner.script.upnp.port;
        inner.note(from, port, request);
        let text = String::from_utf8_lossy(request);
        let mut line = text.lines().next().unwrap_or_default().split(' ');
        match (line.next(), line.next()) {
            (Some("GET"), Some(path)) => inner.page(at, path),
            (Some("POST"), Some(path)) => {
                let action = text.lines().find_map(|line| line.strip_prefix("SOAPACTION:")).map(str::trim);
                let text = String::from_utf8_lossy(&request[body..]).into_owned();
                inner.action(from, path, action.unwrap_or_default(), &text)
            }
            _ => Reply::Whole(answer(400, "")),
        }
    }
}

impl Inner {
    fn page(&self, at: IpAddr, path: &str) -> Reply {
        let script = &self.script.upnp;
        let page = script.described.get(path).unwrap_or(&script.description);
        match page {
            Page::Own => Reply::Whole(answer(200, &self.description())),
            Page::Text(text) => Reply::Whole(answer(200, text)),
            Page::Chunks(chunks) => {
                let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
                for chunk in chunks.iter().map(String::as_str).chain([""]) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{:x}\r\n{chunk}\r\n", chunk.len());
                }
                Reply::Whole(text.into_bytes())
            }
            Page::Status(status) => Reply::Whole(answer(*status, "")),
            Page::Redirect(to) => {
                let to = to.replace("{at}", &at.to_string());
                let text = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                Reply::Whole(text.into_bytes())
            }
            Page::Endless(text) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<?xml version=\"1.0\"?><root>";
                Reply::Endless(head.into(), text.clone().into_bytes())
            }
            Page::Drip(every) => Reply::Drip(answer(200, &self.description()), *every),
            Page::Hangs | Page::Refused => Reply::Never,
        }
    }
}

/// A whole answer.
pub(super) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} x\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
