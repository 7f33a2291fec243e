//! Frames between daemon and server.

use wireplug_proto::rendezvous::{ClientMessage, FrameError, MAX_DETAIL, MAX_FRAME, MAX_STUN, ServerMessage};

/// The longest complaint about a frame, in bytes: it goes to the log, and to whoever sent the frame.
const MAX_COMPLAINT: usize = 500;

pub(crate) fn client(data: &[u8]) {
    match ClientMessage::decode(data) {
        Ok(ClientMessage::Unknown) => {}
        Ok(message) => {
            let frame = message.encode();
            assert!(data.len() <= MAX_FRAME && frame.len() <= MAX_FRAME);
            assert_eq!(ClientMessage::decode(&frame), Ok(message));
        }
        Err(error) => is_short(&error),
    }
}

pub(crate) fn server(data: &[u8]) {
    match ServerMessage::decode(data) {
        Ok(ServerMessage::Unknown) => {}
        Ok(message) => {
            let frame = message.encode();
            assert!(data.len() <= MAX_FRAME && frame.len() <= MAX_FRAME);
            match &message {
                ServerMessage::Hello { stun, .. } => {
                    assert!(stun.len() <= MAX_STUN && stun.iter().all(|addr| addr.port() != 0));
                }
                ServerMessage::Refused { detail, .. } => {
                    assert!(detail.chars().count() <= MAX_DETAIL && !detail.contains(char::is_control));
                }
                _ => {}
            }
            assert_eq!(ServerMessage::decode(&frame), Ok(message));
        }
        Err(error) => is_short(&error),
    }
}

fn is_short(error: &FrameError) {
    let complaint = error.to_string();
    assert!(complaint.len() <= MAX_COMPLAINT && !complaint.contains(char::is_control), "{complaint:?}");
}
