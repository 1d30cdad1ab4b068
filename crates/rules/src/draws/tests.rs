//! Draws against the store in memory: verdicts and outcomes here, the arithmetic in [`fair`], interleavings in [`races`].

mod fair;
mod races;

use serde_json::{Value, json};

use super::*;
use crate::testing::{ADMIN, Gateway, SECOND, body, pointer, ready, request, slug, text};
use tollgate_api::time;
use tollgate_store::commit::{Commit, Message, Mutation, StoreError, literal};
use tollgate_store::memory::START;

/// When the draws of these tests close.
const CLOSE: u64 = START + 100 * SECOND;

fn lottery() -> Value {
    json!({
        "id": "d", "pick": 3, "pool": { "from": 1, "to": 9 }, "closesAt": time::format(CLOSE),
        "prizes": [{ "matches": 1, "name": "book" }, { "matches": 3, "name": "car", "quantity": 1 }],
    })
}

fn with(change: &[(&str, Value)]) -> Value {
    let mut draw = lottery();
    for (name, value) in change {
        draw[*name] = value.clone();
    }
    draw
}

impl Gateway {
    #[track_caller]
    fn with_draw(draw: &Value) -> Self {
        let gateway = Self::new();
        let response = gateway.admin("POST", "/api/draws", draw);
        assert_eq!(response.status, 201, "{}", text(&response));
        gateway
    }

    fn enter(&self, user: &str, body: &str) -> Response {
        self.call("POST", "/api/draws/d/entries", &[("x-user-id", user)], body)
    }

    fn of(&self, user: &str, tail: &str) -> Response {
        let path = format!("/api/draws/d/entries/{user}{tail}");
        self.call("GET", &path, &[("x-user-id", user)], "")
    }

    fn the_draw(&self) -> Value {
        body(&self.call("GET", "/api/draws/d", &[], ""))
    }

    fn draw_now(&self, with: &Value) -> Response {
        self.admin("POST", "/api/draws/d/draw", with)
    }

    /// Background work until there is no more.
    fn maintained(&self) {
        for _ in 0..10_000 {
            if !ready(maintain(&self.store, self.store.now())).unwrap() {
                return;
            }
        }
        panic!("there is always more to do");
    }

    fn draw_messages(&self) -> Vec<Message> {
        ready(self.store.read("draw", 0, 1_000, 0)).unwrap()
    }
}

#[test]
fn an_entry_is_admitted_and_announced() {
    let gateway = Gateway::with_draw(&lottery());
    let response = gateway.enter("ann", r#"{"words":[7,2,9]}"#);
    assert_eq!(response.status, 201, "{}", text(&response));
    assert_eq!(response.header("location"), Some("/api/draws/d/entries/ann"));
    let entry = &body(&response)["entry"];
    assert_eq!(
        (&entry["sequence"], &entry["words"], &entry["user"]),
        (&json!(1), &json!([2, 7, 9]), &json!("ann"))
    );
    let message = &gateway.draw_messages()[0];
    assert_eq!(
        (message.kind.as_str(), message.key.as_str()),
        ("draw.entered", "ann")
    );
    let data: Value = serde_json::from_slice(&message.payload).unwrap();
    let announced =
        json!({"draw": "d", "user": "ann", "entry": entry["id"], "sequence": 1, "words": [2, 7, 9]});
    assert_eq!(data, announced);
    assert_eq!(body(&gateway.of("ann", ""))["entries"], json!([entry]));
    assert_eq!(body(&gateway.of("bob", ""))["entries"], json!([]));
    // Who leaves the words out gets some.
    let entry = body(&gateway.enter("bob", ""))["entry"].clone();
    let words: Vec<u64> = entry["words"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    assert!(words.len() == 3 && words.is_sorted() && words.iter().all(|word| (1..=9).contains(word)));
    assert_eq!(gateway.the_draw()["entries"], 2);
}

#[test]
fn a_user_has_as_many_entries_as_the_draw_allows() {
    let gateway = Gateway::with_draw(&with(&[("perUser", json!(2))]));
    let first = body(&gateway.enter("ann", ""));
    assert_eq!(gateway.enter("ann", "").status, 201);
    let third = gateway.enter("ann", "");
    assert_eq!((third.status, slug(&third).as_str()), (409, "already-entered"));
    assert_eq!(body(&third)["entry"], first["entry"]);
    assert_eq!(gateway.enter("bob", "").status, 201);
    let of_ann = body(&gateway.of("ann", ""));
    let sequences: Vec<_> = of_ann["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["sequence"])
        .collect();
    assert_eq!(sequences, [1, 2]);
}

#[test]
fn entries_are_taken_from_the_opening_to_the_close() {
    let opens = START + 10 * SECOND;
    let gateway = Gateway::with_draw(&with(&[("opensAt", json!(time::format(opens)))]));
    for (now, expected, state) in [
        (START, "not-started", "scheduled"),
        (opens - 1, "not-started", "scheduled"),
        (opens, "", "open"),
        (CLOSE - 1, "", "open"),
        (CLOSE, "ended", "closed"),
        (CLOSE + 60 * SECOND, "ended", "closed"),
    ] {
        gateway.store.set_now(now);
        let response = gateway.enter(&now.to_string(), "");
        match expected {
            "" => assert_eq!(response.status, 201, "{}", text(&response)),
            slug_of => assert_eq!(
                (response.status, slug(&response).as_str()),
                (403, slug_of),
                "{now}"
            ),
        }
        if expected == "not-started" {
            let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert_eq!(wait, (opens - now).div_ceil(SECOND));
        }
        // Beyond the close, reading it would bring it further.
        if now <= CLOSE {
            assert_eq!(gateway.the_draw()["state"], state, "{now}");
        }
    }
}

#[test]
fn a_pick_that_is_not_of_the_pool_is_named() {
    let gateway = Gateway::with_draw(&lottery());
    for (words, at) in [
        (json!([1, 2]), "#/words"),
        (json!([1, 2, 3, 4]), "#/words"),
        (json!([1, 2, 10]), "#/words/2"),
        (json!([1, 0, 2]), "#/words/1"),
        (json!([1, 2, 2]), "#/words/2"),
        (json!([1, "2", 3]), "#/words/1"),
        (json!([1, 2, -3]), "#/words/2"),
        (json!([1, 2, 2.5]), "#/words/2"),
    ] {
        let response = gateway.enter("ann", &json!({ "words": words }).to_string());
        assert_eq!(pointer(&response), at, "{words}");
    }
    assert_eq!(pointer(&gateway.enter("ann", r#"{"word":[1]}"#)), "#/word");
    assert_eq!(gateway.the_draw()["entries"], 0);
    assert_eq!(
        slug(&gateway.call("POST", "/api/draws/d/entries", &[], "")),
        "user-required"
    );
    assert_eq!(
        gateway
            .call("POST", "/api/draws/e/entries", &[("x-user-id", "ann")], "")
            .status,
        404
    );
}

#[test]
fn a_draw_that_breaks_a_rule_is_named() {
    let gateway = Gateway::new();
    let prize = |prize: Value| json!([prize]);
    for (field, value, at) in [
        ("id", json!("A"), "#/id"),
        ("pick", json!(0), "#/pick"),
        ("pick", json!(10), "#/pick"),
        ("pick", json!(21), "#/pick"),
        ("pool", json!("abc"), "#/pool"),
        ("pool", json!([]), "#/pool"),
        ("pool", json!(["a", "b", "a"]), "#/pool/2"),
        ("pool", json!(["a", "b\nc", "d"]), "#/pool/1"),
        ("pool", json!(["a", 7, "d"]), "#/pool/1"),
        ("pool", json!({ "a/b~": 1 }), "#/pool/a~1b~0"),
        ("pool", json!({ "from": 1 }), "#/pool/to"),
        ("pool", json!({ "from": 9, "to": 1 }), "#/pool/to"),
        ("pool", json!({ "from": 1, "to": 2_000_000 }), "#/pool/to"),
        ("pool", json!({ "from": 1, "to": 9, "step": 2 }), "#/pool/step"),
        ("perUser", json!(101), "#/perUser"),
        ("closesAt", json!(time::format(START)), "#/closesAt"),
        ("opensAt", json!(time::format(CLOSE)), "#/closesAt"),
        ("prizes", json!([]), "#/prizes"),
        (
            "prizes",
            prize(json!({ "matches": 4, "name": "x" })),
            "#/prizes/0/matches",
        ),
        (
            "prizes",
            prize(json!({ "matches": 0, "name": "x" })),
            "#/prizes/0/matches",
        ),
        (
            "prizes",
            prize(json!({ "matches": 1, "name": "" })),
            "#/prizes/0/name",
        ),
        (
            "prizes",
            prize(json!({ "matches": 1, "name": "x", "quantity": 0 })),
            "#/prizes/0/quantity",
        ),
        ("topic", json!("-"), "#/topic"),
        ("beaconSource", json!(""), "#/beaconSource"),
        ("seed", json!("00"), "#/seed"),
    ] {
        let response = gateway.admin("POST", "/api/draws", &with(&[(field, value.clone())]));
        assert_eq!(pointer(&response), at, "{field} {value}");
    }
    assert_eq!(gateway.admin("POST", "/api/draws", &lottery()).status, 201);
    let again = gateway.admin("POST", "/api/draws", &lottery());
    assert_eq!((again.status, slug(&again).as_str()), (409, "conflict"));
    let list = body(&gateway.admin("GET", "/api/draws", &Value::Null));
    assert_eq!(
        (&list["draws"][0]["id"], &list["nextCursor"]),
        (&json!("d"), &Value::Null)
    );
}

#[test]
fn pages_of_draws_follow_one_another() {
    let gateway = Gateway::new();
    for id in ["a", "b", "c"] {
        gateway.admin("POST", "/api/draws", &with(&[("id", json!(id))]));
    }
    let page =
        |cursor: &str| body(&gateway.admin("GET", &format!("/api/draws?limit=2{cursor}"), &Value::Null));
    let (first, second) = (page(""), page("&cursor=b"));
    assert_eq!(
        (&first["draws"][1]["id"], &first["nextCursor"]),
        (&json!("b"), &json!("b"))
    );
    assert_eq!(
        (&second["draws"][0]["id"], &second["nextCursor"]),
        (&json!("c"), &Value::Null)
    );
}

/// The checks of a proof that do not hold.
#[track_caller]
fn failing(document: &Value, commitment: Option<&str>) -> Vec<String> {
    let report = verify(document.to_string().as_bytes(), commitment).unwrap();
    let checks = report.checks.into_iter().filter(|check| !check.holds);
    checks.map(|check| check.what).collect()
}

#[test]
fn a_draw_is_drawn_by_itself_and_everybody_can_check_it() {
    let gateway = Gateway::with_draw(&with(&[("perUser", json!(3))]));
    let commitment = gateway.the_draw()["commitment"].as_str().unwrap().to_owned();
    for n in 0..40 {
        assert_eq!(gateway.enter(&format!("user-{}", n % 20), "").status, 201);
    }
    gateway.maintained();
    assert_eq!(gateway.the_draw()["state"], "open");
    gateway.store.set_now(CLOSE);
    gateway.maintained();
    let draw = gateway.the_draw();
    assert_eq!((&draw["state"], &draw["entries"]), (&json!("drawn"), &json!(40)));
    assert_eq!(
        draw["prizes"][0],
        json!({"matches": 3, "name": "car", "quantity": 1, "winners": 1})
    );

    let (mut cars, mut books) = (0, 0);
    for n in 0..20 {
        let user = format!("user-{n}");
        for entry in body(&gateway.of(&user, ""))["entries"].as_array().unwrap() {
            let winning = draw["winningWords"].as_array().unwrap();
            let shared = entry["words"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|word| winning.contains(word))
                .count();
            assert_eq!(entry["matches"], shared);
            let is_drawn = entry["sequence"] == draw["winner"]["sequence"];
            assert_eq!(entry["prize"] == "car", is_drawn, "{entry}");
            cars += usize::from(is_drawn);
            books += usize::from(entry["prize"] == "book");
        }
        let proof = body(&gateway.of(&user, "/proof"));
        assert_eq!(failing(&proof, Some(&commitment)), Vec::<String>::new());
        assert_eq!(failing(&proof, Some(&"0".repeat(64))).len(), 1);
    }
    assert_eq!((cars, &draw["prizes"][1]["winners"]), (1, &json!(books)));

    let messages = gateway.draw_messages();
    let outcomes: Vec<_> = messages
        .iter()
        .filter(|message| message.kind == "draw.drawn")
        .collect();
    assert_eq!((outcomes.len(), messages.len()), (1, 41));
    let data: Value = serde_json::from_slice(&outcomes[0].payload).unwrap();
    assert_eq!(
        (&data["seed"], &data["root"], &data["winner"]["words"]),
        (&draw["seed"], &draw["root"], &draw["winningWords"])
    );
    // What is drawn stays so.
    assert_eq!(body(&gateway.draw_now(&Value::Null)), draw);
    assert_eq!(gateway.draw_now(&json!({"beacon": "x"})).status, 409);
    // Nothing is left over but what is told.
    assert_eq!(ready(gateway.store.scan("seed/", None, 9)).unwrap(), []);
    assert_eq!(ready(gateway.store.scan("undrawn/", None, 9)).unwrap(), []);
    assert_eq!(ready(gateway.store.scan("tally/", None, 9)).unwrap(), []);
}

#[test]
fn a_draw_can_be_closed_early_and_then_takes_no_entry() {
    let gateway = Gateway::with_draw(&lottery());
    gateway.enter("ann", "");
    let drawn = gateway.draw_now(&Value::Null);
    assert_eq!((drawn.status, &body(&drawn)["state"]), (200, &json!("drawn")));
    let late = gateway.enter("bob", "");
    assert_eq!((late.status, slug(&late).as_str()), (403, "ended"));
    assert_eq!(gateway.the_draw()["winner"]["sequence"], 1);
}

#[test]
fn a_draw_without_entries_is_void() {
    let gateway = Gateway::with_draw(&lottery());
    let drawn = body(&gateway.draw_now(&Value::Null));
    assert_eq!(
        (&drawn["state"], &drawn["winningWords"], &drawn["root"]),
        (&json!("void"), &Value::Null, &Value::Null)
    );
    let seed = merkle::parse(drawn["seed"].as_str().unwrap()).unwrap();
    assert_eq!(seed::commitment(&seed), drawn["commitment"]);
    assert_eq!(gateway.draw_messages()[0].kind, "draw.void");
    assert_eq!(gateway.of("ann", "/proof").status, 409);
}

#[test]
fn a_draw_with_an_announced_beacon_waits_for_it() {
    let gateway = Gateway::with_draw(&with(&[("beaconSource", json!("the index of the day after"))]));
    for n in 0..9 {
        gateway.enter(&format!("user-{n}"), "");
    }
    let early = gateway.draw_now(&json!({"beacon": "1"}));
    assert_eq!(
        (early.status, &gateway.the_draw()["state"]),
        (409, &json!("open"))
    );
    gateway.store.set_now(CLOSE);
    gateway.maintained();
    let closed = gateway.the_draw();
    assert_eq!(
        (&closed["state"], &closed["seed"]),
        (&json!("closed"), &Value::Null)
    );
    assert!(closed["root"].is_string());
    // That the entries are in is proved before the beacon is known.
    let proof = body(&gateway.of("user-3", "/proof"));
    assert_eq!(
        (failing(&proof, None), &proof["winner"]),
        (Vec::new(), &Value::Null)
    );
    let mut early = proof.clone();
    early["draw"]["winningWords"] = json!([1, 2, 3]);
    assert_eq!(failing(&early, None).len(), 1);
    assert_eq!(body(&gateway.draw_now(&Value::Null))["state"], "closed");
    let drawn = body(&gateway.draw_now(&json!({"beacon": "18391.44"})));
    assert_eq!(
        (&drawn["state"], &drawn["beacon"], &drawn["root"]),
        (&json!("drawn"), &json!("18391.44"), &closed["root"])
    );
    assert_eq!(body(&gateway.draw_now(&json!({"beacon": "18391.44"}))), drawn);
    assert_eq!(gateway.draw_now(&json!({"beacon": "18391.45"})).status, 409);
    let mut proof = body(&gateway.of("user-3", "/proof"));
    assert_eq!(failing(&proof, None), Vec::<String>::new());
    // Another beacon leads elsewhere, but for one in nine.
    let elsewhere = (0..40).filter(|n| {
        proof["draw"]["beacon"] = json!(format!("other {n}"));
        !failing(&proof, None).is_empty()
    });
    assert!(elsewhere.count() > 20);
}

#[test]
fn a_beacon_that_was_not_announced_counts_too() {
    let gateway = Gateway::with_draw(&lottery());
    gateway.enter("ann", "");
    let drawn = body(&gateway.draw_now(&json!({"beacon": "heads"})));
    assert_eq!(
        (&drawn["state"], &drawn["beacon"]),
        (&json!("drawn"), &json!("heads"))
    );
    let proof = body(&gateway.of("ann", "/proof"));
    let report = verify(proof.to_string().as_bytes(), None).unwrap();
    assert!(
        report.holds() && report.notes.iter().any(|note| note.contains("was not announced")),
        "{report:?}"
    );
    for beacon in [json!(""), json!("x".repeat(257)), json!("a\nb")] {
        assert_eq!(
            pointer(&gateway.draw_now(&json!({ "beacon": beacon }))),
            "#/beacon"
        );
    }
}

#[test]
fn an_overdue_draw_is_drawn_by_who_reads_it() {
    let gateway = Gateway::with_draw(&lottery());
    gateway.enter("ann", "");
    gateway.store.set_now(CLOSE + 2 * SECOND);
    assert_eq!(gateway.the_draw()["root"], Value::Null);
    gateway.store.set_now(CLOSE + 3 * SECOND);
    let states: Vec<Value> = (0..6).map(|_| gateway.the_draw()["state"].clone()).collect();
    assert_eq!(states[5], "drawn", "{states:?}");
}

#[test]
fn a_repetition_with_a_key_is_answered_as_the_first_was() {
    let gateway = Gateway::with_draw(&lottery());
    let enter = |body: &str| {
        let headers = [("x-user-id", "ann"), ("idempotency-key", "k")];
        gateway.call("POST", "/api/draws/d/entries", &headers, body)
    };
    let first = enter("");
    gateway.store.set_now(CLOSE + SECOND);
    gateway.maintained();
    assert_eq!(gateway.the_draw()["state"], "drawn");
    let second = enter("");
    assert_eq!((second.status, body(&second)), (201, body(&first)));
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(enter(r#"{"words":[1,2,3]}"#).status, 422);
}

#[test]
fn entries_of_others_are_not_told() {
    let gateway = Gateway::with_draw(&lottery());
    gateway.enter("ann", "");
    gateway.draw_now(&Value::Null);
    for tail in ["", "/proof"] {
        let path = format!("/api/draws/d/entries/ann{tail}");
        assert_eq!(
            gateway.call("GET", &path, &[("x-user-id", "bob")], "").status,
            403
        );
        assert_eq!(gateway.call("GET", &path, &[], "").status, 401);
        assert_eq!(gateway.admin("GET", &path, &Value::Null).status, 200);
    }
    // The winner is Ann, and neither the draw nor another user's proof says so.
    let public = [gateway.the_draw(), body(&gateway.of("bob", "/proof"))];
    let id = body(&gateway.of("ann", ""))["entries"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for document in public {
        let document = document.to_string();
        assert!(!document.contains("ann") && !document.contains(&id), "{document}");
    }
}

#[test]
fn a_tree_of_many_pages_is_built_ahead_and_proves_every_entry() {
    const ENTRIES: u64 = 17 * drawing::PAGE + 3;
    let gateway = Gateway::with_draw(&with(&[("perUser", json!(100))]));
    for n in 0..ENTRIES {
        assert_eq!(gateway.enter(&format!("u{}", n % 400), "").status, 201);
    }
    // Full pages are hashed while it is open, sixteen at a time.
    gateway.maintained();
    let (roots, _) = ready(drawing::tree(&gateway.store, "d")).unwrap();
    assert_eq!((roots.len(), &gateway.the_draw()["state"]), (16, &json!("open")));
    let drawn = body(&gateway.draw_now(&Value::Null));
    assert_eq!(
        (&drawn["state"], &drawn["entries"]),
        (&json!("drawn"), &json!(ENTRIES))
    );
    // The root as anybody computes it from all leaves.
    let live = ready(record::load(&gateway.store, "d")).unwrap().unwrap();
    let mut leaves = std::collections::BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let items = ready(gateway.store.scan("entry/d/", after.as_deref(), 1_000)).unwrap();
        let Some(last) = items.last() else { break };
        after = Some(last.key.clone());
        for item in &items {
            let entry: record::Entry = serde_json::from_slice(&item.entry.value).unwrap();
            leaves.insert(entry.sequence.known().unwrap(), live.draw.leaf(&entry));
        }
    }
    let leaves: Vec<_> = leaves.into_values().collect();
    assert_eq!(leaves.len() as u64, ENTRIES);
    assert_eq!(drawn["root"], tollgate_api::ids::hex(&merkle::root(&leaves)));
    for user in 0..400 {
        let proof = body(&gateway.of(&format!("u{user}"), "/proof"));
        assert_eq!(failing(&proof, None), Vec::<String>::new());
    }
}

#[test]
fn a_proof_fails_after_any_change() {
    let gateway = Gateway::with_draw(&with(&[("perUser", json!(5))]));
    for n in 0..23 {
        gateway.enter(&format!("user-{}", n % 10), "");
    }
    gateway.draw_now(&Value::Null);
    let proof = gateway.of("user-4", "/proof");
    let good = body(&proof);
    assert_eq!(failing(&good, None), Vec::<String>::new());
    // Every bit of every hash, and every word and number that counts.
    let mut changed = 0;
    let mut hashes: Vec<String> = [
        "/draw/commitment",
        "/draw/root",
        "/draw/seed",
        "/draw/winner/owner",
        "/winner/owner",
        "/winner/leaf",
        "/last/owner",
        "/last/leaf",
        "/entries/0/leaf",
        "/entries/0/owner",
        "/entries/1/leaf",
    ]
    .map(str::to_owned)
    .into();
    for list in ["/winner/path", "/last/path", "/entries/0/path", "/entries/1/path"] {
        let count = good.pointer(list).unwrap().as_array().unwrap().len();
        hashes.extend((0..count).map(|at| format!("{list}/{at}")));
    }
    for at in &hashes {
        let hash = merkle::parse(good.pointer(at).unwrap().as_str().unwrap()).unwrap();
        for bit in 0..256 {
            let mut other = hash;
            other[bit / 8] ^= 1 << (bit % 8);
            let mut bad = good.clone();
            *bad.pointer_mut(at).unwrap() = tollgate_api::ids::hex(&other).into();
            assert!(!failing(&bad, None).is_empty(), "{at}, bit {bit}");
            changed += 1;
        }
    }
    assert_eq!(changed, hashes.len() * 256);
    for (at, value) in [
        ("/draw/entries", json!(24)),
        ("/draw/id", json!("e")),
        ("/draw/beacon", json!("x")),
        ("/draw/winningWords", json!([1, 2, 4])),
        ("/draw/winner/sequence", json!(99)),
        ("/winner", Value::Null),
        ("/last", Value::Null),
        ("/last", good["winner"].clone()),
        ("/winner/words", json!([1, 2, 4])),
        ("/winner/sequence", json!(99)),
        ("/entries/0/sequence", json!(0)),
        ("/entries/0/sequence", json!(u64::MAX)),
        ("/entries/0/words", json!([])),
        ("/entries/0/user", json!("user-5")),
        ("/entries/0/id", json!("x")),
        ("/entries/0/path", json!([])),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value;
        assert!(!failing(&bad, None).is_empty(), "{at}");
    }
    // Nor can the number of entries, by which the winner is chosen, be another one.
    for entries in (0..200).filter(|entries| *entries != 23) {
        let mut bad = good.clone();
        bad["draw"]["entries"] = json!(entries);
        bad["last"]["sequence"] = json!(entries);
        assert!(
            failing(&bad, None)
                .iter()
                .any(|what| what.contains("none behind it")),
            "{entries}"
        );
        bad["last"] = good["last"].clone();
        assert!(
            failing(&bad, None)
                .iter()
                .any(|what| what.contains("none behind it")),
            "{entries}"
        );
    }
    assert!(verify(b"{}", None).is_err());
}

#[test]
fn nothing_before_the_draw_depends_on_the_seed() {
    // Two gateways that differ in nothing but the seed: the only randomness that is drawn while a draw is made.
    let story = |first: u128| {
        let gateway = Gateway::new();
        gateway.count.set(first);
        let mut told = vec![gateway.admin("POST", "/api/draws", &lottery())];
        gateway.count.set(1_000);
        for user in ["ann", "bob", "cid"] {
            told.push(gateway.enter(user, ""));
        }
        gateway.maintained();
        told.push(gateway.of("ann", ""));
        told.push(gateway.call("GET", "/api/draws/d", &[], ""));
        told.push(gateway.admin("GET", "/api/draws", &Value::Null));
        let seed = ready(gateway.store.scan("seed/", None, 9)).unwrap()[0]
            .entry
            .value
            .clone();
        let commitment = gateway.the_draw()["commitment"].as_str().unwrap().to_owned();
        let messages = gateway
            .draw_messages()
            .into_iter()
            .map(|message| String::from_utf8(message.payload).unwrap());
        let told: Vec<String> = told.iter().map(text).chain(messages).collect();
        for one in &told {
            assert!(!one.contains(&tollgate_api::ids::hex(&seed)), "{one}");
        }
        let told = told.iter().map(|one| one.replace(&commitment, "…"));
        (seed, told.collect::<Vec<_>>())
    };
    let ((one, told), (other, same)) = (story(10), story(20));
    assert_ne!(one, other);
    assert_eq!(told, same);
}

#[test]
fn a_seed_that_was_changed_draws_nothing() {
    let gateway = Gateway::with_draw(&lottery());
    gateway.enter("ann", "");
    let other = Commit {
        partition: "draw/d".into(),
        mutations: vec![Mutation::Set {
            key: "seed/d".into(),
            value: literal([7; 32]),
            expires: None,
        }],
        ..Commit::default()
    };
    gateway.store.commit_now(other).unwrap();
    assert_eq!(gateway.draw_now(&Value::Null).status, 500);
    assert_eq!(gateway.the_draw()["state"], "closed");
}
