//! `cargo xtask bench`: measures, prints, and writes docs/BENCHMARKS.md.

pub(crate) mod connect;
pub(crate) mod hot_paths;
pub(crate) mod machine;
pub(crate) mod many;
pub(crate) mod page;
pub(crate) mod relay;
pub(crate) mod roam;

use anyhow::Result;

use page::{Page, Section};

/// All benchmarks, in the order of the page, which is also the order in which they run.
const SECTIONS: [&Section; 5] =
    [&connect::SECTION, &roam::SECTION, &relay::SECTION, &many::SECTION, &hot_paths::SECTION];

/// Runs all benchmarks as they run by themselves without arguments, and writes each one's section when it is done.
pub(crate) fn all() -> Result<()> {
    for section in SECTIONS {
        eprintln!("==> {}", section.title);
        publish(section, &(section.measure)()?)?;
    }
    Ok(())
}

/// Puts new figures of one benchmark on the page, and its words too.
pub(crate) fn publish(section: &'static Section, figures: &str) -> Result<()> {
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
}
