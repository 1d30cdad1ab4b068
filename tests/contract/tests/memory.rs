//! The contract, run against the store in memory; and a check that the suite runs all of its cases.

use tollgate_contract::StoreHarness;
use tollgate_store::memory::InMemoryStore;

struct Memory;

impl StoreHarness for Memory {
    type Store = InMemoryStore;
    const WAITS: bool = false;

    async fn fresh(&self) -> InMemoryStore {
        InMemoryStore::new()
    }

    async fn pass(&self, store: &InMemoryStore, ms: u64) {
        store.set_now(store.now() + ms);
    }
}

tollgate_contract::store_contract!(Memory, futures::executor::block_on);
tollgate_contract::upkeep_contract!(Memory, futures::executor::block_on);

/// A case that nobody runs would go unnoticed: a public function of a library is never unused.
#[test]
fn every_case_is_listed() {
    let list = include_str!("../src/lib.rs");
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut cases = 0;
    for file in std::fs::read_dir(sources).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        if module == "planner" {
            // Run by its name, where SQL or a script reads the commit's rules a second time.
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.contains("(harness: &impl ")) {
            let Some(name) = line
                .strip_prefix("pub async fn ")
                .and_then(|rest| rest.split('(').next())
            else {
                continue;
            };
            let case = format!("            {module}::{name},");
            assert!(
                list.lines().any(|line| line == case),
                "{module}::{name} is not listed"
            );
            cases += 1;
        }
    }
    assert!(cases > 60, "found {cases}");
}
