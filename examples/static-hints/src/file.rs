//! The file of hints.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use wireplug_core::{Endpoint, PublicKey};

/// The longest file, in bytes: some hundreds of peers.
const LONGEST: u64 = 64 << 10;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Who may be where.
    pub(crate) places: BTreeSet<(PublicKey, Endpoint)>,
    /// What is wrong with it, for people.
    pub(crate) wrong: Option<String>,
}

/// Reads a file, as far as it can be read.
pub(crate) async fn read(path: &Path) -> Hints {
    let text = async {
        let mut text = String::new();
        File::open(path).await?.take(LONGEST).read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    match text.await {
        Ok(text) => parse(&text, path),
        Err(error) => {
            let wrong = Some(format!("cannot read {}: {error}", path.display()));
            Hints { places: BTreeSet::new(), wrong }
        }
    }
}

/// Lines that make no sense are left out, and the first of them is told.
fn parse(text: &str, path: &Path) -> Hints {
    let mut hints = Hints::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        match places(line) {
            Ok(places) => hints.places.extend(places),
            Err(why) => {
                hints.wrong.get_or_insert(format!("{}:{number}: {why}", path.display()));
            }
        }
    }
    hints
}

fn places(line: &str) -> Result<Vec<(PublicKey, Endpoint)>, String> {
    let mut words = line.split_whitespace();
    let Some(key) = words.next() else { return Ok(Vec::new()) };
    let key: PublicKey = key.parse().map_err(|error| format!("{error}"))?;
    let place = |word: &str| {
        let address = word.parse().map_err(|_| format!("{word:?} is no place: write 203.0.113.7:51820"))?;
        Ok((key, Endpoint::new(address).map_err(|error| error.to_string())?))
    };
    words.map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

    fn parsed(text: &str) -> (Vec<String>, Option<String>) {
        let hints = parse(text, Path::new("hints"));
        (hints.places.iter().map(|(_, place)| place.to_string()).collect(), hints.wrong)
    }

    #[test]
    fn one_peer_on_each_line() {
        let text = format!("# ours\n\n{KEY} 10.0.0.9:1 [2a00::9]:2 # the nas\n{KEY}\n");
        assert_eq!(parsed(&text), (vec!["10.0.0.9:1".to_owned(), "[2a00::9]:2".to_owned()], None));
    }

    #[test]
    fn what_makes_no_sense_is_told_and_hurts_no_other_line() {
        for (line, why) in [
            ("nonsense 10.0.0.9:1".to_owned(), "nonsense"),
            (format!("{KEY} nas:51820"), "\"nas:51820\" is no place"),
            (format!("{KEY} 127.0.0.1:51820"), "127.0.0.1"),
        ] {
            let (places, wrong) = parsed(&format!("{line}\n{KEY} 10.0.0.9:1"));
            assert_eq!(places, ["10.0.0.9:1"], "{line}");
            let wrong = wrong.unwrap();
            assert!(wrong.starts_with("hints:1: ") && wrong.contains(why), "{wrong}");
        }
    }
}
