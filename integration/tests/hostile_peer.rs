//! A peer whose keys are true and whose offers are not: what it can have sent to strangers is little, and what it costs
//! is bounded.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::time::{Duration, Instant};

use wireplug_core::{Endpoint, Mapping, Offer, OfferVersion, Reach, RemoteCandidate, Tier};
use wireplug_integration::secrets::pair_of;
use wireplug_integration::witness::{memory, only_the_truth, stays_unset};
use wireplug_integration::{Rogue, Temper};
use wireplug_lab::{Host, LabError, Nat, Pair, PairOptions, Result};

/// Offers in all, and the time over which they are spread.
const OFFERS: u16 = 1200;
const SPREAD: Duration = Duration::from_secs(4);

/// How much a daemon may grow under a flood, in KiB.
const GROWTH: u64 = 8 * 1024;

/// Checks that one hostile peer may have sent to strangers: so many at once, and so many a second.
const CHECKS: (u64, u64) = (256, 125);

/// Every offer is newer than the last one, and names sixteen other places of a stranger's.
fn offer(number: u16, stranger: &Host) -> Offer {
    let candidate = |index: u16| RemoteCandidate {
        endpoint: Endpoint::new((stranger.addresses()[0], 1024 + number * 16 + index).into()).unwrap(),
        strategy: "direct".parse().unwrap(),
        tier: Tier::Direct,
        reach: Reach::Open,
    };
    let version = OfferVersion { instance: 7, generation: u32::from(number) + 1, revision: 0 };
    Offer { version, candidates: (0..16).map(candidate).collect(), mapping: Mapping::None, doubts: false }
}

#[test]
fn strangers_that_a_peer_names_are_hardly_bothered() {
    Pair::with("bad-peer", [Nat::PortPreserving, Nat::Fixed], &PairOptions::default(), |pair| {
        let stranger = pair.lab.site("c", Nat::None)?.host()?;
        let rogue = Rogue::replace(pair, Temper::Honest)?;
        let a = pair.a.wireplug()?;
        a.process().wait_log("offer sent", Duration::from_secs(15))?;
        let his = pair_of(&pair.b, &pair.a)?;
        let (resident, bothered, began) = (memory(&a)?, datagrams(&stranger)?, Instant::now());
        for number in 0..OFFERS {
            rogue.tell(his.topic(), his.side().other(), his.seal(&offer(number, &stranger), nonce(number)));
            std::thread::sleep(SPREAD / u32::from(OFFERS));
        }
        stays_unset(pair, std::slice::from_ref(&a), Duration::from_secs(2))?;
        let (bothered, seconds) = (datagrams(&stranger)? - bothered, began.elapsed().as_secs() + 1);
        println!("{OFFERS} offers of 16 places: {bothered} checks in {seconds} s");
        println!("resident {resident} KiB, then {} KiB; CPU {:?}", memory(&a)?, a.cpu_time());
        assert!(bothered > 0, "the offers were not believed: then this tests nothing");
        assert!(bothered <= CHECKS.0 + CHECKS.1 * seconds, "{bothered} checks in {seconds} s");
        assert!(memory(&a)? < resident + GROWTH);

        // The machine with these keys is started anew, with a true wireplug.
        let daemons = [a, pair.b.wireplug()?];
        pair.wait_for_ping(Duration::from_secs(60))?;
        pair.check_direct(&daemons)?;
        only_the_truth(pair, &daemons)
    })
    .unwrap();
}

fn nonce(number: u16) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..2].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// UDP datagrams that have come to a host, read or not.
fn datagrams(host: &Host) -> Result<u64> {
    let text = host.run(&["cat", "/proc/net/snmp"])?;
    let mut udp = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let unread = || LabError::Parse { what: "the counts of UDP", text: text.clone() };
    let (names, counts) = (udp.next().ok_or_else(unread)?, udp.next().ok_or_else(unread)?);
    let of = |wanted: &str| {
        let mut both = names.split(' ').zip(counts.split(' '));
        both.find_map(|(name, count)| (name == wanted).then(|| count.parse::<u64>().ok()).flatten())
    };
    Ok(of("InDatagrams").ok_or_else(unread)? + of("NoPorts").ok_or_else(unread)?)
}
