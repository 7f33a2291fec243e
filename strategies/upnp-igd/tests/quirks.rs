//! One test for each quirk of routers' UPnP that is known from the field, U1 to U24, and A1 to A5 as far as they are
//! this strategy's.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use common::{
    GATEWAY, Lab, OTHER, OUTSIDE, PORT, SOURCE, addr, candidates, last_note, requests, seconds, start,
};
use wireplug_strategy::kit::gateway::{FakeGateway, FakeService, Page, UpnpScript};
use wireplug_strategy::kit::{Nat, address};
use wireplug_strategy::{Mapped, StunServer};
use wireplug_upnp_igd as _;

const HERE: &str = "5.6.7.8:51820";

fn device(outside: &str) -> FakeGateway {
    FakeGateway::new(outside.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn u01_unicast_only_and_multicast_only_are_found() {
    for (unicast, multicast) in [(true, false), (false, true)] {
        let lab = Lab::with(|upnp| {
            upnp.hears_unicast = unicast;
            upnp.hears_multicast = multicast;
        });
        let run = lab.start();
        run.after(seconds(1)).await;
        assert_eq!(candidates(&run), [HERE], "unicast {unicast}: {:?}", run.host.notes());
        let first = run.host.reached().into_iter().collect::<Vec<_>>();
        assert!(first.contains(&addr("192.168.1.1:1900")), "the router itself is asked: {first:?}");
        assert_eq!(first.contains(&addr("239.255.255.250:1900")), multicast && !unicast, "only if need be");
    }
}

#[tokio::test(start_paused = true)]
async fn u02_gateways_are_searched_by_name() {
    let wrong = device("9.9.9.9");
    wrong.change(|script| {
        script.upnp.targets = vec!["ssdp:all".to_owned()];
    });
    let lab = Lab::with(|upnp| upnp.hears_unicast = false).beside(OTHER, &wrong);
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), [HERE]);
    let searches = lab.requests("M-SEARCH");
    for version in [1, 2] {
        let target = format!("ST: urn:schemas-upnp-org:device:InternetGatewayDevice:{version}\r\n");
        assert!(searches.iter().any(|search| search.contains(&target)), "{searches:?}");
    }
    assert!(searches.iter().all(|search| !search.contains("ssdp:all")));
    assert!(requests(&wrong, "GET").is_empty());
}

#[tokio::test(start_paused = true)]
async fn u03_an_answer_from_another_port_counts() {
    let lab = Lab::with(|upnp| upnp.answers_from = 49_999);
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn u04_odd_headers_count() {
    for answer in [
        "HTTP/1.1 200 OK\r\nlocation: http://{at}:5000/desc.xml\r\nst: {target}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSERVER:\r\nLoCaTiOn:http://{at}:5000/desc.xml\r\nEXT\r\n\r\n",
        "HTTP/1.0 200\r\nServer: \r\nLOCATION :   http://{at}:5000/desc.xml  \r\n\r\n",
    ] {
        let lab = Lab::with(|upnp| upnp.answers = vec![answer.to_owned()]);
        assert_eq!(candidates(&lab.mapped().await), [HERE], "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn u05_a_location_at_a_shared_address_is_tried_as_given_then_at_the_router() {
    // Two routers share the gateway's address; the location has the one's own, which answers or not.
    let router = Lab::with(|upnp| upnp.locate("http://192.168.1.2:5000/desc.xml"));
    let as_given = router.clone().beside("192.168.1.2", &router.router);
    let run = as_given.mapped().await;
    assert_eq!(candidates(&run), [HERE]);
    assert!(!run.host.reached().contains(&addr("192.168.1.1:5000")));

    let standby = device("9.9.9.9");
    standby.change(|script| script.upnp.silent());
    let lab =
        Lab::with(|upnp| upnp.locate("http://192.168.1.2:5000/desc.xml")).beside("192.168.1.2", &standby);
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), [HERE]);
    assert!(run.host.reached().contains(&addr("192.168.1.2:5000")), "as given, first");
}

#[tokio::test(start_paused = true)]
async fn u06_a_rogue_responder_does_not_hide_the_router_and_leads_nowhere() {
    let rogue = device("9.9.9.9");
    rogue.change(|script| script.upnp.igd2());
    // The rogue is fast and has the better service; the router hears multicast only.
    let lab = Lab::with(|upnp| upnp.hears_unicast = false).beside(OTHER, &rogue);
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
    assert!(rogue.mappings().is_empty());

    // It answers ten times, and nothing of it may be followed.
    for url in
        ["http://evil.example/desc.xml", "http://203.0.113.7/desc.xml", "http://127.0.0.1:5000/desc.xml"]
    {
        let rogue = device("9.9.9.9");
        rogue.change(|script| {
            script.upnp.locate(url);
            script.upnp.answers = vec![script.upnp.answers[0].clone(); 10];
        });
        let lab = Lab::with(|upnp| upnp.hears_unicast = false).beside(OTHER, &rogue);
        let run = lab.mapped().await;
        assert_eq!(candidates(&run), [HERE], "{url}");
        assert!(
            run.host
                .reached()
                .iter()
                .all(|to| to.ip() != addr("203.0.113.7:80").ip() && !to.ip().is_loopback())
        );

        let alone = Lab::with(UpnpScript::silent).beside(OTHER, &rogue);
        let run = alone.ran().await;
        let note = last_note(&run);
        assert!(note.contains("192.168.1.66 says where its description is, but it"), "{note}");
    }
}

#[tokio::test(start_paused = true)]
async fn u07_of_several_the_best_service_is_taken() {
    let service = |name: &str, status: &str, outside: &str| FakeService {
        status: Some(status.to_owned()),
        outside: Some(outside.to_owned()),
        ..FakeService::of(name)
    };
    // One connected with a public address beats better names; then the higher version does.
    for (services, best) in [
        (
            vec![
                service("WANIPConnection:2", "Disconnected", "0.0.0.0"),
                service("WANPPPConnection:1", "Connected", "5.6.7.8"),
                service("WANIPConnection:1", "Connected", "10.1.2.3"),
            ],
            "WANPPPConnection:1",
        ),
        (
            vec![
                service("WANIPConnection:1", "Connected", "5.6.7.8"),
                service("WANIPConnection:2", "Connected", "5.6.7.8"),
            ],
            "WANIPConnection:2",
        ),
        (
            vec![
                service("WANIPConnection:1", "Disconnected", "5.6.7.8"),
                service("WANPPPConnection:1", "Connected", "5.6.7.8"),
            ],
            "WANPPPConnection:1",
        ),
    ] {
        let lab = Lab::with(|upnp| upnp.services = services);
        assert_eq!(candidates(&lab.mapped().await), [HERE]);
        let mut asked = lab.requests("AddPortMapping");
        asked.extend(lab.requests("AddAnyPortMapping"));
        assert!(asked.len() == 1 && asked[0].contains(best), "{best}: {asked:?}");
    }
    // Two descriptions of one router, both within the moment that is waited.
    let lab = Lab::with(|upnp| {
        let old = upnp.answers[0].replace("5000/desc.xml", "5000/old.xml");
        upnp.answers.insert(0, old);
        upnp.described.insert("/old.xml".to_owned(), Page::Status(404));
    });
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn u08_a_router_that_is_up_or_cannot_say_is_used() {
    for status in [Some("Up".to_owned()), Some("up ".to_owned()), Some("?".to_owned()), None] {
        let lab = Lab::with(|upnp| upnp.services[0].status.clone_from(&status));
        assert_eq!(candidates(&lab.mapped().await), [HERE], "{status:?}");
    }
    let lab = Lab::with(|upnp| _ = upnp.breaks.insert("GetStatusInfo".to_owned(), 404));
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn u09_the_protocol_is_written_in_capitals() {
    let lab = Lab::home();
    lab.mapped().await;
    let asked = lab.requests("AddPortMapping");
    assert!(asked[0].contains("<NewProtocol>UDP</NewProtocol>"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn u10_outer_ports_are_1024_or_above() {
    let mut lab = Lab::home();
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
        let lab = Lab::with(|upnp| upnp.refuses_leases = Some(code));
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
    let lab = Lab::with(|upnp| {
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
        let lab = Lab::with(|upnp| {
            upnp.refuses_leases = Some(725);
            upnp.fault = fault.to_owned();
        });
        assert_eq!(candidates(&lab.mapped().await), [HERE], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn u13_an_outer_address_that_cannot_be_is_no_candidate_but_stun_may_stand_in() {
    for outside in ["192.168.178.2", "100.64.3.4", "10.0.0.2"] {
        let lab = Lab::with(|upnp| upnp.services[0].outside = Some(outside.to_owned()));
        let run = lab.ran().await;
        assert!(candidates(&run).is_empty() && lab.requests("AddPortMapping").is_empty(), "{outside}");
        let note = last_note(&run);
        assert!(note.contains("double NAT / CGNAT") && note.contains(outside), "{note}");
    }
    for outside in ["0.0.0.0", "127.0.0.1", "", "unknown", "(null)"] {
        let lab = Lab::with(|upnp| upnp.services[0].outside = Some(outside.to_owned()));
        let run = lab.ran().await;
        assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty(), "{outside:?}");
        assert!(last_note(&run).contains("does not know its outer address"), "{}", last_note(&run));

        let mut lab = Lab::with(|upnp| upnp.services[0].outside = Some(outside.to_owned()));
        lab.situation.servers = vec![StunServer { primary: addr("203.0.113.7:3478"), secondary: None }];
        let run = start(lab.place().behind(Nat::Fixed(addr("5.6.7.8:1234"))), &toml::Table::new());
        run.after(seconds(3)).await;
        assert_eq!(candidates(&run), [HERE], "{outside:?}: {:?}", run.host.notes());
    }
}

#[tokio::test(start_paused = true)]
async fn u14_equal_ports_are_asked_for_where_they_must_be() {
    let mut lab = Lab::with(|upnp| upnp.same_ports = true);
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
    let lab = Lab::home();
    lab.router.change(|script| script.taken = vec![PORT]);
    let run = lab.mapped().await;
    let port = lab.mapping().outside.port();
    assert!(port != PORT && port >= 1024);
    assert_eq!(candidates(&run), [format!("{OUTSIDE}:{port}")]);

    let lab = Lab::with(|upnp| _ = upnp.refuses.insert("AddPortMapping".to_owned(), 718));
    let run = lab.ran().await;
    let asked = lab.requests("AddPortMapping");
    assert!((2..=6).contains(&asked.len()), "{}", asked.len());
    assert!(last_note(&run).contains("all ports that were tried are taken"), "{}", last_note(&run));
    run.after(seconds(60)).await;
    assert_eq!(lab.requests("AddPortMapping").len(), asked.len(), "and it is left alone then");
}

#[tokio::test(start_paused = true)]
async fn u16_what_hangs_is_given_up_and_the_rest_of_the_list_is_used() {
    // The first description never comes, the first service never answers.
    let lab = Lab::with(|upnp| {
        let stuck = upnp.answers[0].replace("5000/desc.xml", "5000/stuck.xml");
        upnp.answers.insert(0, stuck);
        upnp.described.insert("/stuck.xml".to_owned(), Page::Hangs);
    });
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
    // All hangs: given up within bounded time, and said.
    let lab = Lab::with(|upnp| upnp.description = Page::Hangs);
    let run = lab.ran().await;
    let note = last_note(&run);
    assert!(note.contains("did not finish its answer within 1000 ms"), "{note}");
    assert_eq!(run.host.in_flight(), 0);
    // A router that hangs at the mapping itself.
    let lab = Lab::with(|upnp| _ = upnp.hangs.insert("AddPortMapping".to_owned()));
    let run = lab.ran().await;
    assert!(last_note(&run).contains("did not finish"), "{}", last_note(&run));
}

#[tokio::test(start_paused = true)]
async fn u17_no_usable_service_is_said_and_crashes_nothing() {
    let tr064 =
        |name: &str| FakeService { kind: format!("urn:dslforum-org:service:{name}"), ..FakeService::of("") };
    for services in [
        vec![tr064("WANIPConnection:1"), tr064("DeviceInfo:1")],
        vec![FakeService::of("Layer3Forwarding:1"), FakeService::of("WANIPConnection:x")],
        vec![],
    ] {
        let lab = Lab::with(|upnp| upnp.services = services.clone());
        let run = lab.ran().await;
        assert!(candidates(&run).is_empty() && !run.has_ended());
        let note = last_note(&run);
        assert!(note.contains("no usable service"), "{services:?}: {note}");
    }
}

#[tokio::test(start_paused = true)]
async fn u18_relative_urls_and_a_base_without_a_port_are_resolved() {
    for (base, control, port) in [
        (None, "ctl/", 5000),
        (None, "../ctl/", 5000),
        (Some("http://192.168.1.1"), "/ctl/", 80),
        (Some("http://192.168.1.1:8080/x/"), "ctl/", 8080),
        (None, "http://192.168.1.1:5000/ctl/", 5000),
        // A base that leads nowhere: the description's own place does.
        (Some("http://192.168.1.1:1/"), "/ctl/", 5000),
        (Some("not a url"), "/ctl/", 5000),
    ] {
        let lab = Lab::with(|upnp| {
            upnp.url_base = base.map(str::to_owned);
            control.clone_into(&mut upnp.control);
        });
        // Descriptions and services of one device on two ports: two devices at one address.
        if port == 5000 {
            assert_eq!(candidates(&lab.mapped().await), [HERE], "{base:?} {control}");
        } else {
            let run = lab.ran().await;
            let place = addr(&format!("192.168.1.1:{port}"));
            assert!(run.host.reached().contains(&place), "{base:?}: {:?}", run.host.reached());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn u19_a_mapping_that_lets_nothing_in_is_made_anew_once_and_then_reported() {
    let lab = Lab::home();
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
    let lab = Lab::home();
    let run = lab.mapped().await;
    lab.upnp(|upnp| upnp.renews_to = Some(1));
    run.after(seconds(2400)).await;
    // Deleted and made anew, which is no renewal.
    let mapping = lab.mapping();
    assert_eq!(mapping.inside, addr("192.168.1.5:51820"));
    assert_eq!(candidates(&run), [mapping.outside.to_string()]);
    // A router that cannot but do so is told of, and nothing crooked is left.
    let lab = Lab::with(|upnp| upnp.maps_to = Some(1));
    let run = lab.ran().await;
    assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty(), "{:?}", lab.router.mappings());
    assert!(last_note(&run).contains("to our port 1 instead of 51820"), "{}", last_note(&run));
}

#[tokio::test(start_paused = true)]
async fn u21_a_wiped_table_is_noticed_between_renewals() {
    let lab = Lab::home();
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
async fn u22_all_leaves_by_the_address_that_routes_to_the_router() {
    let mut lab = Lab::home();
    lab.situation.addresses.insert(0, address("10.9.9.9".parse().unwrap(), 24));
    lab.mapped().await;
    let own = addr("192.168.1.5:0").ip();
    assert!(lab.router.heard().iter().all(|heard| heard.from == own));
}

#[tokio::test(start_paused = true)]
async fn u23_a_container_bridge_is_not_taken_for_our_address() {
    let mut lab = Lab::home();
    for bridge in ["172.17.0.1", "192.168.122.1"] {
        lab.situation.addresses.insert(0, address(bridge.parse().unwrap(), 16));
    }
    lab.mapped().await;
    assert_eq!(lab.mapping().inside, addr("192.168.1.5:51820"));
    assert!(lab.requests("AddPortMapping")[0].contains("<NewInternalClient>192.168.1.5</NewInternalClient>"));
}

#[tokio::test(start_paused = true)]
async fn u24_igd_2_opens_prolongs_and_closes_pinholes() {
    let mut lab = Lab::new("fe80::1", "2a00:1::5", OUTSIDE);
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
        let lab = Lab::new("fe80::1", "2a00:1::5", OUTSIDE);
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
    let lab = Lab::with(UpnpScript::igd2);
    lab.router.change(|script| script.taken = vec![PORT]);
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), ["5.6.7.8:51821"]);
    let evidence = run.host.standing().candidates.into_values().next().unwrap().evidence;
    assert!(evidence.contains("UPnP IGD 2 (Fake 1)"), "{evidence}");
    // Renewed at the same port.
    run.after(seconds(3000)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51821"]);
    assert_eq!(lab.requests("AddAnyPortMapping").len(), 1);
    // One that says it is an IGD 2 but does not know the action.
    let lab = Lab::with(|upnp| {
        upnp.igd2();
        upnp.refuses.insert("AddAnyPortMapping".to_owned(), 401);
    });
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn a1_another_strategys_proven_mapping_releases_ours() {
    let lab = Lab::home();
    let run = lab.mapped().await;
    run.change(|place| {
        let endpoint = addr("5.6.7.8:40000").try_into().unwrap();
        place.situation.mapped = Some(Mapped { strategy: "pcp".parse().unwrap(), endpoint });
    });
    run.after(seconds(2)).await;
    assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a2_two_hosts_with_one_port_get_two_outer_ports() {
    let first = Lab::home();
    let running = first.mapped().await;
    let mut second = Lab::new(GATEWAY, "192.168.1.6", OUTSIDE);
    second.router = first.router.clone();
    let run = second.ran().await;
    let ours = candidates(&run);
    assert!(ours.len() == 1 && ours != candidates(&running), "{ours:?}");
    assert_eq!(first.router.mappings().len(), 2);
    // Each takes back its own only.
    run.stop(seconds(1)).await.unwrap();
    assert_eq!(first.mapping().inside, addr("192.168.1.5:51820"));
}

#[tokio::test(start_paused = true)]
async fn a4_a_killed_runs_mapping_is_taken_over_or_back() {
    let lab = Lab::with(|upnp| upnp.refuses_leases = Some(725));
    let killed = lab.mapped().await;
    let mut place = lab.place();
    place.memory = killed.host.memory();
    drop(killed);
    assert_eq!(lab.router.mappings().len(), 1, "it stays for ever on this router");
    let again = start(place.clone(), &toml::Table::new());
    again.after(seconds(3)).await;
    assert_eq!((candidates(&again), lab.router.mappings().len()), (vec![HERE.to_owned()], 1));
    drop(again);
    // WireGuard listens elsewhere now: the old mapping is of no use.
    place.situation.listen_port = 4500;
    let moved = start(place, &toml::Table::new());
    moved.after(seconds(4)).await;
    assert_eq!(lab.mapping().inside, addr("192.168.1.5:4500"));
    moved.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a5_after_sleep_the_mapping_is_asked_for_again() {
    let lab = Lab::home();
    let run = lab.mapped().await;
    // The lease ended while the machine slept; the daemon takes that for a new generation.
    lab.router.wipe();
    run.change(|place| place.situation.generation = 2);
    run.after(seconds(1)).await;
    assert_eq!((candidates(&run), lab.mapping().outside), (vec![HERE.to_owned()], addr(HERE)));
}

#[tokio::test(start_paused = true)]
async fn stopped_while_it_asks_it_leaves_nothing() {
    for millis in [10, 45, 85, 125, 165, 205, 245] {
        let lab = Lab::with(|upnp| upnp.refuses_leases = Some(725));
        let run = lab.start();
        run.after(std::time::Duration::from_millis(millis)).await;
        run.stop(seconds(1)).await.unwrap();
        assert!(lab.router.mappings().is_empty(), "{millis} ms: {:?}", lab.router.mappings());
    }
}

#[tokio::test(start_paused = true)]
async fn a_mapping_of_somebody_else_is_not_deleted_on_stop() {
    let lab = Lab::home();
    let run = lab.mapped().await;
    lab.upnp(|upnp| upnp.lists_client = Some(OTHER.parse().unwrap()));
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.requests("DeletePortMapping").is_empty());
    assert_eq!(SOURCE, lab.mapping().inside.ip().to_string());
}
