//! What strategies get from the daemon.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wireplug_core::StrategyName;
use wireplug_net::Resolver;
use wireplug_strategy::{Binding, BoxFuture, Event, Host, PortError, ResolveError, Resolved};

use crate::strategies::EventQueue;

/// A strategy's question to a STUN server, for the event loop.
pub(super) struct Question {
    pub(super) server: SocketAddr,
    pub(super) answer: oneshot::Sender<Result<Binding, PortError>>,
}

/// The daemon, as strategies see it.
pub(super) struct AgentHost {
    events: EventQueue,
    questions: mpsc::Sender<Question>,
    resolver: Arc<Resolver>,
}

impl AgentHost {
    pub(super) fn new(
        events: EventQueue,
        questions: mpsc::Sender<Question>,
        resolver: Arc<Resolver>,
    ) -> Self {
        Self { events, questions, resolver }
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

    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Resolved, ResolveError>> {
        let resolver = Arc::clone(&self.resolver);
        Box::pin(async move {
            let answer = resolver.lookup(&name).await;
            answer
                .map(|resolved| Resolved { addresses: resolved.addresses, ttl: resolved.ttl })
                .map_err(|error| ResolveError { name, why: error.to_string() })
        })
    }
}
