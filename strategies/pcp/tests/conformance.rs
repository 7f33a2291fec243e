//! The rules of every strategy.

use wireplug_pcp as _;
use wireplug_strategy::find;
use wireplug_strategy::kit::Scenario;
use wireplug_strategy::kit::gateway::Manner;

fn scenario() -> Scenario {
    wireplug_strategy::kit::home::scenario(
        // The kit compares runs that have nothing in common but the router.
        |script| script.pcp.any_nonce = true,
        |script| script.pcp.manner = Manner::Silent,
    )
}

wireplug_strategy::conformance!(find("pcp").unwrap(), toml::Table::new(), scenario());
