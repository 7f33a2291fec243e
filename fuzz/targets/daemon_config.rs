//! The target `daemon_config` of `wireplug_fuzz`.

#![cfg_attr(fuzzing, no_main)]

wireplug_fuzz::target!(daemon_config);
