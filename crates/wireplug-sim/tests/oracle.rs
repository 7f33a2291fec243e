//! The oracle against its own table, and against hosts that try.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{FULL_CONE, PORT_RESTRICTED, SYMMETRIC, behind, public, setting, site};
use wireplug_core::Tier;
use wireplug_sim::experiment::{Tells, meet};
use wireplug_sim::nat::{Behaviour, Filtering, Mapping, Ports};
use wireplug_sim::oracle::{Possible, direct_path, outer_path, path};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::{Shared, Site, V4, V6};
use wireplug_sim::{ms, secs};

const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];

fn verdict(one: &Site, other: &Site) -> Possible {
    let verdict = direct_path(one, other, Shared::Nothing);
    assert_eq!(verdict, direct_path(other, one, Shared::Nothing), "the same from both sides");
    verdict
}

#[test]
fn the_table_in_the_docs() {
    use Possible::{No, Told, Yes};
    let fixed = |filtering| behind(Behaviour { filtering, ..PORT_RESTRICTED });
    let varying = |filtering| behind(Behaviour { filtering, ..SYMMETRIC });
    for (i, one) in FILTERINGS.into_iter().enumerate() {
        for (j, other) in FILTERINGS.into_iter().enumerate() {
            assert_eq!(verdict(&fixed(one), &fixed(other)), Yes);
            assert_eq!(verdict(&fixed(one), &varying(other)), [Yes, Told, No][i]);
            let both = [[Told, Told, No], [Told, No, No], [No, No, No]];
            assert_eq!(verdict(&varying(one), &varying(other)), both[i][j]);
        }
    }
}

#[test]
fn well_known_pairs() {
    use Possible::{No, Yes};
    let carrier = site(V4::Behind(vec![PORT_RESTRICTED, PORT_RESTRICTED]), ms(10));
    let carrier_symmetric = site(V4::Behind(vec![FULL_CONE, SYMMETRIC]), ms(10));
    let blocked = Site { no_udp: true, ..public() };
    let walled = Site { host_firewall: Some(secs(60)), ..public() };
    let v6 = |site: Site| Site { v6: V6::Firewalled(secs(60)), ..site };
    for (one, other, expected) in [
        (public(), public(), Yes),
        (public(), behind(SYMMETRIC), Yes),
        (walled.clone(), behind(PORT_RESTRICTED), Yes),
        (walled.clone(), behind(SYMMETRIC), No),
        (behind(FULL_CONE), behind(SYMMETRIC), Yes),
        (behind(PORT_RESTRICTED), behind(SYMMETRIC), No),
        (behind(SYMMETRIC), behind(SYMMETRIC), No),
        (carrier.clone(), carrier, Yes),
        (carrier_symmetric.clone(), behind(PORT_RESTRICTED), No),
        (carrier_symmetric, public(), Yes),
        (blocked.clone(), public(), No),
        (v6(behind(SYMMETRIC)), v6(behind(SYMMETRIC)), Yes),
        (v6(behind(SYMMETRIC)), behind(SYMMETRIC), No),
        (v6(blocked), v6(public()), No),
        (site(V4::None, ms(1)), public(), No),
    ] {
        assert_eq!(verdict(&one, &other), expected, "{one} and {other}");
    }
}

#[test]
fn one_home_needs_a_hairpin() {
    let home = |hairpins| behind(Behaviour { hairpins, ..PORT_RESTRICTED });
    let at = |hairpins| outer_path(&home(hairpins), &home(hairpins), Shared::Home);
    assert_eq!((at(true), at(false)), (Possible::Yes, Possible::No));
}

#[test]
fn the_best_path_has_a_name() {
    use Tier::{Direct, Lan, Mapped, Punched, Relay, RelayTls};
    let maps = |site: Site| Site { maps_ports: true, ..site };
    let walled = |site: Site| Site { host_firewall: Some(secs(60)), ..site };
    let double = site(V4::Behind(vec![SYMMETRIC, PORT_RESTRICTED]), ms(10));
    let blocked = Site { no_udp: true, ..behind(PORT_RESTRICTED) };
    let address_dependent = behind(Behaviour { filtering: Filtering::AddressDependent, ..PORT_RESTRICTED });
    let v6 = |site: Site| Site { v6: V6::Firewalled(secs(60)), ..site };
    for (one, other, shared, expected) in [
        (public(), behind(SYMMETRIC), Shared::Nothing, Some(Direct)),
        (public(), maps(behind(SYMMETRIC)), Shared::Nothing, Some(Direct)),
        (behind(FULL_CONE), behind(SYMMETRIC), Shared::Nothing, Some(Punched)),
        (behind(PORT_RESTRICTED), maps(behind(SYMMETRIC)), Shared::Nothing, Some(Mapped)),
        (behind(SYMMETRIC), maps(walled(behind(SYMMETRIC))), Shared::Nothing, Some(Relay)),
        (behind(SYMMETRIC), maps(double), Shared::Nothing, Some(Relay)),
        (behind(SYMMETRIC), address_dependent, Shared::Nothing, None),
        (v6(behind(SYMMETRIC)), v6(behind(SYMMETRIC)), Shared::Nothing, Some(Direct)),
        (v6(site(V4::None, ms(1))), behind(PORT_RESTRICTED), Shared::Nothing, Some(Relay)),
        (blocked.clone(), public(), Shared::Nothing, Some(RelayTls)),
        (blocked.clone(), blocked, Shared::Home, Some(Lan)),
        (behind(SYMMETRIC), behind(SYMMETRIC), Shared::Home, Some(Lan)),
        (behind(SYMMETRIC), walled(behind(SYMMETRIC)), Shared::Home, Some(Relay)),
        (behind(PORT_RESTRICTED), behind(PORT_RESTRICTED), Shared::Carrier, Some(Relay)),
        (public(), public(), Shared::Home, Some(Direct)),
    ] {
        assert_eq!(path(&one, &other, shared), expected, "{shared:?}: {one} and {other}");
        assert_eq!(path(&other, &one, shared), expected, "{shared:?}: {other} and {one}");
    }
}

/// What hosts that try achieve must be what the oracle says, in both directions.
fn compare(one: &Site, other: &Site, shared: Shared, ports: [u16; 2], seed: u64) {
    let said = outer_path(one, other, shared);
    let tried = |tells| meet([one, other], shared, ports, tells, seed);
    let [fixed, all] = [tried(Tells::Fixed), tried(Tells::All)];
    let right = match said {
        Possible::Yes => fixed && all,
        Possible::No => !fixed && !all,
        // Within one NAT it is the collision that decides, and that the oracle leaves open.
        Possible::Told => all || shared != Shared::Nothing,
    };
    assert!(right, "oracle says {said:?}, but met {fixed}, all told {all}: {shared:?} {one} | {other}");
}

#[test]
fn every_pair_of_single_nats_as_the_experiment_says() {
    let mappings =
        [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
    let mut sites = vec![public(), Site { host_firewall: Some(secs(60)), ..public() }];
    for mapping in mappings {
        for filtering in FILTERINGS {
            for ports in [Ports::Preserving, Ports::Random, Ports::Fixed(40001)] {
                sites.push(behind(Behaviour { mapping, filtering, ports, ..PORT_RESTRICTED }));
            }
        }
    }
    for (i, one) in sites.iter().enumerate() {
        for other in &sites[i..] {
            compare(one, other, Shared::Nothing, [51820, 51820], 7);
        }
    }
}

#[test]
fn random_pairs_of_networks_as_the_experiment_says() {
    for seed in 0..setting("WIREPLUG_SIM_CASES", 1000) {
        let Scenario { sites: [one, other], shared, hosts, .. } = Scenario::draw(seed);
        compare(&one, &other, shared, [hosts[0].port, hosts[1].port], seed);
    }
}
