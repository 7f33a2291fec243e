//! The target `rendezvous_server` of `wireplug_fuzz`.

#![cfg_attr(fuzzing, no_main)]

wireplug_fuzz::target!(rendezvous_server);
