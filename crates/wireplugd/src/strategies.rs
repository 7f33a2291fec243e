//! Running strategies, none of which can hurt the others or the daemon.
//!
//! | part | what |
//! |---|---|
//! | [`Runner`] | one task per strategy: ended when asked, restarted when it fails |
//! | [`EventQueue`] | what they found, bounded however fast they are; [`Standing`] is what one holds for true now |
//! | [`Lives`] | how their runs go |
//! | [`report`] | all of that for `wireplug strategies` |

mod lives;
mod queue;
mod report;
mod runner;

pub use lives::{Life, Lives, Phase};
pub use queue::{EventQueue, Found, Held, Standing};
pub use report::{Clock, report};
pub use runner::Runner;
