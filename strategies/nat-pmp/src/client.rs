//! Questions to one router, sent again until it answers or time is over.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use natpmp::{Error, NATPMP_PORT, NatpmpAsync, Protocol, Response, new_natpmp_async_with};
use tokio::time::{Instant, timeout_at};
use wireplug_strategy::mapping::{Ask, MapError, Patience, Site};
use wireplug_strategy::{Context, Dial};

use crate::socket::Socket;

/// Its name for people.
pub(crate) const SERVICE: &str = "NAT-PMP";

/// One router, and what is asked of it.
pub(crate) struct Client {
    site: Site,
    port: u16,
    socket: Socket,
    natpmp: NatpmpAsync<Socket>,
}

/// The router's outer address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside {
    pub(crate) ip: Ipv4Addr,
    /// Seconds since its table was new.
    pub(crate) epoch: u32,
}

/// A mapping that it made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapped {
    pub(crate) port: u16,
    pub(crate) lease: Duration,
    pub(crate) epoch: u32,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
enum Question {
    Outside,
    /// RFC 6886 section 3.3; 3.4: outer port and lifetime 0 delete it.
    Map {
        inner: u16,
        outer: u16,
        seconds: u32,
    },
}

impl Question {
    /// Whether this is the answer: an earlier question's may come late, and a router that lies about our port
    /// mapped something else.
    fn is_answered_by(self, answer: &Response) -> bool {
        match (self, answer) {
            (Self::Outside, Response::Gateway(_)) => true,
            (Self::Map { inner, .. }, Response::UDP(answer)) => answer.private_port() == inner,
            _ => false,
        }
    }
}

impl Client {
    pub(crate) fn open(context: &Context, ask: &Ask) -> Result<Self, MapError> {
        let site = ask.site.clone();
        let IpAddr::V4(gateway) = site.gateway.ip else {
            return Err(MapError::Other { gateway: site.gateway.ip, says: "is no IPv4 router".to_owned() });
        };
        let dial = Dial {
            gateway: site.gateway.clone(),
            source: site.source,
            port: NATPMP_PORT,
            fwmark: ask.fwmark,
        };
        let socket = Socket::new(context.dial(&dial).map_err(|error| site.failed(SERVICE, &error))?);
        let natpmp = new_natpmp_async_with(socket.clone(), gateway);
        Ok(Self { site, port: ask.port, socket, natpmp })
    }

    /// RFC 6886 section 3.2.
    pub(crate) async fn outside(&self, patience: Patience) -> Result<Outside, MapError> {
        match self.asked(Question::Outside, patience).await {
            Ok(Response::Gateway(answer)) => {
                Ok(Outside { ip: *answer.public_address(), epoch: answer.epoch() })
            }
            Ok(Response::UDP(_) | Response::TCP(_)) => Err(self.failed(Error::NATPMP_ERR_UNDEFINEDERROR)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Asks a router that has just answered for a mapping to an outer port.
    pub(crate) async fn map(&self, outer: u16, lease: Duration) -> natpmp::Result<Mapped> {
        let seconds = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX);
        let question = Question::Map { inner: self.port, outer, seconds };
        match self.asked(question, Patience::Known).await? {
            Response::UDP(answer) => {
                Ok(Mapped { port: answer.public_port(), lease: *answer.lifetime(), epoch: answer.epoch() })
            }
            Response::Gateway(_) | Response::TCP(_) => Err(Error::NATPMP_ERR_UNDEFINEDERROR),
        }
    }

    /// RFC 6886 section 3.4.
    pub(crate) async fn unmap(&self, patience: Patience) -> natpmp::Result<()> {
        let question = Question::Map { inner: self.port, outer: 0, seconds: 0 };
        self.asked(question, patience).await.map(drop)
    }

    /// What the crate's error means here.
    pub(crate) fn failed(&self, error: Error) -> MapError {
        let gateway = self.site.gateway.ip;
        let denied = |why: &str| MapError::Denied { gateway, why: why.to_owned(), retry_after: None };
        if let Some(error) = self.socket.take_failure() {
            return self.site.failed(SERVICE, &error);
        }
        match error {
            Error::NATPMP_TRYAGAIN => MapError::Silent { gateway, service: SERVICE },
            Error::NATPMP_ERR_UNSUPPORTEDVERSION => MapError::Other {
                gateway,
                says: "speaks PCP instead of NAT-PMP: leave it to the strategy pcp".to_owned(),
            },
            Error::NATPMP_ERR_NOTAUTHORIZED => {
                denied("not authorized: allow this host to map ports in the router's settings")
            }
            Error::NATPMP_ERR_NETWORKFAILURE => denied("it has no outer address itself"),
            Error::NATPMP_ERR_OUTOFRESOURCES => denied("out of resources: its table is full"),
            Error::NATPMP_ERR_UNSUPPORTEDOPCODE => denied("it does not know how to map ports"),
            other => denied(&format!("its answer makes no sense ({other:?})")),
        }
    }

    /// Sends a question until its answer comes. [`Error::NATPMP_TRYAGAIN`] stands for silence.
    async fn asked(&self, question: Question, patience: Patience) -> natpmp::Result<Response> {
        for wait in patience.waits() {
            self.send(question).await?;
            let until = Instant::now() + wait;
            while let Ok(answer) = timeout_at(until, self.natpmp.read_response_or_retry()).await {
                match answer {
                    Ok(answer) if !question.is_answered_by(&answer) => {}
                    other => return other,
                }
            }
        }
        Err(Error::NATPMP_TRYAGAIN)
    }

    async fn send(&self, question: Question) -> natpmp::Result<()> {
        match question {
            Question::Outside => {
                // The crate wants this one exclusively; another handle to the same socket does.
                let mut natpmp = new_natpmp_async_with(self.socket.clone(), *self.natpmp.gateway());
                natpmp.send_public_address_request().await
            }
            Question::Map { inner, outer, seconds } => {
                self.natpmp.send_port_mapping_request(Protocol::UDP, inner, outer, seconds).await
            }
        }
    }
}

/// The seconds that a router's notice tells (RFC 6886 section 3.2.1).
pub(crate) fn announced(datagram: &[u8]) -> Option<u32> {
    match datagram {
        [0, 0x80, 0, 0, a, b, c, d, _, _, _, _, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}
