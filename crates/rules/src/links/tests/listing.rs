use super::*;
use crate::links::MAX_PAGE;

fn codes(page: &Value) -> Vec<&str> {
    page["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["code"].as_str().unwrap())
        .collect()
}

/// Every link of a list, over all its pages, which may be empty.
fn all(gateway: &Gateway, key: &str, query: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let response = gateway.with(key, "GET", &format!("/api/links?{query}{cursor}"), &Value::Null);
        assert_eq!(response.status, 200, "{}", text(&response));
        let page = json_of(&response);
        found.extend(codes(&page).into_iter().map(str::to_owned));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Links `l00`, `l01`, … of a member, a second apart.
fn filled(count: usize) -> (Gateway, String) {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    for n in 0..count {
        let tag = if n % 3 == 0 { "third" } else { "other" };
        let body = json!({"url": format!("https://example.com/{n}"), "code": format!("l{n:02}"), "tags": [tag],
            "title": format!("Title {n}")});
        assert_eq!(gateway.with(&member, "POST", "/api/links", &body).status, 201);
        gateway.pass(SECOND);
    }
    (gateway, member)
}

#[test]
fn a_member_sees_its_own_links_newest_first_on_every_page() {
    let (gateway, member) = filled(7);
    gateway.link("admins", json!({}));
    let newest_first: Vec<String> = (0..7).rev().map(|n| format!("l{n:02}")).collect();
    for limit in [1, 2, 3, 6, 7, 8, MAX_PAGE] {
        assert_eq!(
            all(&gateway, &member, &format!("limit={limit}")),
            newest_first,
            "{limit}"
        );
    }
    // A full last page knows that it is the last.
    let page = json_of(&gateway.with(&member, "GET", "/api/links?limit=7", &Value::Null));
    assert_eq!(page["nextCursor"], Value::Null);
}

#[test]
fn an_admin_sees_the_links_of_everybody_or_of_one() {
    let (gateway, member) = filled(3);
    gateway.link("admins", json!({}));
    gateway.call(
        "POST",
        "/api/links",
        &[("x-client-id", "a/b")],
        &json!({"url": "https://example.com", "code": "anon"}),
    );
    assert_eq!(
        all(&gateway, ADMIN, "limit=2"),
        ["admins", "anon", "l00", "l01", "l02"]
    );
    let owner = gateway.read("l00")["owner"].as_str().unwrap().to_owned();
    assert_eq!(
        all(&gateway, ADMIN, &format!("owner={owner}")),
        ["l02", "l01", "l00"]
    );
    assert_eq!(all(&gateway, ADMIN, "owner=client%3Aa%2Fb"), ["anon"]);
    assert_eq!(all(&gateway, &member, &format!("owner={owner}")).len(), 3);
    let own = gateway.read("admins")["owner"].as_str().unwrap().to_owned();
    let path = format!("/api/links?owner={own}");
    assert_eq!(gateway.with(&member, "GET", &path, &Value::Null).status, 403);
}

#[test]
fn lists_are_filtered_by_tag_and_text() {
    let (gateway, member) = filled(7);
    for key in [&*member, ADMIN] {
        let sorted = |query: &str| {
            let mut found = all(&gateway, key, query);
            found.sort();
            found
        };
        assert_eq!(sorted("tag=third&limit=1"), ["l00", "l03", "l06"]);
        assert_eq!(sorted("search=TITLE+5"), ["l05"]);
        assert_eq!(sorted("search=example.com%2F6&tag=third"), ["l06"]);
        assert_eq!(sorted("search=L02"), ["l02"]);
        assert!(sorted("search=nothing").is_empty());
    }
}

#[test]
fn lists_are_sorted_by_visits_on_demand() {
    let (gateway, member) = filled(4);
    for (code, visits) in [("l00", 2), ("l01", 5), ("l03", 1)] {
        (0..visits).for_each(|_| drop(gateway.visit(&format!("/{code}"))));
    }
    for key in [&*member, ADMIN] {
        for limit in [1, 3, 4, 9] {
            let query = format!("sort=-visits&limit={limit}");
            assert_eq!(all(&gateway, key, &query), ["l01", "l00", "l03", "l02"]);
        }
    }
    let page = json_of(&gateway.admin("GET", "/api/links?sort=-visits&limit=1", &Value::Null));
    assert_eq!(page["links"][0]["visits"], 5);
}

#[test]
fn a_list_is_for_keys_and_its_fields_are_checked() {
    let (gateway, member) = filled(1);
    assert_eq!(
        gateway
            .call("GET", "/api/links", &[("x-client-id", "me")], &Value::Null)
            .status,
        401
    );
    let campaigns = gateway.member(Scope::Campaigns);
    assert_eq!(
        gateway.with(&campaigns, "GET", "/api/links", &Value::Null).status,
        403
    );
    let foreign = base64_of("owner/key:other/t/x");
    for (name, query) in [
        ("limit", "limit=0".to_owned()),
        ("limit", "limit=501".to_owned()),
        ("sort", "sort=url".to_owned()),
        ("page", "page=2".to_owned()),
        ("cursor", "cursor=!".to_owned()),
        ("cursor", format!("cursor={foreign}")),
        ("cursor", format!("sort=-visits&cursor={foreign}")),
        ("search", format!("search={}", "x".repeat(300))),
    ] {
        let response = gateway.with(&member, "GET", &format!("/api/links?{query}"), &Value::Null);
        assert_eq!(pointer(&response), format!("query:{name}"), "{query}");
    }
}

#[test]
fn a_page_by_visits_neither_repeats_nor_skips_what_did_not_change() {
    let (gateway, member) = filled(9);
    for (n, code) in (0..9).map(|n| (n, format!("/l{n:02}"))) {
        for _ in 0..n / 2 {
            gateway.visit(&code);
        }
    }
    let page = |cursor: &str| {
        let path = format!("/api/links?sort=-visits&limit=3{cursor}");
        let page = json_of(&gateway.with(&member, "GET", &path, &Value::Null));
        let cursor = page["nextCursor"].as_str().map(|next| format!("&cursor={next}"));
        let codes: Vec<String> = codes(&page).into_iter().map(str::to_owned).collect();
        (codes, cursor)
    };
    let (first, cursor) = page("");
    assert_eq!(first, ["l08", "l06", "l07"]);
    // One that was still to come is now the first; one that was there is deleted; a new one has no visits.
    for _ in 0..9 {
        gateway.visit("/l00");
    }
    gateway.with(&member, "DELETE", "/api/links/l08", &Value::Null);
    gateway.with(
        &member,
        "POST",
        "/api/links",
        &json!({"url": "https://example.com/n", "code": "new"}),
    );
    let (mut rest, mut next) = (Vec::new(), cursor);
    while let Some(cursor) = next {
        let (codes, cursor) = page(&cursor);
        rest.extend(codes);
        next = cursor;
    }
    assert_eq!(rest, ["l04", "l05", "l02", "l03", "l01", "new"]);
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn entries_left_over_from_other_links_are_skipped() {
    let (gateway, member) = filled(3);
    let admin_takes = |code: &str| gateway.link(code, json!({}));
    let index = ready(gateway.store.scan("owner/", None, 100)).unwrap();
    for code in ["l00", "l01", "l02"] {
        gateway.with(&member, "DELETE", &format!("/api/links/{code}"), &Value::Null);
    }
    // As if the index had not been cleaned up.
    let mutations = index
        .into_iter()
        .map(|item| tollgate_store::commit::Mutation::Set {
            key: item.key,
            value: tollgate_store::commit::literal(item.entry.value),
            expires: None,
        });
    let commit = tollgate_store::commit::Commit {
        mutations: mutations.collect(),
        ..Default::default()
    };
    ready(gateway.store.commit(commit)).unwrap();
    admin_takes("l00");
    let body = json!({"url": "https://example.com/again", "code": "l01"});
    gateway.with(&member, "POST", "/api/links", &body);
    assert_eq!(all(&gateway, &member, "limit=1"), ["l01"]);
}

#[test]
fn a_page_looks_at_a_bounded_number_of_links_and_goes_on() {
    let gateway = Gateway::new();
    for n in 0..1_005 {
        gateway.link(
            &format!("c{n:04}"),
            json!({"tags": [if n == 1_003 { "needle" } else { "hay" }]}),
        );
    }
    let page = json_of(&gateway.admin("GET", "/api/links?tag=needle", &Value::Null));
    assert!(codes(&page).is_empty() && page["nextCursor"].is_string());
    assert_eq!(all(&gateway, ADMIN, "tag=needle"), ["c1003"]);
    assert_eq!(
        pointer(&gateway.admin("GET", "/api/links?sort=-visits", &Value::Null)),
        "query:sort"
    );
}
