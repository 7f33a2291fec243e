//! Making, keeping and ending a mapping or pinhole.

use wireplug_strategy::kit::gateway::{Renewal, UpnpScript};
use wireplug_strategy::kit::{Nat, address};
use wireplug_strategy::{Mapped, StunServer};

use crate::HERE;
use crate::common::{Upnp, addr};
use wireplug_strategy::kit::home::{Home, OUTSIDE, PORT, candidates, last_note, seconds, start};

#[tokio::test(start_paused = true)]
async fn u09_the_protocol_is_written_in_capitals() {
    let lab = Home::default();
    lab.mapped().await;
    let asked = lab.requests("AddPortMapping");
    assert!(asked[0].contains("<NewProtocol>UDP</NewProtocol>"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn u10_outer_ports_are_1024_or_above() {
    let mut lab = Home::default();
    lab.situation.listen_port = 500;
    lab.mapped().await;
    let mapping = lab.mapping();
    assert_eq!(mapping.inside, addr("192.168.1.5:500"));
    assert!(mapping.outside.port() >= 1024);
    assert!(!lab.requests("AddPortMapping").concat().contains("<NewExternalPort>0<"));
}

#[tokio::test(start_paused = true)]
async fn u11_a_router_without_leases_gets_none_and_keeps_nothing() {
    for code in [725, 402] {
        let lab = Home::with(|upnp| upnp.refuses_leases = Some(code));
        let run = lab.mapped().await;
        assert!(lab.requests("AddPortMapping")[1].contains("<NewLeaseDuration>0</NewLeaseDuration>"));
        let found = run.host.standing().candidates.into_values().next().unwrap();
        assert_eq!(found.lifetime, None);
        // The next renewal does not ask for a lease again.
        run.after(seconds(3600)).await;
        let asked = lab.requests("AddPortMapping").concat();
        assert_eq!(asked.matches("<NewLeaseDuration>3600<").count(), 1);
        run.stop(seconds(1)).await.unwrap();
        assert!(lab.router.mappings().is_empty(), "deleted on stop");
    }
    // Its outer address is learned first: where that fails, nothing is left on it.
    let lab = Home::with(|upnp| {
        upnp.refuses_leases = Some(725);
        upnp.hangs.insert("GetExternalIPAddress".to_owned());
    });
    let run = lab.ran().await;
    assert!(candidates(&run).is_empty() && lab.requests("AddPortMapping").is_empty());
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn u12_an_error_is_read_in_any_dress() {
    for fault in [
        "<SOAP-ENV:Fault>\r\n<detail>\r\n<u:UPnPError><u:errorCode>\r\n  {code}\t\r\n</u:errorCode></u:UPnPError>",
        "<x:Envelope xmlns:x=\"y\"><x:Body><x:Fault><detail><e:UPnPError><e:errorCode> {code} </e:errorCode>\
         <e:errorDescription/></e:UPnPError></detail></x:Fault></x:Body></x:Envelope>",
    ] {
        let lab = Home::with(|upnp| {
            upnp.refuses_leases = Some(725);
            upnp.fault = fault.to_owned();
        });
        assert_eq!(candidates(&lab.mapped().await), [HERE], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn u13_an_outer_address_that_cannot_be_is_no_candidate_but_stun_may_stand_in() {
    for outside in ["192.168.178.2", "100.64.3.4", "10.0.0.2"] {
        let lab = Home::with(|upnp| upnp.services[0].outside = Some(outside.to_owned()));
        let run = lab.ran().await;
        assert!(candidates(&run).is_empty() && lab.requests("AddPortMapping").is_empty(), "{outside}");
        let note = last_note(&run);
        assert!(note.contains("double NAT / CGNAT") && note.contains(outside), "{note}");
    }
    for outside in ["0.0.0.0", "127.0.0.1", "", "unknown", "(null)"] {
        let lab = Home::with(|upnp| upnp.services[0].outside = Some(outside.to_owned()));
        let run = lab.ran().await;
        assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty(), "{outside:?}");
        assert!(last_note(&run).contains("does not know its outer address"), "{}", last_note(&run));

        let mut lab = Home::with(|upnp| upnp.services[0].outside = Some(outside.to_owned()));
        lab.situation.servers = vec![StunServer { primary: addr("203.0.113.7:3478"), secondary: None }];
        let run = start(lab.place().behind(Nat::Fixed(addr("5.6.7.8:1234"))), &toml::Table::new());
        run.after(seconds(3)).await;
        assert_eq!(candidates(&run), [HERE], "{outside:?}: {:?}", run.host.notes());
    }
}

#[tokio::test(start_paused = true)]
async fn u14_equal_ports_are_asked_for_where_they_must_be() {
    let mut lab = Home::with(|upnp| upnp.same_ports = true);
    let mapped = lab.mapped().await;
    assert_eq!(candidates(&mapped), [HERE]);
    // From another outer port that an earlier run had.
    let memory = mapped.host.memory();
    lab.router.wipe();
    let mut place = lab.place();
    place.memory = memory
        .into_iter()
        .map(|(name, bytes)| {
            (name, String::from_utf8(bytes).unwrap().replace("5.6.7.8:51820", "5.6.7.8:50000").into_bytes())
        })
        .collect();
    lab.situation.generation = 2;
    let run = start(place, &toml::Table::new());
    run.after(seconds(3)).await;
    assert_eq!(candidates(&run), [HERE]);
    assert!(lab.requests("AddPortMapping").concat().contains("<NewExternalPort>50000<"));
}

#[tokio::test(start_paused = true)]
async fn u15_a_conflict_is_met_with_other_ports_a_bounded_number_of_times() {
    let lab = Home::default();
    lab.router.change(|script| script.taken = vec![PORT]);
    let run = lab.mapped().await;
    let port = lab.mapping().outside.port();
    assert!(port != PORT && port >= 1024);
    assert_eq!(candidates(&run), [format!("{OUTSIDE}:{port}")]);

    let lab = Home::with(|upnp| _ = upnp.refuses.insert("AddPortMapping".to_owned(), 718));
    let run = lab.ran().await;
    let asked = lab.requests("AddPortMapping");
    assert!((2..=6).contains(&asked.len()), "{}", asked.len());
    assert!(last_note(&run).contains("all ports that were tried are taken"), "{}", last_note(&run));
    run.after(seconds(60)).await;
    assert_eq!(lab.requests("AddPortMapping").len(), asked.len(), "and it is left alone then");
}

#[tokio::test(start_paused = true)]
async fn u15_a_conflict_with_our_own_mapping_is_no_reason_for_another_port() {
    let lab = Home::with(|upnp| upnp.renewal = Renewal::Conflicts);
    let run = lab.mapped().await;
    for _ in 0..3 {
        run.after(seconds(3000)).await;
        assert_eq!((candidates(&run), lab.mapping().outside), (vec![HERE.to_owned()], addr(HERE)));
    }
}

#[tokio::test(start_paused = true)]
async fn u19_a_mapping_that_lets_nothing_in_is_made_anew_once_and_then_reported() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let endpoint = addr(HERE).try_into().unwrap();
    let closed = Mapped { strategy: "upnp-igd".parse().unwrap(), endpoint };
    // Another's is not ours to doubt.
    run.change(|place| {
        place.situation.closed = vec![Mapped { strategy: "pcp".parse().unwrap(), ..closed.clone() }];
    });
    run.after(seconds(2)).await;
    assert!(lab.requests("DeletePortMapping").is_empty());
    run.change(|place| place.situation.closed = vec![closed.clone()]);
    run.after(std::time::Duration::from_millis(100)).await;
    assert_eq!(lab.requests("DeletePortMapping").len(), 1);
    assert!(candidates(&run).is_empty(), "the daemon forgets it, and its verdict");
    run.change(|place| place.situation.closed.clear());
    run.after(seconds(2)).await;
    assert_eq!((candidates(&run), lab.mapping().outside), (vec![HERE.to_owned()], addr(HERE)));
    // Still nothing: said, and left to the renewals.
    run.change(|place| place.situation.closed = vec![closed]);
    run.after(seconds(2)).await;
    assert!(
        last_note(&run).contains("lists the mapping 5.6.7.8:51820, but nothing comes in"),
        "{}",
        last_note(&run)
    );
    assert_eq!((lab.requests("DeletePortMapping").len(), lab.requests("AddPortMapping").len()), (1, 2));
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn u20_a_renewal_that_moves_the_inner_port_is_noticed_and_put_right() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.upnp(|upnp| upnp.renewal = Renewal::LeadsTo(1));
    run.after(seconds(2400)).await;
    // Deleted and made anew, which is no renewal.
    let mapping = lab.mapping();
    assert_eq!(mapping.inside, addr("192.168.1.5:51820"));
    assert_eq!(candidates(&run), [HERE], "at the same outer port: a tunnel may use it");
    // A router that cannot but do so is told of, and nothing crooked is left.
    let lab = Home::with(|upnp| upnp.maps_to = Some(1));
    let run = lab.ran().await;
    assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty(), "{:?}", lab.router.mappings());
    assert!(last_note(&run).contains("to our port 1 instead of 51820"), "{}", last_note(&run));
}

#[tokio::test(start_paused = true)]
async fn u21_a_wiped_table_is_noticed_between_renewals() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.router.wipe();
    run.after(seconds(340)).await;
    assert_eq!(lab.mapping().inside, addr("192.168.1.5:51820"));
    assert_eq!(candidates(&run), [HERE]);
    // With another outer address, after a redial.
    lab.router.wipe();
    lab.router.change(|script| script.outside = "5.6.7.9".parse().unwrap());
    run.after(seconds(340)).await;
    assert_eq!(candidates(&run), ["5.6.7.9:51820"]);
}

#[tokio::test(start_paused = true)]
async fn u24_igd_2_opens_prolongs_and_closes_pinholes() {
    let mut lab = Home::at("fe80::1", "2a00:1::5", OUTSIDE);
    lab.upnp(UpnpScript::igd2);
    lab.situation.addresses.push(address("2a00:1::77".parse().unwrap(), 64));
    let run = lab.ran().await;
    assert_eq!(candidates(&run), ["[2a00:1::5]:51820", "[2a00:1::77]:51820"], "{:?}", run.host.notes());
    assert_eq!(lab.router.mappings().len(), 2);
    run.after(seconds(3 * 3600)).await;
    assert_eq!(lab.requests("AddPinhole").len(), 2, "prolonged, not opened again");
    assert!(lab.requests("UpdatePinhole").len() >= 4);
    // Lost by the router: opened again.
    lab.router.wipe();
    run.after(seconds(340)).await;
    assert_eq!(lab.router.mappings().len(), 2);
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty());

    for (code, says) in [(702, "firewall is off"), (703, "pinholes are not allowed")] {
        let lab = Home::at("fe80::1", "2a00:1::5", OUTSIDE);
        lab.upnp(|upnp| {
            upnp.igd2();
            upnp.refuses.insert("AddPinhole".to_owned(), code);
        });
        let run = lab.ran().await;
        assert!(candidates(&run).is_empty() && last_note(&run).contains(says), "{}", last_note(&run));
    }
}

#[tokio::test(start_paused = true)]
async fn igd_2_chooses_a_free_port_itself() {
    let lab = Home::with(UpnpScript::igd2);
    lab.router.change(|script| script.taken = vec![PORT]);
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), ["5.6.7.8:51821"]);
    let evidence = run.host.standing().candidates.into_values().next().unwrap().evidence;
    assert!(evidence.words().contains("UPnP IGD 2 (Fake 1)"), "{evidence}");
    // Renewed at the same port.
    run.after(seconds(3000)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51821"]);
    assert_eq!(lab.requests("AddAnyPortMapping").len(), 1);
    // One that says it is an IGD 2 but does not know the action.
    let lab = Home::with(|upnp| {
        upnp.igd2();
        upnp.refuses.insert("AddAnyPortMapping".to_owned(), 401);
    });
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}
