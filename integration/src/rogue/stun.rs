//! STUN, answered with the truth or with a lie.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use wireplug_core::TransactionId;
use wireplug_proto::stun::binding::{Received, receive};
use wireplug_proto::stun::probe::probe;

use super::Shared;
use super::temper::Temper;
use crate::random;

/// Probes with nonces that nobody asked for, after each lie.
const FALSE_PROBES: usize = 3;

/// Answers on the server's address number `index` for as long as the server runs.
pub(super) async fn answer(shared: Arc<Shared>, socket: UdpSocket, index: usize) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Received::Request(request) = receive(&buffer[..length]) else { continue };
        let temper = shared.mailboxes().temper().clone();
        let (origin, other) = (shared.stun[index], shared.stun[1 - index]);
        let answer = request.response(temper.mapped(from), Some(origin), Some(other));
        send(&socket, &answer, from).await;
        if matches!(temper, Temper::LiesInStun(_)) {
            for _ in 0..FALSE_PROBES {
                send(&socket, &probe(TransactionId::from_bytes(random()), &random()), from).await;
            }
        }
    }
}

/// Sends; what is lost is lost.
pub(super) async fn send(socket: &UdpSocket, payload: &[u8], to: SocketAddr) {
    let _ = socket.send_to(payload, to).await;
}
