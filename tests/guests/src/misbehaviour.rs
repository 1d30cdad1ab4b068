//! What a component can do wrong without waiting for anything.

use std::hint::black_box;

/// Bytes that are allocated and written at a time.
const CHUNK: usize = 1 << 20;

/// What it says over and over again.
const WORDS: &str = "words, words, words";

/// The last segment of a path: what a request asks for.
pub fn manner(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Does what can be done without waiting. Comes back from nothing but what it does not know.
pub fn misbehave(manner: &str) {
    match manner {
        "loops" => loop {
            black_box(());
        },
        "recurses" => drop(recurse(1)),
        "allocates" => allocate(),
        "traps" => core::arch::wasm32::unreachable(),
        "panics" => panic!("as asked for"),
        "exits" => std::process::exit(3),
        "talks" => (0..1_000).for_each(|_| eprintln!("{WORDS}")),
        _ => {}
    }
}

fn recurse(depth: u64) -> [u64; 32] {
    let mut frame = black_box([depth; 32]);
    frame[1] = recurse(depth + 1)[0];
    black_box(frame)
}

fn allocate() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(black_box(vec![1; CHUNK]));
    }
}
