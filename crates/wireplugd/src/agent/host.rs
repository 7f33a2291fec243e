//! What strategies get from the daemon.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wireplug_core::{PublicKey, StrategyName};
use wireplug_net::{LinkSocket, OnLink, Resolver, RouterSocket, connect_on_link};
use wireplug_strategy::{
    Binding, BoxFuture, Connection, Datagrams, Dial, Event, Gateway, Host, Letters, Listen, MAX_DATAGRAM,
    MemoryError, Nearby, PortError, RelayWish, ResolveError, Resolved,
};

use crate::memory::Memory;
use crate::strategies::EventQueue;

use super::wishes::Wishes;

/// A strategy's question to a STUN server, for the event loop.
pub(super) struct Question {
    pub(super) server: SocketAddr,
    pub(super) answer: oneshot::Sender<Result<Binding, PortError>>,
}

/// The daemon, as strategies see it.
pub(super) struct AgentHost {
    events: EventQueue,
    questions: mpsc::Sender<Question>,
    wishes: Wishes,
    resolver: Arc<Resolver>,
    memory: Memory,
}

impl AgentHost {
    pub(super) fn new(
        events: EventQueue,
        questions: mpsc::Sender<Question>,
        wishes: Wishes,
        resolver: Arc<Resolver>,
        memory: Memory,
    ) -> Self {
        Self { events, questions, wishes, resolver, memory }
    }
}

impl Host for AgentHost {
    fn emit(&self, strategy: &StrategyName, generation: u32, event: Event) {
        self.events.push(strategy, generation, event);
    }

    fn binding(&self, server: SocketAddr) -> BoxFuture<'static, Result<Binding, PortError>> {
        let questions = self.questions.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            questions.send(Question { server, answer }).await.map_err(|_| PortError::Closed)?;
            answered.await.map_err(|_| PortError::Closed)?
        })
    }

    fn relay(&self, peer: PublicKey, server: &str, wish: Option<RelayWish>) {
        self.wishes.push(peer, server, wish);
    }

    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Resolved, ResolveError>> {
        let resolver = Arc::clone(&self.resolver);
        Box::pin(async move {
            let answer = resolver.lookup(&name).await;
            answer
                .map(|resolved| Resolved { addresses: resolved.addresses, ttl: resolved.ttl })
                .map_err(|error| ResolveError { name, why: error.to_string() })
        })
    }

    fn dial(&self, dial: &Dial) -> io::Result<Arc<dyn Datagrams>> {
        let Dial { gateway, source, port, fwmark } = dial;
        let socket = RouterSocket::connect(gateway.ip, *port, *source, link(gateway), *fwmark)?;
        Ok(Arc::new(Router(socket)))
    }

    fn listen(&self, listen: &Listen) -> io::Result<Arc<dyn Datagrams>> {
        let Listen { gateway, group, port } = listen;
        Ok(Arc::new(Router(RouterSocket::listen(gateway.ip, *group, *port, link(gateway))?)))
    }

    fn letters(&self, nearby: &Nearby) -> io::Result<Arc<dyn Letters>> {
        let Nearby { gateway, source, fwmark } = nearby;
        Ok(Arc::new(Neighbours(LinkSocket::bind(*source, link(gateway), *fwmark)?)))
    }

    fn connect(
        &self,
        nearby: &Nearby,
        to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let Nearby { gateway, source, fwmark } = nearby.clone();
        Box::pin(async move {
            let connection = connect_on_link(to, source, link(&gateway), fwmark).await?;
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn remember(
        &self,
        strategy: &StrategyName,
        bytes: Vec<u8>,
    ) -> BoxFuture<'static, Result<(), MemoryError>> {
        let (memory, strategy) = (self.memory.clone(), strategy.clone());
        Box::pin(async move {
            let kept = tokio::task::spawn_blocking(move || memory.keep(&strategy, &bytes)).await;
            kept.unwrap_or_else(|error| Err(MemoryError::NotKept(error.to_string())))
        })
    }

    fn recall(&self, strategy: &StrategyName) -> BoxFuture<'static, Option<Vec<u8>>> {
        let (memory, strategy) = (self.memory.clone(), strategy.clone());
        Box::pin(
            async move { tokio::task::spawn_blocking(move || memory.read(&strategy)).await.ok().flatten() },
        )
    }
}

fn link(gateway: &Gateway) -> OnLink<'_> {
    OnLink { ifindex: gateway.ifindex, name: &gateway.interface }
}

/// A socket to everybody on a link, as strategies use it.
#[derive(Debug)]
struct Neighbours(LinkSocket);

impl Letters for Neighbours {
    fn send_to<'a>(&'a self, datagram: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.0.send_to(datagram, to))
    }

    fn receive_from(&self) -> BoxFuture<'_, io::Result<(Vec<u8>, SocketAddr)>> {
        Box::pin(async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            let (length, from) = self.0.receive_from(&mut buffer).await?;
            buffer.truncate(length);
            Ok((buffer, from))
        })
    }
}

/// A socket to a router, as strategies use it.
#[derive(Debug)]
struct Router(RouterSocket);

impl Datagrams for Router {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.0.send(datagram))
    }

    fn receive(&self) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            let length = self.0.receive(&mut buffer).await?;
            buffer.truncate(length);
            Ok(buffer)
        })
    }
}
