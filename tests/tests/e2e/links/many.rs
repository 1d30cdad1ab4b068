//! Many links by one call, and links of strangers that become a member's.

use futures::future::join_all;
use serde_json::{Value, json};

use super::anonymous::anonymous;
use super::{leads_to, managed, short};
use crate::harness::{Answer, Gateway, Host, unique};

const BULK: &str = "/api/links/bulk";

fn results(answer: Answer) -> Vec<Value> {
    let answer = answer.expect(207).json();
    answer["results"].as_array().expect("a list of results").clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    let status = |result: &Value| result["status"].as_u64().expect("each has a status");
    results.iter().map(status).collect()
}

async fn listed(gateway: &Gateway, key: &str) -> usize {
    let (mut count, mut path) = (0, "/api/links?limit=500".to_owned());
    loop {
        let page = gateway.get(&path).key(key).send().await.expect(200).json();
        count += page["links"].as_array().expect("a page").len();
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/api/links?limit=500&cursor={cursor}"),
            None => return count,
        }
    }
}

pub async fn many_links_are_made_changed_and_removed_by_one_call(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let name = unique("m");
    let codes: Vec<String> = (0..1_000).map(|n| format!("{name}-{n}")).collect();
    // With the longest URLs, the body is larger than others may be.
    let url = |n: usize| format!("https://example.com/{n}/{}", "x".repeat(600));
    let links: Vec<Value> = codes
        .iter()
        .enumerate()
        .map(|(n, code)| json!({ "url": url(n), "code": code }))
        .collect();
    let made = results(
        gateway
            .post(BULK)
            .key(&key)
            .json(&json!({ "links": links }))
            .send()
            .await,
    );
    assert_eq!(statuses(&made), vec![201; 1_000]);
    for (n, result) in made.iter().enumerate() {
        assert_eq!(result["link"]["code"], codes[n], "in the order they were sent");
    }
    assert_eq!(listed(&gateway, &key).await, 1_000);
    leads_to(gateway.get(&format!("/{}", codes[999])).send().await, &url(999));
    let again = results(
        gateway
            .post(BULK)
            .key(&key)
            .json(&json!({ "links": links[..3] }))
            .send()
            .await,
    );
    assert_eq!(statuses(&again), [409; 3]);
    let patch = json!({ "codes": codes, "archived": true });
    let changed = results(gateway.patch(BULK).key(&key).json(&patch).send().await);
    assert_eq!(statuses(&changed), vec![200; 1_000]);
    assert!(changed.iter().all(|result| result["link"]["archived"] == true));
    gateway.get(&format!("/{}", codes[0])).send().await.expect(410);
    let gone = results(
        gateway
            .delete(BULK)
            .key(&key)
            .json(&json!({ "codes": codes }))
            .send()
            .await,
    );
    assert_eq!(statuses(&gone), vec![204; 1_000]);
    assert_eq!(listed(&gateway, &key).await, 0);
}

pub async fn one_bad_link_of_many_is_refused_alone(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let (mine, theirs) = (unique("mine"), unique("theirs"));
    let of = |code: &str| json!({ "links": [{ "url": "https://example.com/", "code": code }] });
    results(gateway.post(BULK).key(&other).json(&of(&theirs)).send().await);
    let links = json!({ "links": [
        { "url": "https://example.com/", "code": mine },
        { "url": "javascript:alert(1)" },
        { "url": "https://example.com/", "code": theirs },
        { "url": "https://example.com/", "maxVisits": "5" },
        null,
    ] });
    let made = results(gateway.post(BULK).key(&key).json(&links).send().await);
    assert_eq!(statuses(&made), [201, 400, 409, 400, 400]);
    assert_eq!(made[3]["problem"]["errors"][0]["pointer"], "#/links/3/maxVisits");
    let patch = json!({ "codes": [theirs, mine, unique("nothing")], "url": "https://example.com/new" });
    let changed = results(gateway.patch(BULK).key(&key).json(&patch).send().await);
    assert_eq!(statuses(&changed), [403, 200, 404]);
    leads_to(
        gateway.get(&format!("/{theirs}")).send().await,
        "https://example.com/",
    );
    leads_to(
        gateway.get(&format!("/{mine}")).send().await,
        "https://example.com/new",
    );
}

pub async fn anonymous_links_are_handed_over_once(host: Host) {
    let gateway = Gateway::shared(host).await;
    let keys = [gateway.key(&["links"]).await, gateway.key(&["links"]).await];
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(anonymous(&gateway, &unique("client")).await);
    }
    let tokens: Vec<&str> = made.iter().map(|(_, token)| token.as_str()).collect();
    let body = json!({ "tokens": tokens });
    let claim = |key: &String| gateway.post("/api/links/claim").key(key).json(&body).send();
    // Two keys, three times each, at once.
    let answers = join_all((0..6).map(|n| claim(&keys[n % 2]))).await;
    let mut owners = vec![Vec::new(); made.len()];
    for answer in answers {
        for (at, result) in results(answer).iter().enumerate() {
            match result["status"].as_u64() {
                Some(200) => owners[at].push(result["link"]["owner"].clone()),
                Some(404 | 409) => {}
                _ => panic!("{result}"),
            }
        }
    }
    for ((link, token), owners) in made.iter().zip(&owners) {
        assert_eq!(owners.len(), 1, "each link has one new owner");
        leads_to(
            gateway.get(&short(link)).send().await,
            "https://example.com/anonymous",
        );
        gateway
            .get(&managed(link))
            .key(token)
            .send()
            .await
            .problem(403, "forbidden");
    }
    assert_eq!(statuses(&results(claim(&keys[0]).await)), [404; 5]);
    assert_eq!(
        listed(&gateway, &keys[0]).await + listed(&gateway, &keys[1]).await,
        5
    );
}
