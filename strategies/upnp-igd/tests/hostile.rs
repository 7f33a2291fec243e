//! Routers and neighbours that mean harm: bounded time and memory, said, and never a word to a place off the link.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{OTHER, Upnp};
use tokio::time::Instant;
use wireplug_strategy::kit::Run;
use wireplug_strategy::kit::gateway::{FakeGateway, FakeService, Page};
use wireplug_strategy::kit::home::{Home, candidates, last_note, seconds};
use wireplug_upnp_igd as _;

/// Runs until the first note, which must come within this time and say this; no candidate, nothing off the link.
async fn fails(lab: &Home, within: Duration, says: &str) -> Run {
    let started = Instant::now();
    let run = lab.start();
    while run.host.notes().is_empty() {
        assert!(started.elapsed() <= within, "{says}: nothing said within {within:?}");
        run.after(Duration::from_millis(10)).await;
    }
    let note = last_note(&run);
    assert!(note.contains(says), "{note:?} does not say {says:?}");
    assert!(candidates(&run).is_empty(), "{says}");
    stayed_on_link(&run);
    assert!(!run.is_spinning() && !run.has_ended());
    run
}

fn stayed_on_link(run: &Run) {
    for to in run.host.reached() {
        let near = match to.ip() {
            IpAddr::V4(ip) => ip.octets()[..3] == [192, 168, 1] && ip.octets()[3] != 5 || ip.is_multicast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
        };
        assert!(near, "it spoke to {to}");
    }
}

#[tokio::test(start_paused = true)]
async fn endless_xml_is_cut() {
    let lab = Home::with(|upnp| upnp.description = Page::Endless("<a>x</a>".repeat(100)));
    fails(&lab, seconds(3), "larger than 64 KiB").await;
}

#[tokio::test(start_paused = true)]
async fn giant_xml_is_refused() {
    let giant = format!("<root>{}</root>", "<a>".repeat(40_000));
    let lab = Home::with(|upnp| upnp.description = Page::Text(giant));
    fails(&lab, seconds(3), "larger than 64 KiB").await;
    let many = format!("<root>{}</root>", "<a/>".repeat(15_000));
    let lab = Home::with(|upnp| upnp.description = Page::Text(many));
    fails(&lab, seconds(3), "too many elements").await;
    let deep = "<a>".repeat(20_000);
    let lab = Home::with(|upnp| upnp.description = Page::Chunks(vec![deep; 1]));
    fails(&lab, seconds(3), "too many elements").await;
}

#[tokio::test(start_paused = true)]
async fn entities_are_not_expanded() {
    let mut bomb = "<?xml version=\"1.0\"?><!DOCTYPE r [<!ENTITY a0 \"aaaaaaaaaa\">".to_owned();
    for n in 1..12 {
        let inner = format!("&a{};", n - 1).repeat(10);
        bomb.push_str(&["<!ENTITY a", &n.to_string(), " \"", &inner, "\">"].concat());
    }
    bomb.push_str(
        "<!ENTITY x SYSTEM \"http://203.0.113.7/steal\">]><root><URLBase>&a11;&x;</URLBase></root>",
    );
    let lab = Home::with(|upnp| upnp.description = Page::Text(bomb.clone()));
    fails(&lab, seconds(3), "declares a document type").await;
    // In an answer of SOAP, after a good description: igd-next never sees it.
    let lab = Home::with(|upnp| {
        upnp.refuses.insert("AddPortMapping".to_owned(), 501);
        upnp.fault.clone_from(&bomb);
    });
    fails(&lab, seconds(3), "HTTP status 500").await;
}

#[tokio::test(start_paused = true)]
async fn slow_loris_is_given_up() {
    for every in [10, 900, 60_000] {
        let lab = Home::with(|upnp| upnp.description = Page::Drip(Duration::from_millis(every)));
        let run = fails(&lab, seconds(3), "did not finish its answer within 1000 ms").await;
        assert_eq!(run.host.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_are_followed_on_the_link_only() {
    for (to, says) in [
        ("http://203.0.113.7/desc.xml", "points off the link, to 203.0.113.7"),
        ("http://evil.example/desc.xml", "names a host by its name"),
        ("https://192.168.1.1/desc.xml", "no URL of http"),
        ("//203.0.113.7/x", "points off the link"),
        ("http://127.0.0.1:631/", "points off the link, to 127.0.0.1"),
        ("http://192.168.1.5:22/", "points off the link, to 192.168.1.5"),
        ("http://[::ffff:203.0.113.7]/", "points off the link"),
        ("http://0xcb007107/", "points off the link, to 203.0.113.7"),
        ("file:///etc/passwd", "no URL of http"),
    ] {
        let lab = Home::with(|upnp| upnp.description = Page::Redirect(to.to_owned()));
        fails(&lab, seconds(3), says).await;
    }
    // Round and round.
    let lab = Home::with(|upnp| upnp.description = Page::Redirect("/desc.xml".to_owned()));
    fails(&lab, seconds(3), "HTTP status 302").await;
    // And a harmless one.
    let lab = Home::with(|upnp| {
        upnp.answers[0] = upnp.answers[0].replace("desc.xml", "old.xml");
        upnp.described.insert("/old.xml".to_owned(), Page::Redirect("/desc.xml".to_owned()));
    });
    assert_eq!(candidates(&lab.mapped().await).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn control_urls_and_bases_off_the_link_are_not_used() {
    for control in ["http://203.0.113.7/ctl/", "http://evil.example/", "//203.0.113.7/", "http://127.0.0.1/"]
    {
        let lab = Home::with(|upnp| control.clone_into(&mut upnp.control));
        fails(&lab, seconds(3), "no usable").await;
    }
    let lab = Home::with(|upnp| upnp.url_base = Some("http://203.0.113.7/".to_owned()));
    let run = lab.mapped().await;
    stayed_on_link(&run);
}

#[tokio::test(start_paused = true)]
async fn a_mapping_that_leads_to_another_host_is_not_offered_and_not_deleted() {
    let lab = Home::with(|upnp| upnp.lists_client = Some(OTHER.parse().unwrap()));
    let run = fails(&lab, seconds(3), "to 192.168.1.66 instead of us").await;
    assert!(lab.requests("DeletePortMapping").is_empty());
    assert!(lab.requests("AddPortMapping").len() <= 6);
    drop(run);
}

#[tokio::test(start_paused = true)]
async fn an_absurd_lease_is_not_believed() {
    let lab = Home::with(|upnp| upnp.lists_lease = Some(u32::MAX));
    let run = lab.mapped().await;
    let found = run.host.standing().candidates.into_values().next().unwrap();
    assert_eq!(found.lifetime, Some(seconds(3600)), "no longer than was asked for");
    let lab = Home::with(|upnp| upnp.lists_lease = Some(1));
    fails(&lab, seconds(3), "over at once").await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_services_and_answers_costs_little() {
    let lab = Home::with(|upnp| {
        upnp.services = vec![FakeService::wan_ip(1); 60];
        upnp.services.truncate(60);
    });
    let run = lab.ran().await;
    assert_eq!(candidates(&run).len(), 1);
    assert!(lab.requests("GetStatusInfo").len() <= 8);

    let flood = FakeGateway::new("9.9.9.9".parse().unwrap());
    flood.change(|script| {
        let answers = (0..500).map(|n| script.upnp.answers[0].replace("desc.xml", &format!("{n}.xml")));
        script.upnp.answers = answers.collect();
    });
    // The router answers too, but is heard last.
    let lab = Home::default().beside(OTHER, &flood);
    let run = lab.ran().await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
    let gets = flood.heard().iter().filter(|heard| heard.datagram.starts_with(b"GET")).count();
    assert!(gets <= 4, "{gets}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_router_costs_a_second_and_later_nothing() {
    let lab = Home::with(wireplug_strategy::kit::gateway::UpnpScript::silent);
    let run = fails(&lab, Duration::from_millis(1050), "does not answer UPnP").await;
    let heard = lab.router.heard().len();
    run.after(seconds(50)).await;
    assert_eq!(lab.router.heard().len(), heard);
}
