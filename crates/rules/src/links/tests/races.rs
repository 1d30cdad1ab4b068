//! What happens between a read and a commit: other requests, run at every point where a handler waits.

use std::cell::RefCell;

use super::super::stats;
use super::meddled::{Meddled, Meddler};
use super::*;
use tollgate_store::commit::StoreError;

/// The answer to a call before whose commits to `partition` the meddlers run, last first.
fn meddled<'a>(
    gateway: &'a Gateway,
    partition: &'static str,
    meddlers: Vec<Meddler<'a>>,
    request: &Request,
) -> Response {
    let store = Meddled::new(gateway, partition, meddlers);
    let response = ready(gateway.answer(&store, request));
    assert!(store.meddlers.borrow().is_empty(), "every meddler ran");
    response
}

fn as_admin(method: &str, path: &str, body: &Value) -> Request {
    request(
        method,
        path,
        &[("authorization", &format!("Bearer {ADMIN}"))],
        body,
    )
}

fn get(path: &str) -> Request {
    request("GET", path, &[], &Value::Null)
}

#[test]
fn the_last_visit_goes_to_one_of_two() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 1}));
    let other = |gateway: &Gateway| assert_eq!(gateway.visit("/abc").status, 302);
    let response = meddled(&gateway, "link/abc", vec![Box::new(other)], &get("/abc"));
    assert_eq!((response.status, response.header("location")), (410, None));
    assert_eq!(gateway.visits("abc"), 1);
}

#[test]
fn a_visit_is_never_granted_by_what_a_link_said_before_an_edit() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 5}));
    let edit = |patch: Value| {
        move |gateway: &Gateway| {
            assert_eq!(gateway.admin("PATCH", "/api/links/abc", &patch).status, 200);
        }
    };
    let moved = edit(json!({"url": "https://example.com/moved"}));
    let response = meddled(&gateway, "link/abc", vec![Box::new(moved)], &get("/abc"));
    assert_eq!(response.header("location"), Some("https://example.com/moved"));
    let archived = edit(json!({"archived": true}));
    assert_eq!(
        meddled(&gateway, "link/abc", vec![Box::new(archived)], &get("/abc")).status,
        410
    );
    assert_eq!(gateway.visits("abc"), 1);
    edit(json!({"archived": false}))(&gateway);
    let deleted = |gateway: &Gateway| drop(gateway.admin("DELETE", "/api/links/abc", &Value::Null));
    assert_eq!(
        meddled(&gateway, "link/abc", vec![Box::new(deleted)], &get("/abc")).status,
        404
    );
    assert_eq!(ready(gateway.store.scan("visits/", None, 10)).unwrap(), []);
}

#[test]
fn a_bound_and_a_count_of_different_moments_exhaust_no_link() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 3}));
    for _ in 0..2 {
        gateway.visit("/abc");
    }
    let store = Meddled::new(&gateway, "", vec![]);
    let raise = |gateway: &Gateway| {
        let raised = gateway.admin("PATCH", "/api/links/abc", &json!({"maxVisits": 4}));
        assert_eq!((raised.status, gateway.visit("/abc").status), (200, 302));
    };
    store.between_reads.replace(Some(Box::new(raise)));
    assert_eq!(ready(gateway.answer(&store, &get("/abc"))).status, 302);
    assert_eq!(gateway.visits("abc"), 4);
    assert_eq!(gateway.visit("/abc").status, 410);
}

#[test]
fn the_stores_clock_decides_whether_a_numbered_link_is_over() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 5, "expiresAt": at(SECOND)}));
    let late = |gateway: &Gateway| gateway.pass(SECOND);
    let response = meddled(&gateway, "link/abc", vec![Box::new(late)], &get("/abc"));
    assert_eq!(
        (response.status, json_of(&response)["state"].clone()),
        (410, json!("expired"))
    );
}

#[test]
fn a_lost_answer_grants_no_visit() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 1}));
    let lose = |gateway: &Gateway| gateway.store.fail_next(StoreError::Unknown("lost".into()));
    let response = meddled(&gateway, "link/abc", vec![Box::new(lose)], &get("/abc"));
    assert_eq!((response.status, response.header("location")), (503, None));
    assert_eq!(
        gateway.visit("/abc").status,
        410,
        "a visit may be lost, never granted twice"
    );
}

#[test]
fn two_edits_at_once_both_happen() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let other =
        |gateway: &Gateway| drop(gateway.admin("PATCH", "/api/links/abc", &json!({"title": "theirs"})));
    let request = as_admin("PATCH", "/api/links/abc", &json!({"externalId": "ours"}));
    assert_eq!(
        meddled(&gateway, "link/abc", vec![Box::new(other)], &request).status,
        200
    );
    let link = gateway.read("abc");
    assert_eq!(
        (link["title"].as_str(), link["externalId"].as_str()),
        (Some("theirs"), Some("ours"))
    );
}

#[test]
fn an_edit_that_always_loses_gives_up() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let other = |n: usize| {
        move |gateway: &Gateway| {
            drop(gateway.admin("PATCH", "/api/links/abc", &json!({"title": n.to_string()})))
        }
    };
    let meddlers: Vec<Meddler<'_>> = (0..super::super::record::MAX_RACES)
        .map(|n| Box::new(other(n)) as Meddler<'_>)
        .collect();
    let request = as_admin("PATCH", "/api/links/abc", &json!({"externalId": "ours"}));
    let response = meddled(&gateway, "link/abc", meddlers, &request);
    assert_eq!((response.status, kind(&response).as_str()), (409, "conflict"));
    assert_eq!(gateway.read("abc")["externalId"], Value::Null);
}

#[test]
fn a_deletion_spares_a_link_that_somebody_else_made_meanwhile() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let body = json!({"url": "https://example.com/a", "code": "abc"});
    gateway.with(&member, "POST", "/api/links", &body);
    let replaced = |gateway: &Gateway| {
        gateway.admin("DELETE", "/api/links/abc", &Value::Null);
        gateway.link("abc", json!({}));
    };
    let authorization = format!("Bearer {member}");
    let request = request(
        "DELETE",
        "/api/links/abc",
        &[("authorization", &authorization)],
        &Value::Null,
    );
    assert_eq!(
        meddled(&gateway, "link/abc", vec![Box::new(replaced)], &request).status,
        403
    );
    assert_eq!(gateway.visit("/abc").status, 302);
}

#[test]
fn a_custom_code_goes_to_one_of_two() {
    let gateway = Gateway::new();
    let other = |gateway: &Gateway| gateway.link("abc", json!({}));
    let request = as_admin(
        "POST",
        "/api/links",
        &json!({"url": "https://example.com/b", "code": "abc"}),
    );
    assert_eq!(
        meddled(&gateway, "link/abc", vec![Box::new(other)], &request).status,
        409
    );
    assert_eq!(gateway.read("abc")["url"], "https://example.com/landing");
    let listed = json_of(&gateway.admin("GET", "/api/links", &Value::Null));
    assert_eq!(listed["links"].as_array().unwrap().len(), 1);
}

#[test]
fn two_who_ask_for_the_same_url_get_the_same_link() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let owner = "owner/key:".to_owned() + member.split('_').nth(1).unwrap();
    let owner: &'static str = owner.leak();
    let body = json!({"url": "https://example.com/a", "ifExists": "return"});
    let theirs = RefCell::new(Value::Null);
    let authorization = format!("Bearer {member}");
    let request = request("POST", "/api/links", &[("authorization", &authorization)], &body);
    // The other one comes between the look at the index and the reservation.
    let other = |gateway: &Gateway| {
        let response = gateway.with(&member, "POST", "/api/links", &body);
        assert_eq!(response.status, 201);
        *theirs.borrow_mut() = json_of(&response);
    };
    let response = meddled(&gateway, owner, vec![Box::new(other)], &request);
    assert_eq!(
        (response.status, json_of(&response)),
        (200, theirs.borrow().clone())
    );
    let links = ready(gateway.store.scan("link/", None, 10)).unwrap();
    assert_eq!(links.len(), 1);
}

#[test]
fn a_reservation_that_was_given_up_is_taken_up() {
    let gateway = Gateway::new();
    let body = json!({"url": "https://example.com/a", "ifExists": "return"});
    // The first caller reserves, and its store fails before the link is there.
    let fail = |gateway: &Gateway| gateway.store.fail_next(StoreError::Unavailable("down".into()));
    let first = json!({"url": "https://example.com/a", "ifExists": "return", "code": "abc"});
    let request = as_admin("POST", "/api/links", &first);
    assert_eq!(
        meddled(&gateway, "link/abc", vec![Box::new(fail)], &request).status,
        503
    );
    let response = gateway.admin("POST", "/api/links", &body);
    assert_eq!(
        (response.status, json_of(&response)["code"].as_str()),
        (201, Some("abc"))
    );
    assert_eq!(gateway.admin("POST", "/api/links", &body).status, 200);
    let page = json_of(&gateway.admin("GET", "/api/links?owner=key:configured", &Value::Null));
    assert_eq!(page["links"].as_array().unwrap().len(), 1);
}

/// What `GET /api/links` shows a member.
fn listed(gateway: &Gateway, member: &str) -> Vec<String> {
    let page = json_of(&gateway.with(member, "GET", "/api/links", &Value::Null));
    let links = page["links"].as_array().unwrap();
    let code = |link: &Value| link["code"].as_str().unwrap().to_owned();
    links.iter().map(code).collect()
}

#[test]
fn who_loses_a_code_to_itself_in_the_same_millisecond_takes_nothing_back_from_the_winner() {
    for if_exists in ["new", "return"] {
        let gateway = Gateway::new();
        let member = gateway.member(Scope::Links);
        let body = json!({"url": "https://example.com/a", "code": "abc", "ifExists": if_exists});
        let winner = |gateway: &Gateway| {
            assert_eq!(gateway.with(&member, "POST", "/api/links", &body).status, 201);
        };
        let authorization = format!("Bearer {member}");
        let loser = request("POST", "/api/links", &[("authorization", &authorization)], &body);
        let lost = meddled(&gateway, "link/abc", vec![Box::new(winner)], &loser).status;
        assert_eq!(lost, if if_exists == "new" { 409 } else { 200 });
        assert_eq!(listed(&gateway, &member), ["abc"], "{if_exists}");
        let again = json!({"url": "https://example.com/a", "ifExists": "return"});
        let again = gateway.with(&member, "POST", "/api/links", &again);
        assert_eq!(
            (again.status, json_of(&again)["code"].as_str()),
            (200, Some("abc"))
        );
    }
}

#[test]
fn a_deletion_takes_no_entry_of_a_link_that_its_owner_made_again() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let owner = "owner/key:".to_owned() + member.split('_').nth(1).unwrap();
    let body = json!({"url": "https://example.com/a", "code": "abc", "ifExists": "return"});
    gateway.with(&member, "POST", "/api/links", &body);
    let again = |gateway: &Gateway| {
        assert_eq!(gateway.with(&member, "POST", "/api/links", &body).status, 201);
    };
    let authorization = format!("Bearer {member}");
    let delete = request(
        "DELETE",
        "/api/links/abc",
        &[("authorization", &authorization)],
        &Value::Null,
    );
    // The link is deleted, and its entries are not yet.
    let deleted = meddled(&gateway, owner.leak(), vec![Box::new(again)], &delete);
    assert_eq!(deleted.status, 204);
    assert_eq!(listed(&gateway, &member), ["abc"]);
    assert_eq!(gateway.with(&member, "POST", "/api/links", &body).status, 200);
}

#[test]
fn a_bound_is_set_on_what_the_link_says_by_then() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let other = |gateway: &Gateway| {
        gateway.admin("PATCH", "/api/links/abc", &json!({"title": "theirs"}));
    };
    // Before each of the two steps.
    let request = as_admin("PATCH", "/api/links/abc", &json!({"maxVisits": 2}));
    let meddlers: Vec<Meddler<'_>> = vec![Box::new(other), Box::new(|_: &Gateway| {}), Box::new(other)];
    assert_eq!(meddled(&gateway, "link/abc", meddlers, &request).status, 200);
    let link = gateway.read("abc");
    assert_eq!(
        (link["title"].as_str(), link["maxVisits"].as_u64()),
        (Some("theirs"), Some(2))
    );
}

#[test]
fn a_rename_loses_no_visit_that_comes_in_between_and_a_visitor_of_the_old_code_finds_none() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 2}));
    let visit = |gateway: &Gateway| assert_eq!(gateway.visit("/abc").status, 302);
    let rename = as_admin("PATCH", "/api/links/abc", &json!({"code": "new"}));
    let renamed = meddled(&gateway, "link/abc", vec![Box::new(visit)], &rename);
    assert_eq!(
        (renamed.status, json_of(&renamed)["visits"].clone()),
        (200, json!(0))
    );
    assert_eq!(gateway.visits("new"), 1, "it was under way before");
    let back = |gateway: &Gateway| {
        let back = gateway.admin("PATCH", "/api/links/new", &json!({"code": "old"}));
        assert_eq!(back.status, 200);
    };
    let late = meddled(&gateway, "link/new", vec![Box::new(back)], &get("/new"));
    assert_eq!(late.status, 404);
    assert_eq!(
        (gateway.visit("/old").status, gateway.visit("/old").status),
        (302, 410)
    );
    assert_eq!(gateway.visits("old"), 2);
}

#[test]
fn a_code_that_is_taken_in_between_is_not_taken_over() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let take = |gateway: &Gateway| gateway.link("new", json!({"url": "https://example.com/other"}));
    let rename = as_admin("PATCH", "/api/links/abc", &json!({"code": "new"}));
    let refused = meddled(&gateway, "link/abc", vec![Box::new(take)], &rename);
    assert_eq!((refused.status, kind(&refused)), (409, "conflict".into()));
    assert_eq!(
        gateway.visit("/abc").header("location"),
        Some("https://example.com/landing")
    );
    assert_eq!(
        gateway.visit("/new").header("location"),
        Some("https://example.com/other")
    );
    // An edit in between is kept, and goes along.
    let edit = |gateway: &Gateway| {
        let edited = gateway.admin("PATCH", "/api/links/abc", &json!({"title": "kept"}));
        assert_eq!(edited.status, 200);
    };
    let rename = as_admin("PATCH", "/api/links/abc", &json!({"code": "free"}));
    let renamed = meddled(&gateway, "link/abc", vec![Box::new(edit)], &rename);
    assert_eq!(
        (renamed.status, json_of(&renamed)["title"].clone()),
        (200, json!("kept"))
    );
    // What is deleted in between is not brought back.
    let delete = |gateway: &Gateway| assert_eq!(gateway.admin("DELETE", "/api/links/free", "").status, 204);
    let rename = as_admin("PATCH", "/api/links/free", &json!({"code": "again"}));
    assert_eq!(
        meddled(&gateway, "link/free", vec![Box::new(delete)], &rename).status,
        404
    );
    assert_eq!(gateway.visit("/again").status, 404);
}

#[test]
fn passwords_that_are_tried_at_once_are_all_counted() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"password": "right"}));
    let attempt = || request("POST", "/abc", &[("user-agent", BROWSER)], "password=wrong");
    let other = move |gateway: &Gateway| assert_eq!(gateway.send(&attempt()).status, 403);
    for _ in 0..2 {
        assert_eq!(
            meddled(&gateway, "link/abc", vec![Box::new(other)], &attempt()).status,
            403
        );
    }
    assert_eq!(meddled(&gateway, "link/abc", Vec::new(), &attempt()).status, 403);
    assert_eq!(gateway.send(&attempt()).status, 429);
}

/// It counts the very notes that this fold has read, and writes the tallies that it reads next.
#[test]
fn a_fold_between_the_notes_and_the_tallies_of_another_counts_no_visit_twice() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 10}));
    for _ in 0..3 {
        assert_eq!(gateway.visit("/abc").status, 302);
    }
    let store = Meddled::new(&gateway, "", vec![]);
    store.reads.borrow_mut().push(Vec::new());
    let other = |gateway: &Gateway| assert_eq!(ready(stats::fold(&gateway.store, "seen/", 1_000)), Ok(false));
    store.between_reads.replace(Some(Box::new(other)));
    assert_eq!(
        ready(stats::fold(&store, "seen/", 1_000)),
        Ok(true),
        "somebody else folded"
    );
    assert!(store.between_reads.borrow().is_none(), "it ran");
    let told = gateway.admin("GET", "/api/links/abc/stats", &Value::Null);
    assert_eq!((&json_of(&told)["visits"], gateway.visits("abc")), (&json!(3), 3));
}
