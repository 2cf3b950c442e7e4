//! The inputs that are kept: real ones, and every one that ever broke a parser.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

use std::fs;
use std::path::Path;

use strongroom_fuzzing::{seeds, targets};

fn kept() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fuzz")
}

/// Each input as it is, cut at many places, and with single bits flipped. At least one for each target
/// is taken: the others may break on the way to the parser.
#[test]
fn f27_kept_inputs_and_their_neighbours_break_no_parser() {
    let mut refused = Vec::new();
    for (name, target) in targets() {
        let (mut inputs, mut taken) = (0, 0);
        for entry in
            fs::read_dir(kept().join(name)).unwrap_or_else(|_| panic!("no inputs are kept for {name}"))
        {
            let input = fs::read(entry.unwrap().path()).unwrap();
            inputs += 1;
            taken += usize::from(target(&input));
            for at in (0..input.len()).step_by(input.len().div_ceil(200).max(1)) {
                target(&input[..at]);
                let mut flipped = input.clone();
                flipped[at] ^= 1 << (at % 8);
                target(&flipped);
            }
        }
        assert!(inputs > 0, "no inputs are kept for {name}");
        if taken == 0 {
            refused.push(name);
        }
    }
    assert!(refused.is_empty(), "all inputs kept for {refused:?} are refused");
}

#[test]
fn kept_inputs_belong_to_a_target() {
    let names: Vec<_> = targets().map(|(name, _)| name).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    for entry in fs::read_dir(kept()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name.as_str()) || name == "README.md", "{name}");
    }
}

/// `STRONGROOM_WRITE_SEEDS=1` writes them.
#[test]
fn kept_inputs_that_are_made_are_as_they_would_be_made() {
    for (name, seed, make) in seeds() {
        let (folder, made) = (kept().join(name), make());
        if std::env::var_os("STRONGROOM_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(seed), &made).unwrap();
        }
        assert!(fs::read(folder.join(seed)).is_ok_and(|found| found == made), "{name}/{seed}");
    }
}
