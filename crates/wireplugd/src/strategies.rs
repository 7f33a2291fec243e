//! Running strategies, none of which can hurt the others or the daemon.
//!
//! | part | what |
//! |---|---|
//! | [`Runner`] | one task per strategy: ended when asked, restarted when it fails |
//! | [`EventQueue`] | what they found, bounded however fast they are |

mod queue;
mod runner;

pub use queue::{EventQueue, Found};
pub use runner::Runner;
