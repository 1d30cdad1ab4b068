use super::ring::{PREFIX, Ring};
use super::*;
use tollgate_store::commit::Mutation;
use tollgate_store::memory::{InMemoryStore, START};

const MINUTE: u64 = 60_000;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn new(now: u64) -> Arc<Ranking> {
    Arc::new(Ranking::new(now))
}

fn click(name: &str, count: i64) -> Commit {
    Commit {
        mutations: vec![
            Mutation::Add {
                key: format!("visits/{name}"),
                delta: count,
                min: None,
                max: None,
            },
            Mutation::Add {
                key: "remaining/sale".into(),
                delta: -1,
                min: None,
                max: None,
            },
        ],
        ..Commit::default()
    }
}

fn ranked(ranking: &Arc<Ranking>, window: Window, now: u64) -> (Ranked, u64) {
    block_on(ranking.ranked(window, now))
}

fn shown(ranking: &Arc<Ranking>, window: Window, now: u64) -> Vec<(String, u64)> {
    ranked(ranking, window, now).0.to_vec()
}

fn named(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[test]
fn links_are_ranked_by_visits_and_nothing_else_is_counted() {
    let ranking = new(START);
    ranking.saw(&[click("a/1", 2), click("b/2", 5), click("a/1", 1)]);
    ranking.saw(&[click("c/3", 3)]);
    ranking.count(START);
    for window in Window::ALL {
        assert_eq!(
            shown(&ranking, window, START),
            named(&[("b/2", 5), ("a/1", 3), ("c/3", 3)])
        );
    }
}

#[test]
fn a_visit_leaves_each_window_when_it_is_over() {
    let ranking = new(START);
    ranking.saw(&[click("old/1", 9)]);
    ranking.count(START);
    let at = |minutes: u64| START + minutes * MINUTE;
    ranking.saw(&[click("new/2", 1)]);
    ranking.count(at(59));
    assert_eq!(
        shown(&ranking, Window::Hour, at(59)),
        named(&[("old/1", 9), ("new/2", 1)])
    );
    ranking.count(at(61));
    assert_eq!(shown(&ranking, Window::Hour, at(61)), named(&[("new/2", 1)]));
    assert_eq!(
        shown(&ranking, Window::Day, at(61)),
        named(&[("old/1", 9), ("new/2", 1)])
    );
    ranking.count(at(24 * 60 + 59 + 31));
    assert_eq!(shown(&ranking, Window::Day, at(0)), []);
    assert_eq!(shown(&ranking, Window::Week, at(0)).len(), 2);
    ranking.count(at(8 * 24 * 60));
    assert_eq!(shown(&ranking, Window::Week, at(0)), []);
}

#[test]
fn a_clock_that_goes_back_loses_nothing() {
    let mut ring = Ring::new(Window::Hour);
    ring.turn(START + 10 * MINUTE);
    ring.add("a", 1);
    ring.turn(START);
    ring.add("a", 1);
    assert_eq!(ring.ranked(9), named(&[("a", 2)]));
}

#[test]
fn a_restart_goes_on_from_what_was_kept() {
    let store = InMemoryStore::new();
    let ranking = new(START);
    ranking.count(START);
    ranking.saw(&[click("a/1", 4)]);
    block_on(ranking.keep(&store, START));
    ranking.saw(&[click("a/1", 1), click("b/2", 2)]);
    block_on(ranking.keep(&store, START + 5 * MINUTE));
    let kept = block_on(store.scan(PREFIX, None, 99)).unwrap();
    assert_eq!(kept.len(), 4, "two minutes, half an hour, two hours");
    block_on(ranking.keep(&store, START + 5 * MINUTE));
    let now = START + 6 * MINUTE;
    let again = new(now);
    block_on(again.resume(&store, now)).unwrap();
    for window in Window::ALL {
        assert_eq!(shown(&again, window, now), named(&[("a/1", 5), ("b/2", 2)]));
    }
    assert_eq!(ranked(&again, Window::Day, now).1, START);
    assert_eq!(
        ranked(&again, Window::Hour, START + 90 * MINUTE).1,
        START + 30 * MINUTE
    );
    // It is added to, and what is too old is left.
    again.saw(&[click("b/2", 9)]);
    again.count(now);
    assert_eq!(shown(&again, Window::Day, now), named(&[("b/2", 11), ("a/1", 5)]));
    let late = new(START + 70 * MINUTE);
    block_on(late.resume(&store, START + 70 * MINUTE)).unwrap();
    assert_eq!(shown(&late, Window::Hour, now), []);
    store.set_now(START + 9 * 24 * 60 * MINUTE);
    assert_eq!(
        block_on(store.scan(PREFIX, None, 99)).unwrap(),
        [],
        "kept for as long as it counts"
    );
}

#[test]
fn what_is_kept_and_damaged_is_left_out() {
    let store = InMemoryStore::new();
    let set = |key: &str, value: &[u8]| Mutation::Set {
        key: key.to_owned(),
        value: tollgate_store::commit::literal(value),
        expires: None,
    };
    let number = START / MINUTE;
    let commit = Commit {
        partition: PREFIX.into(),
        mutations: vec![
            set(&format!("{PREFIX}1h/{number:012}"), b"12345678damaged"),
            set(&format!("{PREFIX}1h/x"), b""),
            set(&format!("{PREFIX}9y/000000000001"), b"x"),
        ],
        ..Commit::default()
    };
    block_on(store.commit(commit)).unwrap();
    let ranking = new(START);
    block_on(ranking.resume(&store, START)).unwrap();
    assert_eq!(shown(&ranking, Window::Hour, START), []);
}

#[test]
fn the_most_visited_are_found_among_more_links_than_a_bucket_holds() {
    let ranking = new(START);
    let all: Vec<Commit> = (0..20_000).map(|n| click(&format!("few{n}/x"), 1)).collect();
    for (round, some) in all.chunks(1_000).enumerate() {
        ranking.saw(some);
        ranking.saw(&[click("most/1", 100), click("more/2", 60)]);
        ranking.count(START + round as u64);
    }
    let shown = shown(&ranking, Window::Hour, START);
    assert!(shown.len() <= MAX_RANKED);
    let names: Vec<&str> = shown.iter().take(2).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["most/1", "more/2"]);
    assert!(shown[0].1 >= 2_000 && shown[0].1 < 2_200, "{}", shown[0].1);
}

#[test]
fn what_waits_is_bounded() {
    let ranking = new(START);
    let all: Vec<Commit> = (0..MAX_WAITING + 5)
        .map(|n| click(&format!("l{n}/x"), 2))
        .collect();
    ranking.saw(&all);
    assert_eq!(
        (lock(&ranking.waiting).len(), ranking.dropped()),
        (MAX_WAITING, 10)
    );
    ranking.count(START);
    assert_eq!(lock(&ranking.waiting).len(), 0);
}

#[test]
fn what_the_store_does_not_take_is_kept_the_next_time() {
    let store = InMemoryStore::new();
    let ranking = new(START);
    ranking.saw(&[click("a/1", 4)]);
    store.refuse_commits(true);
    block_on(ranking.keep(&store, START));
    store.refuse_commits(false);
    assert_eq!(block_on(store.scan(PREFIX, None, 99)).unwrap(), []);
    block_on(ranking.keep(&store, START));
    let again = new(START);
    block_on(again.resume(&store, START)).unwrap();
    assert_eq!(shown(&again, Window::Hour, START), named(&[("a/1", 4)]));
}

#[test]
fn nobody_ranks_anew_what_has_not_changed() {
    let ranking = new(START);
    ranking.saw(&[click("a/1", 4)]);
    ranking.count(START);
    let (first, _) = ranked(&ranking, Window::Hour, START);
    ranking.count(START + 1);
    let (second, _) = ranked(&ranking, Window::Hour, START);
    assert!(Arc::ptr_eq(&first, &second));
    ranking.saw(&[click("a/1", 1)]);
    ranking.count(START + 2);
    assert_eq!(shown(&ranking, Window::Hour, START), named(&[("a/1", 5)]));
}
