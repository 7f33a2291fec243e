//! Bytes on the wire, without IO: offers, sealing, rendezvous messages, STUN
