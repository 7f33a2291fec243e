//! The target `relay_bind` of `wireplug_fuzz`.

#![cfg_attr(fuzzing, no_main)]

wireplug_fuzz::target!(relay_bind);
