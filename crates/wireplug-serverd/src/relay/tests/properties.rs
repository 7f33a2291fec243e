//! Whatever clients do, in any order.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Ask { pair: u8, side: bool, asker: u8 },
    Release { pair: u8, side: bool, asker: u8 },
    Leave { pair: u8, side: bool, asker: u8 },
    Bind { client: u8, source: u8, port: u8 },
    BindTls { client: u8, channel: u8 },
    UnbindTls { binding: u8 },
    Packet { source: u8, port: u8 },
    Wait { seconds: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let who = (0u8..3, any::<bool>(), 0u8..3);
    prop_oneof![
        4 => who.clone().prop_map(|(pair, side, asker)| Step::Ask { pair, side, asker }),
        1 => who.clone().prop_map(|(pair, side, asker)| Step::Release { pair, side, asker }),
        1 => who.prop_map(|(pair, side, asker)| Step::Leave { pair, side, asker }),
        6 => (any::<u8>(), 0u8..4, 0u8..3).prop_map(|(client, source, port)| Step::Bind { client, source, port }),
        2 => (any::<u8>(), 0u8..3).prop_map(|(client, channel)| Step::BindTls { client, channel }),
        1 => any::<u8>().prop_map(|binding| Step::UnbindTls { binding }),
        6 => (0u8..4, 0u8..3).prop_map(|(source, port)| Step::Packet { source, port }),
        1 => (0u16..400).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    /// Whatever happens, a packet goes only to where the other side of the same pair has bound last from.
    #[test]
    fn nothing_goes_to_the_wrong_place(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new(Settings::default());
        let side = |high| if high { Side::High } else { Side::Low };
        let source = |n: u8| if n == 3 { "[2001:db8::3]:51820".to_owned() } else { format!("192.0.2.{n}:51820") };
        let at = |source: u8, port: u8| format!("{}:{}", if source == 3 { "[2001:db8::1]" } else { "203.0.113.1" }, 3479 + u16::from(port));
        let mut clients: Vec<(u8, bool, Client)> = Vec::new();
        let mut bindings = Vec::new();
        // Who bound a path last.
        let mut model: HashMap<(String, String), (u8, bool)> = HashMap::new();
        for step in steps {
            match step {
                Step::Ask { pair, side: high, asker } => {
                    if let Ok(grant) = world.ask(pair.into(), side(high), u64::from(asker) * 2 + u64::from(high), "198.51.100.1")
                        && !clients.iter().any(|(.., client)| client.credential == grant.credential)
                    {
                        clients.push((pair, high, Client { credential: grant.credential, order: 0 }));
                    }
                }
                Step::Release { pair, side: high, asker } => {
                    world.relay.release(world.now, &topic(pair.into()), side(high), Asker(u64::from(asker) * 2 + u64::from(high)));
                }
                Step::Leave { pair, side: high, asker } => {
                    world.relay.leave(world.now, &topic(pair.into()), side(high), Asker(u64::from(asker) * 2 + u64::from(high)));
                }
                Step::Bind { client, source: from, port } if !clients.is_empty() => {
                    let index = usize::from(client) % clients.len();
                    let (pair, high, client) = &mut clients[index];
                    let (from, at) = (source(from), at(from, port));
                    if let (_, Some(BindAnswer::Bound { .. })) = world.try_bind(client, &from, &at) {
                        model.insert((from, at), (*pair, *high));
                    }
                }
                Step::BindTls { client, channel } if !clients.is_empty() => {
                    let (pair, high, client) = &clients[usize::from(client) % clients.len()];
                    // Channels say whose they are.
                    let channel = u16::from(*pair) << 8 | u16::from(*high) << 4 | u16::from(channel);
                    if let Ok((binding, _)) = world.relay.bind_tls(world.now, &client.credential, leg(channel)) {
                        bindings.push((*pair, *high, binding));
                    }
                }
                Step::UnbindTls { binding } if !bindings.is_empty() => {
                    world.relay.unbind_tls(world.now, bindings[usize::from(binding) % bindings.len()].2);
                }
                Step::Packet { source: from, port } => {
                    let (from, at) = (source(from), at(from, port));
                    let owner = model.get(&(from.clone(), at.clone())).copied();
                    check(owner, &world.packet(&from, &at), &model)?;
                    for (pair, high, binding) in &bindings {
                        check(Some((*pair, *high)), &world.tls_packet(*binding), &model)?;
                    }
                }
                Step::Wait { seconds } => world.live(Duration::from_secs(seconds.into())),
                Step::Bind { .. } | Step::BindTls { .. } | Step::UnbindTls { .. } => {}
            }
            let gauges = world.relay.gauges();
            prop_assert!(gauges.sides <= 2 * gauges.allocations && gauges.allocations <= gauges.sides);
            prop_assert!(gauges.udp_bindings <= 2 * gauges.sides && gauges.tls_bindings <= gauges.sides);
        }
        for pair in 0..3 {
            for (high, asker) in [(false, 0), (false, 2), (false, 4), (true, 1), (true, 3), (true, 5)] {
                world.relay.leave(world.now, &topic(pair), side(high), Asker(asker));
            }
        }
        world.live(IDLE * 3);
        prop_assert_eq!(world.relay.gauges(), Gauges::default(), "nothing stays for ever");
    }
}

fn check(
    owner: Option<(u8, bool)>,
    went: &Went,
    model: &HashMap<(String, String), (u8, bool)>,
) -> Result<(), TestCaseError> {
    match (went, owner) {
        (Went::Nowhere(_), _) => {}
        (Went::Udp(from, to), Some((pair, high))) => {
            let target = model.get(&(to.to_string(), from.to_string())).copied();
            prop_assert_eq!(target, Some((pair, !high)));
        }
        (Went::Tls(channel), Some((pair, high))) => {
            prop_assert_eq!(channel >> 4, u16::from(pair) << 4 | u16::from(!high));
        }
        (went, None) => prop_assert!(false, "from nobody to {went:?}"),
    }
    Ok(())
}
