//! The rules of every strategy.

use wireplug_nat_pmp as _;
use wireplug_strategy::find;
use wireplug_strategy::kit::Scenario;
use wireplug_strategy::kit::gateway::Manner;

fn scenario() -> Scenario {
    wireplug_strategy::kit::home::scenario(|_| {}, |script| script.natpmp.manner = Manner::Silent)
}

wireplug_strategy::conformance!(find("nat-pmp").unwrap(), toml::Table::new(), scenario());
