//! Playing files to a target without a fuzzer.

use std::process::ExitCode;

/// Plays the files that the command line names.
pub fn files(run: fn(&[u8])) -> ExitCode {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        eprintln!(
            "usage: TARGET FILE...: plays files to this target; `cargo xtask fuzz` runs it under libFuzzer"
        );
        return ExitCode::FAILURE;
    }
    for file in files {
        eprintln!("{}", file.display());
        match std::fs::read(&file) {
            Ok(data) => run(&data),
            Err(error) => {
                eprintln!("cannot read {}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The most bytes of one target's corpus.
#[cfg(test)]
const MAX_CORPUS: usize = 16 << 10;

/// Plays a target's corpus: each file as it is, cut off in many places, and with many bytes changed.
#[cfg(test)]
pub(crate) fn corpus(name: &str, run: fn(&[u8])) {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .expect("each target has a corpus")
        .map(|entry| entry.expect("a directory can be read").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    let mut size = 0;
    for file in files {
        // Shown where the test fails.
        eprintln!("{}", file.display());
        let data = std::fs::read(&file).expect("a file can be read");
        size += data.len();
        run(&data);
        let step = data.len() / 64 + 1;
        for at in (0..data.len()).step_by(step) {
            run(&data[..at]);
            for mask in [0x01, 0x80, 0xff] {
                let mut changed = data.clone();
                changed[at] ^= mask;
                run(&changed);
            }
        }
    }
    assert!(size <= MAX_CORPUS, "the corpus of {name} has {size} bytes; keep the files that find something");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Whoever adds a target does it in three places.
    #[test]
    fn each_target_has_a_program_and_a_corpus() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let targets: BTreeSet<String> = crate::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let manifest = std::fs::read_to_string(here.join("Cargo.toml")).unwrap();
        let programs: BTreeSet<String> = manifest
            .lines()
            .filter_map(|line| {
                Some(line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\"")?.to_owned())
            })
            .collect();
        let corpora: BTreeSet<String> = std::fs::read_dir(here.join("corpus"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(programs, targets, "programs in Cargo.toml");
        assert_eq!(corpora, targets, "directories in corpus/");
    }
}
