//! docs/BENCHMARKS.md: a section for each benchmark, with its words and the figures that were measured last.
//!
//! The page is written by the command alone. The words of a section (what is measured, how, what the figures do not show)
//! are a Markdown file beside its module, such as `relay/about.md`; its figures stay on the page, between two markers,
//! until they are measured again. A section without figures is left out.
//!
//! To add one: write `bench/NAME.rs` (or a directory) and `bench/NAME/about.md`, say in the module
//!
//! ```ignore
//! pub(crate) const SECTION: Section = Section {
//!     name: "roam",
//!     title: "Roam",
//!     about: include_str!("roam/about.md"),
//!     measure: || figures(&RoamArguments::default()),   // machine::line(...) first, then tables
//! };
//! ```
//!
//! put `&roam::SECTION` at its place in `SECTIONS` (in `bench.rs`), and let the subcommand `roam` measure with its arguments,
//! and let [`super::Figures::conclude`] have the figures, with the section where they are the whole of it. `cargo xtask
//! bench` then runs it too, and `cargo xtask bench words` puts changed words on the page without measuring.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};

use super::Figures;
use crate::docs;

/// The words before all sections.
const ABOUT: &str = include_str!("about.md");

/// One benchmark.
#[derive(Debug)]
pub(crate) struct Section {
    /// The subcommand.
    pub(crate) name: &'static str,
    /// The heading.
    pub(crate) title: &'static str,
    /// What is measured, and how: Markdown.
    pub(crate) about: &'static str,
    /// Measures everything.
    pub(crate) measure: fn() -> Result<Figures>,
}

/// The page: the figures of each section that has some, by its name.
#[derive(Debug)]
pub(crate) struct Page {
    order: &'static [&'static Section],
    figures: BTreeMap<&'static str, String>,
}

impl Page {
    /// The page as it is now.
    pub(crate) fn read(order: &'static [&'static Section]) -> Result<Self> {
        Self::parse(&docs::read(NAME)?, order)
    }

    fn parse(text: &str, order: &'static [&'static Section]) -> Result<Self> {
        let mut figures = BTreeMap::new();
        for section in order {
            let Some((_, rest)) = text.split_once(&section.begin()) else { continue };
            let Some((found, _)) = rest.split_once(&section.end()) else {
                bail!("docs/BENCHMARKS.md has no line {:?}", section.end());
            };
            figures.insert(section.name, found.trim().to_owned());
        }
        let marked = text.lines().filter(|line| line.starts_with("<!-- figures of ")).count();
        if marked != figures.len() {
            bail!("docs/BENCHMARKS.md has figures of a benchmark that does not exist (any more)");
        }
        Ok(Self { order, figures })
    }

    /// Puts new figures in the place of a section's old ones.
    pub(crate) fn put(&mut self, section: &'static Section, figures: &str) {
        self.figures.insert(section.name, figures.trim().to_owned());
    }

    /// Writes it.
    pub(crate) fn write(&self) -> Result<()> {
        docs::write(NAME, &self.to_string())
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ABOUT}")?;
        for section in self.order {
            let Some(figures) = self.figures.get(section.name) else { continue };
            let (about, begin, end) = (section.about.trim(), section.begin(), section.end());
            write!(f, "\n## {}\n\n{about}\n\n{begin}\n{figures}\n{end}\n", section.title)?;
        }
        Ok(())
    }
}

impl Section {
    fn begin(&self) -> String {
        format!("<!-- figures of `cargo xtask bench {}` -->", self.name)
    }

    fn end(&self) -> String {
        format!("<!-- end of the figures of {} -->", self.name)
    }
}

/// The file in docs/.
pub(crate) const NAME: &str = "BENCHMARKS.md";

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Section = Section {
        name: "one",
        title: "One",
        about: "About one.\n",
        measure: || Ok(Figures::complete(String::new())),
    };
    const TWO: Section = Section { name: "two", title: "Two", about: "About two.\n", ..ONE };
    const ORDER: &[&Section] = &[&ONE, &TWO];

    #[test]
    fn new_figures_leave_the_others_alone_and_the_order_holds() -> Result<()> {
        let mut page = Page::parse("", ORDER)?;
        page.put(&TWO, "2 ms\n");
        page.put(&ONE, "1 ms");
        let text = page.to_string();
        let mut again = Page::parse(&text, ORDER)?;
        assert_eq!(again.to_string(), text);
        again.put(&ONE, "10 ms");
        assert_eq!(again.to_string(), text.replace("1 ms", "10 ms"));
        let places =
            ["## One", "About one.", "1 ms", "## Two", "About two.", "2 ms"].map(|part| text.find(part));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
        Ok(())
    }

    #[test]
    fn figures_are_never_dropped_silently() {
        let text = format!("{}\n1 ms\n", ONE.begin());
        assert!(Page::parse(&text, ORDER).is_err(), "no end");
        let text = format!("{}\n1 ms\n{}\n", ONE.begin(), ONE.end());
        assert!(Page::parse(&text, &[&TWO]).is_err(), "a section that nobody knows");
    }
}
