//! The target `control_question` of `wireplug_fuzz`.

#![cfg_attr(fuzzing, no_main)]

wireplug_fuzz::target!(control_question);
