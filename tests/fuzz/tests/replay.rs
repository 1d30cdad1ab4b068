//! Runs every kept input, and mutations of them out of a fixed seed, through its target. So a fault that was
//! found once is found again, and the targets keep working on the compiler that everything else is built
//! with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use tollgate_fuzz::{TARGETS, Target};

/// Mutated inputs per target. A commit of the last target reaches a database.
const MUTATIONS: usize = 2_000;
const SEED: u64 = 0x7011_6A7E;
/// The longest input that a mutation makes.
const MAX_BYTES: usize = 4_096;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The kept inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = root().join("corpus").join(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .collect();
    found.sort();
    found
}

/// The words of a target's dictionary, as libFuzzer reads it.
fn words(target: &str) -> Vec<Vec<u8>> {
    let path = root().join("dictionaries").join(format!("{target}.dict"));
    let Ok(text) = fs::read_to_string(path) else {
        return Vec::new();
    };
    let quoted = text
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescaped).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                after
            }
            (b'\\', [escaped, after @ ..]) => {
                bytes.push(*escaped);
                after
            }
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    bytes
}

/// One input; a failure says how to see it again.
fn run((name, body): Target, label: &str, input: &[u8]) {
    let Err(why) = panic::catch_unwind(AssertUnwindSafe(|| body(input))) else {
        return;
    };
    let kept = std::env::temp_dir().join(format!("tollgate-fuzz-{name}"));
    fs::write(&kept, input).unwrap();
    eprintln!(
        "{name}, {label}: {:?}\nkept in {}; put it into fuzz/corpus/{name} once it is understood",
        String::from_utf8_lossy(input),
        kept.display()
    );
    panic::resume_unwind(why);
}

fn mutated(random: &mut fastrand::Rng, corpus: &[(String, Vec<u8>)], words: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random
        .choice(corpus)
        .map(|(_, input)| input.clone())
        .unwrap_or_default();
    for _ in 0..random.usize(1..=6) {
        let place = random.usize(0..=input.len());
        let end = random.usize(place..=input.len().min(place + 32));
        match random.u8(0..8) {
            0 if place < input.len() => input[place] ^= 1 << random.u8(0..8),
            1 if place < input.len() => input[place] = random.u8(..),
            2 => drop(input.drain(place..end)),
            3 => input.insert(place, random.u8(..)),
            4 => {
                let again = input[place..end].to_vec();
                drop(input.splice(place..place, again));
            }
            5 => {
                let other = &random.choice(corpus).unwrap().1;
                let from = random.usize(0..=other.len());
                let to = random.usize(from..=other.len());
                drop(input.splice(place..end, other[from..to].iter().copied()));
            }
            _ => {
                if let Some(word) = random.choice(words) {
                    drop(input.splice(place..end, word.iter().copied()));
                }
            }
        }
    }
    input.truncate(MAX_BYTES);
    input
}

fn replay(name: &str) {
    let target = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let (corpus, words) = (corpus(name), words(name));
    assert!(corpus.len() >= 5, "the corpus of {name} is missing");
    run(target, "nothing", b"");
    for (label, input) in &corpus {
        run(target, label, input);
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    for index in 0..MUTATIONS {
        run(
            target,
            &format!("mutation {index}"),
            &mutated(&mut random, &corpus, &words),
        );
    }
}

#[test]
fn routing() {
    replay("routing");
}

#[test]
fn forwarded() {
    replay("forwarded");
}

#[test]
fn fields() {
    replay("fields");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn bodies() {
    replay("bodies");
}

#[test]
fn webhook() {
    replay("webhook");
}

#[test]
fn batch() {
    replay("batch");
}

/// A target that is only here, or only there, would not be run.
#[test]
fn every_target_is_one_of_cargo_fuzz() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let named = manifest.matches("[[bin]]").count();
    assert_eq!(named, TARGETS.len());
    for (name, _) in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is missing in fuzz/Cargo.toml"
        );
        let body = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            body.contains(&format!("tollgate_fuzz::{name}(")),
            "{name} calls something else"
        );
    }
}
