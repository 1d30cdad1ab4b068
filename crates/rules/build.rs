//! Puts the page of the documentation together, and compresses it and the OpenAPI document: once, and as well as it can be.
#![allow(
    missing_docs,
    clippy::print_stdout,
    reason = "a build script talks to cargo through stdout"
)]

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::path::PathBuf;
use std::{env, fs};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n<title>Tollgate: API</title>\n<style>";

fn main() {
    let read = |path: &str| {
        println!("cargo:rerun-if-changed={path}");
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let (style, script, body) = (
        read("src/docs/docs.css"),
        read("src/docs/docs.js"),
        read("src/docs/docs.html"),
    );
    let page =
        format!("{HEAD}{style}</style>\n<script type=\"module\">{script}</script>\n</head>\n{body}</html>\n");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    fs::write(out.join("docs.html"), &page).expect("OUT_DIR is writable");
    for (name, text) in [
        ("docs.html.gz", page),
        ("openapi.json.gz", read("../api/openapi.json")),
    ] {
        let file = fs::File::create(out.join(name)).expect("OUT_DIR is writable");
        let mut encoder = GzEncoder::new(file, Compression::best());
        encoder.write_all(text.as_bytes()).expect("OUT_DIR is writable");
        encoder.finish().expect("OUT_DIR is writable");
    }
}
