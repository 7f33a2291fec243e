//! The rules of every strategy.

use wireplug_strategy::find;
use wireplug_strategy::kit::Scenario;
use wireplug_strategy::kit::gateway::UpnpScript;
use wireplug_upnp_igd as _;

fn scenario() -> Scenario {
    wireplug_strategy::kit::home::scenario(|_| {}, |script| UpnpScript::silent(&mut script.upnp))
}

wireplug_strategy::conformance!(find("upnp-igd").unwrap(), toml::Table::new(), scenario());
