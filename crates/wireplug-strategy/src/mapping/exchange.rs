//! A question to a router and its answer, over UDP that loses datagrams.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::{MapError, Site};
use crate::router::Datagrams;

/// How many datagrams that are no answer are read while one is waited for: a flood costs no more.
const MAX_JUNK: usize = 64;

/// How long an answer is waited for, sending the question again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The first contact, when there may be nobody: three times within one second. The RFCs would go on for a
    /// minute (RFC 6886 section 3.1) or for ever (RFC 6887 section 8.1.1), which suits a far server; a router on
    /// the link answers in milliseconds or not at all.
    First,
    /// A router that has answered before: four times within 3.75 s.
    Known,
    /// Taking a mapping back when there is no more time: twice within 0.6 s.
    Last,
}

impl Patience {
    /// The waits after each sending: 250 ms first and doubled (RFC 6886 section 3.1), the last one cut.
    pub fn waits(self) -> impl Iterator<Item = Duration> {
        let waits: &[u64] = match self {
            Self::First => &[250, 500, 250],
            Self::Known => &[250, 500, 1000, 2000],
            Self::Last => &[250, 350],
        };
        waits.iter().map(|millis| Duration::from_millis(*millis))
    }
}

/// Asks, again after each wait, until `read` takes a datagram for the answer.
///
/// # Errors
/// [`MapError::Silent`], [`MapError::Refused`] at once where ICMP says so, or [`MapError::Socket`].
pub async fn exchange<T>(
    socket: &dyn Datagrams,
    question: &[u8],
    patience: Patience,
    service: &'static str,
    site: &Site,
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, MapError> {
    let mut junk = 0;
    for wait in patience.waits() {
        socket.send(question).await.map_err(|error| site.failed(service, &error))?;
        let answer = timeout(wait, async {
            while junk < MAX_JUNK {
                let datagram = socket.receive().await?;
                if let Some(answer) = read(&datagram) {
                    return Ok(answer);
                }
                junk += 1;
            }
            std::future::pending::<io::Result<T>>().await
        });
        if let Ok(answer) = answer.await {
            return answer.map_err(|error| site.failed(service, &error));
        }
    }
    Err(MapError::Silent { gateway: site.gateway.ip, service })
}
