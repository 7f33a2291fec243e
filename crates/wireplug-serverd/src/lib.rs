//! The rendezvous and relay server that anyone can host
