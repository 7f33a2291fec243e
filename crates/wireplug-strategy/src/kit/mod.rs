//! The conformance kit: what every strategy must do, checked on virtual time.
//!
//! A strategy's crate describes two places in which it finds something, and gets one test for each [`Rule`]:
//!
//! ```ignore
//! use my_strategy as _;
//! use wireplug_strategy::{find, kit::{Place, Scenario}};
//!
//! fn scenario() -> Scenario {
//!     Scenario::new(Place::new(/* at home */), Place::new(/* at the café */))
//! }
//!
//! wireplug_strategy::conformance!(find("my-strategy").unwrap(), toml::Table::new(), scenario());
//! ```
//!
//! The crate needs `tokio` with `macros` and `test-util` among its `dev-dependencies`: the tests run on one
//! thread with paused time, so that an hour costs nothing and no test depends on luck. A strategy that reads
//! real sockets needs them behind something that a test can replace: paused time does not wait for them.
//!
//! For tests of its own, a strategy uses the same parts: a [`Run`] in a [`Place`], and what its
//! [`FakeHost`] wrote down.

pub mod gateway;
pub mod home;
mod host;
mod limits;
mod place;
mod relay;
mod rules;
mod run;

pub use host::{Asked, FakeHost, Question, Said, Standing};
pub use place::{Answers, FakeRelay, Nat, Place, address};
pub use rules::{Rule, Violation};
pub use run::{BadStop, Run};

use crate::registry::Registration;

/// What a strategy is tried in.
pub struct Scenario {
    /// A place where it finds something. Generation 1, and wanted.
    pub home: Place,
    /// Another network where it finds something. Generation 2, and wanted.
    pub away: Place,
    /// What can change at home without a change of the network, each with its name: afterwards the strategy
    /// must come to say what it would have said if it had been so from the start, within two hours.
    pub changes: Vec<(&'static str, Place)>,
    /// What the strategy has left outside this host, such as mappings on a router, in words; empty after a stop.
    pub left_behind: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Scenario {
    /// Two places, where nothing can be left behind.
    pub fn new(mut home: Place, mut away: Place) -> Self {
        for (place, generation) in [(&mut home, 1), (&mut away, 2)] {
            place.situation.generation = generation;
            place.situation.wanted = true;
        }
        Self { home, away, changes: Vec::new(), left_behind: Box::new(Vec::new) }
    }

    /// The same with something that changes at home.
    #[must_use]
    pub fn changing(mut self, what: &'static str, change: impl FnOnce(&mut Place)) -> Self {
        let mut place = self.home.clone();
        change(&mut place);
        self.changes.push((what, place));
        self
    }
}

/// Checks one rule. Paused time is needed: `#[tokio::test(start_paused = true)]`.
///
/// # Errors
/// [`Violation`] says which rule was broken, and how.
pub async fn check(
    rule: Rule,
    registration: &Registration,
    table: &toml::Table,
    scenario: &Scenario,
) -> Result<(), Violation> {
    rules::check(rule, registration, table, scenario).await
}

/// Checks all rules and tells all violations.
///
/// # Panics
/// When there are any.
pub async fn check_all(registration: &Registration, table: &toml::Table, scenario: &Scenario) {
    let mut violations = Vec::new();
    for rule in Rule::ALL {
        violations.extend(check(rule, registration, table, scenario).await.err());
    }
    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{} breaks {} rules:\n{}", registration.name, told.len(), told.join("\n"));
}

/// Makes one test for each rule, in a module `conformance`. Takes three expressions: a [`Registration`]'s
/// reference, the strategy's table, and a [`Scenario`].
#[macro_export]
macro_rules! conformance {
    ($registration:expr, $table:expr, $scenario:expr $(,)?) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;

            $crate::conformance!(@rules $registration, $table, $scenario;
                describes_itself DescribesItself,
                refuses_unknown_keys RefusesUnknownKeys,
                refuses_wrong_types RefusesWrongTypes,
                finds Finds,
                retracts Retracts,
                follows_the_network FollowsTheNetwork,
                ignores_late_answers IgnoresLateAnswers,
                keeps_quiet KeepsQuiet,
                cancels Cancels,
                leaves_nothing LeavesNothing,
                rests Rests,
            );
        }
    };
    (@rules $registration:expr, $table:expr, $scenario:expr; $($test:ident $rule:ident,)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                let rule = $crate::kit::Rule::$rule;
                let outcome = $crate::kit::check(rule, $registration, &$table, &$scenario).await;
                if let Err(violation) = outcome {
                    panic!("{violation}");
                }
            }
        )*

        #[test]
        fn every_rule_has_its_test() {
            assert_eq!([$($crate::kit::Rule::$rule),*], $crate::kit::Rule::ALL);
        }
    };
}
