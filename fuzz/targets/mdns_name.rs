//! The target `mdns_name` of `wireplug_fuzz`.

#![cfg_attr(fuzzing, no_main)]

wireplug_fuzz::target!(mdns_name);
