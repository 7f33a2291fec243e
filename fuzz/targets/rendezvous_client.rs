//! The target `rendezvous_client` of `wireplug_fuzz`.

#![cfg_attr(fuzzing, no_main)]

wireplug_fuzz::target!(rendezvous_client);
