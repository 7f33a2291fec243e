//! An interface that is not there, or not yet, or not again: looked for, and whoever asks is told.

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use wireplug_net::{Device, DeviceState};

use super::{AgentConfig, LOOK_AGAIN, find};
use crate::control::Request;
use crate::status::{InterfaceStatus, StrategyInfo};

/// Waits until the interface is there; `None` if it is told to stop before. `why` it is not there now.
pub(super) async fn wait(
    config: &AgentConfig,
    mut why: String,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<(Device, DeviceState)> {
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = config.stop.cancelled() => return None,
            Some(request) = requests.recv() => answer(config, &why, request),
            () = sleep_until(next) => match find(&config.interface).await {
                Ok(found) => return Some(found),
                Err(error) => {
                    why = error.to_string();
                    next = Instant::now() + LOOK_AGAIN;
                }
            },
        }
    }
}

fn answer(config: &AgentConfig, why: &str, request: Request) {
    match request {
        Request::Status(answer) => drop(answer.send(InterfaceStatus {
            interface: config.interface.to_string(),
            listen_port: 0,
            waiting: Some(why.to_owned()),
            servers: Vec::new(),
            strategies: Vec::new(),
            peers: Vec::new(),
        })),
        Request::Strategies(answer) => {
            drop(answer.send(wireplug_strategy::registered().into_iter().map(StrategyInfo::of).collect()));
        }
        Request::Reload(answer) => config.pass_on(answer),
    }
}
