//! How a candidate was found.

use std::collections::BTreeMap;
use std::fmt;

/// The most characters of words or of a fact's value: a line of status. They may come from a router.
const MAX_CHARS: usize = 300;
/// The most facts.
const MAX_FACTS: usize = 16;

/// How a candidate was found: words for people, and single facts for scripts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    words: String,
    facts: BTreeMap<&'static str, String>,
}

impl Evidence {
    /// Words for people: "mapping 5.6.7.8:40001 seen by 203.0.113.7:3478".
    pub fn new(words: impl AsRef<str>) -> Self {
        Self { words: line(words.as_ref()), facts: BTreeMap::new() }
    }

    /// The same with a fact, such as `gateway` and the router's address. Names are of `a-z` and `_`; one said again
    /// is replaced, one that is too many is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if self.facts.len() < MAX_FACTS || self.facts.contains_key(name) {
            self.facts.insert(name, line(&value.to_string()));
        }
        self
    }

    /// For people.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// For scripts, by name.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.facts.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl From<&str> for Evidence {
    fn from(words: &str) -> Self {
        Self::new(words)
    }
}

impl From<String> for Evidence {
    fn from(words: String) -> Self {
        Self::new(words)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// What a terminal may show in one line.
fn line(text: &str) -> String {
    text.chars().take(MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_beside_the_words() {
        let evidence =
            Evidence::new("router 10.0.0.1 maps it").with("gateway", "10.0.0.2").with("gateway", "10.0.0.1");
        assert_eq!(evidence.to_string(), "router 10.0.0.1 maps it");
        assert_eq!(evidence.facts().collect::<Vec<_>>(), [("gateway", "10.0.0.1")]);
        assert_eq!(Evidence::from("x").facts().count(), 0);
    }

    #[test]
    fn what_a_router_says_stays_a_line() {
        let evidence = Evidence::new("a\n\u{1b}[31mb").with("model", "x".repeat(9000));
        assert_eq!(evidence.words(), "a  [31mb");
        assert_eq!(evidence.facts().next().unwrap().1.len(), MAX_CHARS);
    }
}
