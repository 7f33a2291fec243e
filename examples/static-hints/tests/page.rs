//! The page about writing a strategy shows this code, and no other.

const PAGE: &str = include_str!("../../../docs/WRITING-A-STRATEGY.md");
const SOURCES: [&str; 8] = [
    include_str!("../Cargo.toml"),
    include_str!("../src/lib.rs"),
    include_str!("../src/file.rs"),
    include_str!("../src/told.rs"),
    include_str!("conformance.rs"),
    include_str!("../../my-wireplugd/src/main.rs"),
    include_str!("../../../strategies/direct/src/addresses.rs"),
    include_str!("../../../strategies/nat-pmp/tests/quirks.rs"),
];

#[test]
fn all_code_of_the_page_is_code_that_runs() {
    // Text, code, text, code, ..., text.
    let parts: Vec<&str> = PAGE.split("```").collect();
    assert!(parts.len() % 2 == 1 && parts.len() > 20, "the page's blocks of code are not closed, or gone");
    for block in parts.iter().skip(1).step_by(2) {
        let (language, code) = block.split_once('\n').unwrap_or_default();
        assert!(["rust", "toml"].contains(&language), "a block of {language:?}");
        let whole_lines = format!("\n{code}");
        let is_there = SOURCES.iter().any(|source| format!("\n{source}").contains(&whole_lines));
        assert!(is_there, "this is in no source any more:\n{code}");
    }
}
