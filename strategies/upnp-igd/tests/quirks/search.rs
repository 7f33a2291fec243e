//! Finding the router and its service.

use wireplug_strategy::kit::address;
use wireplug_strategy::kit::gateway::{FakeGateway, FakeService, Page, UpnpScript};

use crate::HERE;
use crate::common::{OTHER, Upnp, addr, requests};
use wireplug_strategy::kit::home::{Home, candidates, last_note, seconds};

fn device(outside: &str) -> FakeGateway {
    FakeGateway::new(outside.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn u01_unicast_only_and_multicast_only_are_found() {
    for (unicast, multicast) in [(true, false), (false, true)] {
        let lab = Home::with(|upnp| {
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
    let lab = Home::with(|upnp| upnp.hears_unicast = false).beside(OTHER, &wrong);
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
    let lab = Home::with(|upnp| upnp.answers_from = 49_999);
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn u04_odd_headers_count() {
    for answer in [
        "HTTP/1.1 200 OK\r\nlocation: http://{at}:5000/desc.xml\r\nst: {target}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSERVER:\r\nLoCaTiOn:http://{at}:5000/desc.xml\r\nEXT\r\n\r\n",
        "HTTP/1.0 200\r\nServer: \r\nLOCATION :   http://{at}:5000/desc.xml  \r\n\r\n",
    ] {
        let lab = Home::with(|upnp| upnp.answers = vec![answer.to_owned()]);
        assert_eq!(candidates(&lab.mapped().await), [HERE], "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn u05_a_location_at_a_shared_address_is_tried_as_given_then_at_the_router() {
    // Two routers share the gateway's address; the location has the one's own, which answers or not.
    let router = Home::with(|upnp| upnp.locate("http://192.168.1.2:5000/desc.xml"));
    let as_given = router.clone().beside("192.168.1.2", &router.router);
    let run = as_given.mapped().await;
    assert_eq!(candidates(&run), [HERE]);
    assert!(!run.host.reached().contains(&addr("192.168.1.1:5000")));

    let standby = device("9.9.9.9");
    standby.change(|script| script.upnp.silent());
    let lab =
        Home::with(|upnp| upnp.locate("http://192.168.1.2:5000/desc.xml")).beside("192.168.1.2", &standby);
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), [HERE]);
    assert!(run.host.reached().contains(&addr("192.168.1.2:5000")), "as given, first");
}

#[tokio::test(start_paused = true)]
async fn u06_a_rogue_responder_does_not_hide_the_router_and_leads_nowhere() {
    let rogue = device("9.9.9.9");
    rogue.change(|script| script.upnp.igd2());
    // The rogue is fast and has the better service; the router hears multicast only.
    let lab = Home::with(|upnp| upnp.hears_unicast = false).beside(OTHER, &rogue);
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
        let lab = Home::with(|upnp| upnp.hears_unicast = false).beside(OTHER, &rogue);
        let run = lab.mapped().await;
        assert_eq!(candidates(&run), [HERE], "{url}");
        assert!(
            run.host
                .reached()
                .iter()
                .all(|to| to.ip() != addr("203.0.113.7:80").ip() && !to.ip().is_loopback())
        );

        let alone = Home::with(UpnpScript::silent).beside(OTHER, &rogue);
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
        let lab = Home::with(|upnp| upnp.services = services);
        assert_eq!(candidates(&lab.mapped().await), [HERE]);
        let mut asked = lab.requests("AddPortMapping");
        asked.extend(lab.requests("AddAnyPortMapping"));
        assert!(asked.len() == 1 && asked[0].contains(best), "{best}: {asked:?}");
    }
    // Two descriptions of one router, both within the moment that is waited.
    let lab = Home::with(|upnp| {
        let old = upnp.answers[0].replace("5000/desc.xml", "5000/old.xml");
        upnp.answers.insert(0, old);
        upnp.described.insert("/old.xml".to_owned(), Page::Status(404));
    });
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn u08_a_router_that_is_up_or_cannot_say_is_used() {
    for status in [Some("Up".to_owned()), Some("up ".to_owned()), Some("?".to_owned()), None] {
        let lab = Home::with(|upnp| upnp.services[0].status.clone_from(&status));
        assert_eq!(candidates(&lab.mapped().await), [HERE], "{status:?}");
    }
    let lab = Home::with(|upnp| _ = upnp.breaks.insert("GetStatusInfo".to_owned(), 404));
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
}

#[tokio::test(start_paused = true)]
async fn u16_what_hangs_is_given_up_and_the_rest_of_the_list_is_used() {
    // The first description never comes, the first service never answers.
    let lab = Home::with(|upnp| {
        let stuck = upnp.answers[0].replace("5000/desc.xml", "5000/stuck.xml");
        upnp.answers.insert(0, stuck);
        upnp.described.insert("/stuck.xml".to_owned(), Page::Hangs);
    });
    assert_eq!(candidates(&lab.mapped().await), [HERE]);
    // All hangs: given up within bounded time, and said.
    let lab = Home::with(|upnp| upnp.description = Page::Hangs);
    let run = lab.ran().await;
    let note = last_note(&run);
    assert!(note.contains("did not finish its answer within 1000 ms"), "{note}");
    assert_eq!(run.host.in_flight(), 0);
    // A router that hangs at the mapping itself.
    let lab = Home::with(|upnp| _ = upnp.hangs.insert("AddPortMapping".to_owned()));
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
        let lab = Home::with(|upnp| upnp.services = services.clone());
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
        let lab = Home::with(|upnp| {
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
async fn u22_all_leaves_by_the_address_that_routes_to_the_router() {
    let mut lab = Home::default();
    lab.situation.addresses.insert(0, address("10.9.9.9".parse().unwrap(), 24));
    lab.mapped().await;
    let own = addr("192.168.1.5:0").ip();
    assert!(lab.router.heard().iter().all(|heard| heard.from == own));
}

#[tokio::test(start_paused = true)]
async fn u23_a_container_bridge_is_not_taken_for_our_address() {
    let mut lab = Home::default();
    for bridge in ["172.17.0.1", "192.168.122.1"] {
        lab.situation.addresses.insert(0, address(bridge.parse().unwrap(), 16));
    }
    lab.mapped().await;
    assert_eq!(lab.mapping().inside, addr("192.168.1.5:51820"));
    assert!(lab.requests("AddPortMapping")[0].contains("<NewInternalClient>192.168.1.5</NewInternalClient>"));
}
