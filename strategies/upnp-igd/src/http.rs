//! HTTP to a device on the link: one question, one answer, bounded in size and time.
//!
//! (igd-next's own transport is not used: it can be bound neither to the link nor to our address, and reads up to a
//! megabyte. Its actions and errors are, see the module `wire`.)

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::link::{BadUrl, Link, Place};
use crate::ssdp::lenient;

/// The largest answer, head and all: the longest descriptions seen are about 20 KiB.
const MAX_ANSWER: usize = 64 << 10;
/// The largest head.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;
/// How many redirections are followed, on the link only.
const MAX_REDIRECTS: usize = 2;

/// Why there is no answer. It follows "UPnP" and a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("it did not finish its answer within {0} ms")]
    Slow(u128),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its answer is larger than {} KiB", MAX_ANSWER >> 10)]
    TooLarge,
    #[error("its answer is no HTTP")]
    NotHttp,
    #[error("it answers with the HTTP status {0}")]
    Status(u16),
    #[error("it redirects, and {0}")]
    Redirect(#[from] BadUrl),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    redirect: Option<String>,
}

/// Gets a document, and says where it was in the end.
pub(crate) async fn get(link: &Link, place: &Place) -> Result<(Place, Vec<u8>), HttpError> {
    let mut place = place.clone();
    for _ in 0..=MAX_REDIRECTS {
        let question = format!(
            "GET {} HTTP/1.1\r\nHOST: {}\r\nCONNECTION: close\r\nACCEPT: text/xml\r\n\r\n",
            place.path(),
            place.host()
        );
        let answer = ask(link, &place, &question).await?;
        match (answer.status, answer.redirect) {
            (200, _) => return Ok((place, answer.body)),
            (301 | 302 | 303 | 307 | 308, Some(to)) => place = link.place(Some(&place), &to)?,
            (status, _) => return Err(HttpError::Status(status)),
        }
    }
    Err(HttpError::Status(302))
}

/// Posts a SOAP envelope (UDA 1.1 section 3.2.1). `action` is quoted already. Errors of SOAP come with a status of
/// their own, so all are handed over.
pub(crate) async fn post(
    link: &Link,
    place: &Place,
    action: &str,
    envelope: &str,
) -> Result<Answer, HttpError> {
    // In one piece: some routers read no further than the first packet.
    let question = format!(
        "POST {} HTTP/1.1\r\nHOST: {}\r\nCONNECTION: close\r\nCONTENT-TYPE: text/xml; charset=\"utf-8\"\r\n\
         SOAPACTION: {action}\r\nCONTENT-LENGTH: {}\r\n\r\n{envelope}",
        place.path(),
        place.host(),
        envelope.len()
    );
    ask(link, place, &question).await
}

async fn ask(link: &Link, place: &Place, question: &str) -> Result<Answer, HttpError> {
    let step = link.step;
    timeout(step, exchange(link, place, question)).await.unwrap_or(Err(HttpError::Slow(step.as_millis())))
}

async fn exchange(link: &Link, place: &Place, question: &str) -> Result<Answer, HttpError> {
    let mut connection = link.connect(place).await?;
    connection.write_all(question.as_bytes()).await?;
    connection.flush().await?;
    let mut reading = Reading::default();
    let mut piece = vec![0; 4096];
    loop {
        let closed = match connection.read(&mut piece).await {
            Ok(0) => true,
            Ok(length) => {
                reading.add(&piece[..length])?;
                false
            }
            // Some routers reset what they have answered.
            Err(_) if reading.head.is_some() => true,
            Err(error) => return Err(error.into()),
        };
        if let Some(answer) = reading.answer(closed)? {
            return Ok(answer);
        }
    }
}

/// An answer as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    bytes: Vec<u8>,
    head: Option<Head>,
}

#[derive(Debug, Clone)]
struct Head {
    status: u16,
    redirect: Option<String>,
    /// Where the body begins.
    length: usize,
    body: Body,
}

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(usize),
    Chunked,
    UntilClosed,
}

impl Reading {
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), HttpError> {
        if self.bytes.len() + piece.len() > MAX_ANSWER {
            return Err(HttpError::TooLarge);
        }
        self.bytes.extend(piece);
        if self.head.is_none() {
            self.head = head(&self.bytes[..self.bytes.len().min(MAX_HEAD)])?;
            if self.head.is_none() && self.bytes.len() >= MAX_HEAD {
                return Err(HttpError::TooLarge);
            }
        }
        Ok(())
    }

    /// The answer, once it is complete.
    pub(crate) fn answer(&self, closed: bool) -> Result<Option<Answer>, HttpError> {
        let Some(head) = &self.head else {
            return if closed { Err(HttpError::NotHttp) } else { Ok(None) };
        };
        let bytes = self.bytes.get(head.length..).unwrap_or_default();
        let body = match head.body {
            Body::Length(length) if length > MAX_ANSWER => return Err(HttpError::TooLarge),
            Body::Length(length) if bytes.len() >= length => &bytes[..length],
            // Less than was promised is all that there is.
            Body::Length(_) | Body::UntilClosed if closed => bytes,
            Body::Chunked if closed || bytes.ends_with(b"0\r\n\r\n") => {
                return Ok(Some(head.answer(without_chunks(bytes))));
            }
            Body::Length(_) | Body::UntilClosed | Body::Chunked => return Ok(None),
        };
        Ok(Some(head.answer(body.to_vec())))
    }
}

impl Head {
    fn answer(&self, body: Vec<u8>) -> Answer {
        Answer { status: self.status, redirect: self.redirect.clone(), body }
    }
}

/// Reads a head, if it is complete.
fn head(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match lenient().parse_response(&mut answer, bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(HttpError::NotHttp),
    };
    let header = |name: &str| {
        let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = match header("content-length").and_then(|length| length.parse().ok()) {
        _ if chunked => Body::Chunked,
        Some(length) => Body::Length(length),
        None => Body::UntilClosed,
    };
    let redirect = header("location").map(str::to_owned);
    Ok(Some(Head { status: answer.code.unwrap_or_default(), redirect, length, body }))
}

/// The body without its chunks' sizes (RFC 9112 section 7.1), as far as they can be read.
fn without_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes) {
        let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else { break };
        let chunk = &bytes[start..];
        body.extend(&chunk[..size.min(chunk.len())]);
        let Some(rest) = size.checked_add(2).and_then(|next| chunk.get(next..)) else { break };
        bytes = rest;
    }
    body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of an answer that comes byte by byte and then ends.
    fn read(text: &str) -> Result<Option<(u16, String)>, HttpError> {
        let mut reading = Reading::default();
        for byte in text.bytes() {
            reading.add(&[byte])?;
            if let Some(answer) = reading.answer(false)? {
                return Ok(Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned())));
            }
        }
        let answer = reading.answer(true)?;
        Ok(answer.map(|answer| (answer.status, String::from_utf8_lossy(&answer.body).into_owned())))
    }

    #[test]
    fn an_answer_ends_as_its_head_says() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", 200, "abc"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 200, "abc"),
            ("HTTP/1.0 500 \r\n\r\nabcdef", 500, "abcdef"),
            ("HTTP/1.1 200 OK\nserver:\n\nabc", 200, "abc"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                200,
                "abc",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nffffffffffffffff\r\nc",
                200,
                "abc",
            ),
        ] {
            assert_eq!(read(text).unwrap(), Some((status, body.to_owned())), "{text:?}");
        }
        assert!(matches!(read("hello"), Err(HttpError::NotHttp)));
        assert!(matches!(read(""), Err(HttpError::NotHttp)));
    }

    #[test]
    fn too_much_is_refused_as_soon_as_it_is_known() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(9000));
        assert!(matches!(read(&long), Err(HttpError::TooLarge)));
        let promised = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        assert!(matches!(read(promised), Err(HttpError::TooLarge)));
        let mut reading = Reading::default();
        reading.add(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let pieces = (0..1000).take_while(|_| reading.add(&[b'x'; 4096]).is_ok()).count();
        assert_eq!(pieces, MAX_ANSWER / 4096 - 1);
    }

    proptest! {
        #[test]
        fn never_panics(text in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut reading = Reading::default();
            let _ = reading.add(&text);
            let _ = reading.answer(true);
            without_chunks(&text);
        }

        #[test]
        fn never_panics_on_almost_right(
            header in "(content-length|transfer-encoding|location): ?(chunked|[0-9]{0,22})",
            body in "([0-9a-f]{0,17}\r\n|[ -~])*",
        ) {
            let _ = read(&format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n{body}"));
        }
    }
}
