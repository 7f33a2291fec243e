//! `cargo xtask bench`: measures, prints, and writes docs/BENCHMARKS.md.

pub(crate) mod connect;
pub(crate) mod hot_paths;
pub(crate) mod machine;
pub(crate) mod many;
pub(crate) mod page;
pub(crate) mod relay;
pub(crate) mod roam;

use std::time::Duration;

use anyhow::{Result, bail};

use page::{Page, Section};

/// All benchmarks, in the order of the page, which is also the order in which they run.
const SECTIONS: [&Section; 5] =
    [&connect::SECTION, &roam::SECTION, &relay::SECTION, &many::SECTION, &hot_paths::SECTION];

/// Runs all benchmarks as they run by themselves without arguments, and writes each one's section when it is done. Whatever
/// one comes to, the others are run too.
pub(crate) fn all() -> Result<()> {
    let mut failed = Vec::new();
    for section in SECTIONS {
        eprintln!("==> {}", section.title);
        if let Err(error) = (section.measure)().and_then(|figures| figures.conclude(Some(section))) {
            eprintln!("{}: {error:#}", section.name);
            failed.push(format!("{}: {error:#}", section.name));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// What a benchmark measured.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Markdown, the machine first.
    pub(crate) text: String,
    /// What has no figure.
    pub(crate) missing: Vec<String>,
}

impl Figures {
    /// Those of a benchmark that fails as a whole, or has all figures.
    pub(crate) fn complete(text: String) -> Self {
        Self { text, missing: Vec::new() }
    }

    /// Prints them, and puts them on the page if they are the whole of a section. Fails where a figure is missing.
    pub(crate) fn conclude(&self, whole_of: Option<&'static Section>) -> Result<()> {
        println!("{}", self.text);
        if let Some(section) = whole_of {
            publish(section, &self.text)?;
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        bail!("half of the runs or more did not get there: {}", self.missing.join(", "))
    }
}

/// The median. What did not get there took longer than all others, so there is none where that is half of them or more.
pub(crate) fn median(mut times: Vec<Option<Duration>>) -> Option<Duration> {
    times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    times.get(times.len() / 2).copied().flatten()
}

/// Puts new figures of one benchmark on the page, and its words too.
fn publish(section: &'static Section, figures: &str) -> Result<()> {
    let mut page = Page::read(&SECTIONS)?;
    page.put(section, figures);
    page.write()
}

/// Writes the page anew with the figures that it has, after a change to its words.
pub(crate) fn words() -> Result<()> {
    Page::read(&SECTIONS)?.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_command_writes() -> Result<()> {
        let page = Page::read(&SECTIONS)?;
        let text = crate::docs::read(page::NAME)?;
        assert!(
            text == page.to_string(),
            "docs/BENCHMARKS.md was changed by hand, or words changed: `cargo xtask bench words` writes it anew"
        );
        Ok(())
    }

    #[test]
    fn a_missing_figure_fails_the_benchmark_and_is_named() {
        let text = String::new();
        assert!(Figures::complete(text.clone()).conclude(None).is_ok());
        let missing = vec!["none/fixed".to_owned(), "none/none".to_owned()];
        let error = Figures { text, missing }.conclude(None).expect_err("two figures are missing");
        assert!(error.to_string().contains("none/fixed, none/none"), "{error}");
    }

    #[test]
    fn there_is_no_median_where_half_did_not_get_there() {
        let [soon, late] = [1, 3].map(|seconds| Some(Duration::from_secs(seconds)));
        assert_eq!(median(vec![None, late, soon]), late);
        assert_eq!(median(vec![soon, None, None]), None);
        assert_eq!(median(vec![soon, None]), None);
        assert_eq!(median(Vec::new()), None);
    }
}
