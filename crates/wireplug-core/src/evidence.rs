//! How a candidate was found.

use std::collections::BTreeMap;
use std::fmt;

/// How a candidate was found: words for people, and single facts for scripts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    words: String,
    facts: BTreeMap<&'static str, String>,
}

impl Evidence {
    /// Words for people: "mapping 5.6.7.8:40001 seen by 203.0.113.7:3478".
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), facts: BTreeMap::new() }
    }

    /// The same with a fact, such as `gateway` and the router's address. Names are of `a-z` and `_`; one said again
    /// is replaced.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.facts.insert(name, value.to_string());
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
}
