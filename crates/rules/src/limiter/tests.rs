use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Limit, OnFailure, Per};
use crate::keys::mint;
use crate::keys::shelf::{Shelf, fresh, request};
use crate::policies::REPORT_MS;
use crate::settings::Settings;
use tollgate_api::calls::Scope;
use tollgate_api::units::Span;
use tollgate_store::bucket::{State, take_all};
use tollgate_store::memory::START;

const SECOND: u64 = 1_000_000_000;

/// Buckets by the rules, with a clock that the test sets.
#[derive(Default)]
struct Pails {
    states: RefCell<HashMap<String, State>>,
    now: Cell<u64>,
    takes: Cell<u32>,
    down: Cell<bool>,
    /// Takes with one of these fail: its name begins so.
    away: Cell<Option<&'static str>>,
    /// Such a bucket is not asked, where another lacks its cost.
    lazy: Cell<Option<&'static str>>,
    busy: Cell<bool>,
}

impl Buckets for Pails {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.takes.set(self.takes.get() + 1);
        if self.down.get() {
            return Err(TakeError::Unavailable("down".into()));
        }
        let begins = |name: Option<&str>, key: &str| name.is_some_and(|name| key.starts_with(name));
        if buckets.iter().any(|one| begins(self.away.get(), &one.key)) {
            return Err(TakeError::Unavailable("away".into()));
        }
        if self.busy.get() {
            return Err(TakeError::Busy("others write".into()));
        }
        let mut all = self.states.borrow_mut();
        let mut states: Vec<_> = buckets
            .iter()
            .map(|bucket| all.get(&bucket.key).copied())
            .collect();
        let mut levels = take_all(&mut states, &buckets, self.now.get());
        if let Err(TakeError::Refused { levels, .. }) = &mut levels {
            let both = buckets.iter().zip(levels);
            let lazy = both.filter(|(bucket, _)| begins(self.lazy.get(), &bucket.key));
            lazy.for_each(|(_, level)| *level = Level::UNKNOWN);
        }
        let levels = levels?;
        all.extend(
            buckets
                .into_iter()
                .map(|bucket| bucket.key)
                .zip(states.into_iter().flatten()),
        );
        Ok(levels)
    }
}

fn limit(name: &str, capacity: u64) -> Limit {
    Limit {
        name: name.into(),
        path: "/...".into(),
        methods: vec!["*".into()],
        per: vec![Per::Client],
        capacity,
        refill: 1,
        interval: Span(SECOND),
        cost: 1,
        shadow: false,
        on_store_failure: OnFailure::Allow,
        shared: crate::config::Shared::Local,
        domain: None,
        descriptor: Vec::new(),
    }
}

/// A gateway with these limits.
struct Gate {
    settings: Settings,
    store: Shelf,
    buckets: Pails,
}

impl Gate {
    fn new(limits: &[Limit]) -> Self {
        let config = Config {
            limits: limits.to_vec(),
            ..Config::default()
        };
        Self {
            settings: Settings::compile(config).unwrap(),
            store: Shelf::default(),
            buckets: Pails::default(),
        }
    }

    fn check(&self, request: &Request) -> Verdict {
        let world = World {
            store: &self.store,
            settings: &self.settings,
            now: 1,
            fresh: &fresh,
        };
        block_on(check(&world, &self.buckets, request))
    }

    fn get(&self, path: &str, client: &str) -> Verdict {
        self.check(&request("GET", path, &[("x-client-id", client)]))
    }

    fn admits(&self, path: &str, client: &str) -> bool {
        matches!(self.get(path, client), Verdict::Admit(_))
    }

    /// How many of ten requests are admitted.
    fn admitted(&self, path: &str, client: &str) -> usize {
        (0..10).filter(|_| self.admits(path, client)).count()
    }
}

fn refused(verdict: Verdict) -> (Response, Value) {
    let Verdict::Answer(response) = verdict else {
        panic!("admitted")
    };
    let body = serde_json::from_slice(&response.body).unwrap();
    (response, body)
}

fn field<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|h| h.name == name)
        .map(|h| std::str::from_utf8(&h.value).unwrap())
}

#[test]
fn each_client_has_its_own_bucket() {
    let gate = Gate::new(&[limit("default", 3)]);
    assert_eq!(gate.admitted("/x", "a"), 3);
    assert_eq!(gate.admitted("/x", "b"), 3);
    gate.buckets.now.set(2 * SECOND);
    assert_eq!(gate.admitted("/x", "a"), 2);
}

#[test]
fn a_doubled_identity_is_refused_before_anything_is_charged() {
    let gate = Gate::new(&[limit("default", 3)]);
    for name in ["x-client-id", "x-user-id", "authorization", "host"] {
        for values in [["me", "victim"], ["me", "me"]] {
            let twice = request("GET", "/x", &values.map(|value| (name, value)));
            let (response, body) = refused(gate.check(&twice));
            assert_eq!(response.status, 400, "{name}");
            assert_eq!(body["errors"][0]["pointer"], format!("header:{name}"));
        }
    }
    assert_eq!(gate.buckets.takes.get(), 0);
    // Also where no policy matches, and under the names of the configuration.
    let mut gate = Gate::new(&[]);
    gate.settings.config.users.header = "x-subject".into();
    let twice = |name: &str| request("GET", "/x", &[(name, "a"), (name, "b")]);
    refused(gate.check(&twice("x-subject")));
    assert!(matches!(gate.check(&twice("x-user-id")), Verdict::Admit(_)));
}

#[test]
fn every_text_of_a_path_counts_in_one_place() {
    let sale = Limit {
        path: "/sale".into(),
        ..limit("sale", 3)
    };
    let by_path = Limit {
        per: vec![Per::Path],
        path: "/p/...".into(),
        ..limit("by-path", 2)
    };
    let gate = Gate::new(&[sale, by_path]);
    for path in ["/sale", "/%73ale", "/sale/"] {
        assert!(gate.admits(path, "a"), "{path}");
    }
    for path in ["/sale", "/%73ale", "/s%61le/", "/sal%65", "//sale//"] {
        assert!(!gate.admits(path, "a"), "{path}");
    }
    assert!(gate.admits("/p/a%2fb", "a") && gate.admits("/p/%61%2Fb", "a"));
    assert!(!gate.admits("/p/a%2Fb/", "a"));
    // The pattern, too, is read as what it stands for.
    let encoded = Limit {
        path: "/caf%c3%a9/%6denu".into(),
        ..limit("cafe", 1)
    };
    let gate = Gate::new(&[encoded]);
    assert!(gate.admits("/caf%C3%A9/menu", "a") && !gate.admits("/caf%c3%a9/m%65nu", "a"));
}

#[test]
fn the_fields_count_requests_of_the_policys_cost() {
    let costly = Limit {
        cost: 10,
        refill: 5,
        ..limit("costly", 105)
    };
    let gate = Gate::new(&[costly]);
    let told = || match gate.get("/api/x", "a") {
        Verdict::Admit(headers) => {
            let of = |name| field(&headers, name).unwrap_or_default().to_owned();
            (of("ratelimit-policy"), of("ratelimit"))
        }
        Verdict::Answer(response) => {
            let of = |name| field(&response.headers, name).unwrap_or_default().to_owned();
            (of("ratelimit-policy"), of("ratelimit"))
        }
    };
    // Ten requests of 10 out of 105; 21 s to fill 105 at 5 a second.
    for left in (0..10).rev() {
        let (policy, level) = told();
        assert_eq!(policy, "\"costly\";q=10;w=21");
        assert!(level.starts_with(&format!("\"costly\";r={left};t=")), "{level}");
    }
    assert!(told().1.starts_with("\"costly\";r=0;t="));
    gate.buckets.now.set(3 * SECOND);
    assert!(
        told().1.starts_with("\"costly\";r=1;t="),
        "20 tokens, 10 of them taken"
    );
}

#[test]
fn what_a_shadow_would_have_refused_is_reported_now_and_then() {
    let shadow = |name: &str, capacity| Limit {
        shadow: true,
        ..limit(name, capacity)
    };
    let report = |gate: &Gate, now| gate.settings.policies.shadow_report(now, u64::MAX);
    // Alone, and with others.
    let alone = Gate::new(&[shadow("observed", 2)]);
    assert_eq!(alone.admitted("/x", "a"), 10);
    let line = "limits in shadow would have refused requests:";
    assert_eq!(report(&alone, START), Some(format!("{line} \"observed\" 8")));
    let many = Gate::new(&[shadow("first", 2), limit("enforced", 6), shadow("second", 4)]);
    assert_eq!(many.admitted("/x", "a"), 6);
    assert_eq!(
        report(&many, START),
        Some(format!("{line} \"first\" 8 \"second\" 6"))
    );
    // Not again so soon, and then what has come together; nothing where there is nothing.
    assert_eq!(alone.admitted("/x", "a"), 10);
    assert_eq!(report(&alone, START + REPORT_MS - 1), None);
    assert_eq!(alone.admitted("/x", "a"), 10);
    assert_eq!(
        report(&alone, START + REPORT_MS),
        Some(format!("{line} \"observed\" 20"))
    );
    assert_eq!(report(&alone, START + 9 * REPORT_MS), None);
    assert_eq!(report(&Gate::new(&[limit("enforced", 1)]), START), None);
    // Sooner where so many are enough.
    assert_eq!(alone.admitted("/x", "a"), 10);
    assert!(
        alone
            .settings
            .policies
            .shadow_report(START + REPORT_MS + 1, 10)
            .is_some()
    );
}

#[test]
fn decisions_are_counted_by_policy_and_told_once() {
    let shadow = |name: &str, capacity| Limit {
        shadow: true,
        ..limit(name, capacity)
    };
    let gate = Gate::new(&[shadow("first", 2), limit("enforced", 6), shadow("second", 4)]);
    let decisions = || gate.settings.policies.decisions();
    assert!(decisions().is_empty());
    assert_eq!(gate.admitted("/x", "a"), 6);
    // Admitted, refused, would refuse, failed.
    assert_eq!(decisions(), [2, 0, 8, 0, 6, 4, 0, 0, 4, 0, 6, 0]);
    assert!(decisions().is_empty());
    gate.buckets.down.set(true);
    gate.admitted("/x", "a");
    assert_eq!(decisions(), [0, 0, 0, 10, 0, 0, 0, 10, 0, 0, 0, 10]);
    let alone = Gate::new(&[limit("alone", 3)]);
    assert_eq!(alone.admitted("/x", "a"), 3);
    assert_eq!(alone.settings.policies.decisions(), [3, 7, 0, 0]);
}

#[test]
fn a_policy_for_get_counts_head() {
    let get = Limit {
        methods: vec!["GET".into()],
        ..limit("get", 3)
    };
    let gate = Gate::new(&[get]);
    let ask = |method| matches!(gate.check(&request(method, "/x", &[])), Verdict::Admit(_));
    assert!(ask("HEAD") && ask("GET") && ask("HEAD"));
    assert!(!ask("HEAD") && !ask("GET"));
    assert!((0..9).all(|_| ask("POST") && ask("head")));
}

#[test]
fn a_refusal_tells_which_policies_and_how_long() {
    let slow = Limit {
        refill: 2,
        interval: Span(25 * SECOND),
        ..limit("slow", 1)
    };
    let gate = Gate::new(&[limit("roomy", 100), limit("fast", 1), slow]);
    gate.get("/x", "a");
    let (response, body) = refused(gate.get("/x", "a"));
    assert_eq!(response.status, 429);
    assert_eq!(
        response.header("retry-after"),
        Some("13"),
        "12.5 seconds, rounded up"
    );
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(
        body["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(body["violated-policies"], json!(["fast", "slow"]));
    assert_eq!(
        response.header("ratelimit"),
        Some(r#""roomy";r=99;t=1, "fast";r=0;t=1, "slow";r=0;t=13"#)
    );
}

#[test]
fn a_wait_of_less_than_a_second_is_one() {
    let gate = Gate::new(&[Limit {
        refill: 1_000,
        ..limit("fast", 1)
    }]);
    gate.get("/x", "a");
    assert_eq!(refused(gate.get("/x", "a")).0.header("retry-after"), Some("1"));
}

#[test]
fn a_refused_request_is_charged_to_no_policy() {
    let gate = Gate::new(&[
        limit("roomy", 5),
        Limit {
            path: "/api/...".into(),
            ..limit("tight", 1)
        },
    ]);
    assert_eq!(gate.admitted("/api/x", "a"), 1);
    assert_eq!(gate.admitted("/x", "a"), 4);
}

#[test]
fn api_answers_tell_their_limits_and_redirects_do_not() {
    let gate = Gate::new(&[
        Limit {
            refill: 10,
            ..limit("default", 100)
        },
        limit("a\"b\"\\", 5),
    ]);
    let Verdict::Admit(headers) = gate.get("/api/links", "a") else {
        panic!("refused")
    };
    assert_eq!(
        field(&headers, "ratelimit-policy"),
        Some(r#""default";q=100;w=10, "a\"b\"\\";q=5;w=5"#)
    );
    assert_eq!(
        field(&headers, "ratelimit"),
        Some(r#""default";r=99;t=1, "a\"b\"\\";r=4;t=1"#)
    );
    assert_eq!(gate.get("/code", "a"), Verdict::Admit(Vec::new()));
    assert_eq!(gate.get("/apix", "a"), Verdict::Admit(Vec::new()));
}

#[test]
fn a_shadow_policy_never_refuses_and_never_shields_an_enforced_one() {
    for order in [[0, 1], [1, 0]] {
        let both = [
            Limit {
                shadow: true,
                ..limit("shadow", 2)
            },
            limit("enforced", 4),
        ];
        let gate = Gate::new(&order.map(|index| both[index].clone()));
        assert_eq!(gate.admitted("/api/x", "a"), 4, "the enforced one alone decides");
        let (response, body) = refused(gate.get("/api/x", "a"));
        assert_eq!(body["violated-policies"], json!(["enforced"]));
        assert_eq!(response.header("ratelimit-policy"), Some(r#""enforced";q=4;w=4"#));
    }
    let gate = Gate::new(&[
        Limit {
            shadow: true,
            ..limit("one", 1)
        },
        Limit {
            shadow: true,
            ..limit("two", 2)
        },
    ]);
    assert_eq!(gate.admitted("/x", "a"), 10);
}

#[test]
fn a_shadow_policy_is_charged_along() {
    let gate = Gate::new(&[
        Limit {
            shadow: true,
            ..limit("shadow", 5)
        },
        limit("enforced", 9),
    ]);
    gate.get("/x", "a");
    let look = Bucket {
        key: "shadow|id:a".into(),
        capacity: 5,
        refill: 1,
        interval_ns: SECOND,
        cost: 0,
    };
    assert_eq!(block_on(gate.buckets.take(vec![look])).unwrap()[0].remaining, 4);
}

#[test]
fn a_policy_applies_to_its_path_and_methods() {
    let posts = Limit {
        path: "/api/links".into(),
        methods: vec!["POST".into(), "PUT".into()],
        ..limit("posts", 1)
    };
    let gate = Gate::new(&[posts]);
    assert_eq!(gate.admitted("/api/links", "a"), 10);
    assert_eq!(gate.buckets.takes.get(), 0);
    let post = |path| {
        matches!(
            gate.check(&request("POST", path, &[("x-client-id", "a")])),
            Verdict::Admit(_)
        )
    };
    assert!(post("/api/links"));
    assert!(!post("/api/links/"), "a slash at the end is no way around");
    assert!(post("/api/other"));
}

#[test]
fn health_is_never_limited() {
    let gate = Gate::new(&[limit("default", 1)]);
    assert_eq!(gate.admitted("/health/live", "a"), 10);
    assert_eq!(gate.admitted("/health/ready", "a"), 10);
    for (client, path) in [
        "/healthy",
        "/health",
        "/health/",
        "/health/anything",
        "/health/live/",
        "/health/live/more",
        "/health//ready",
        "/Health/ready",
        "/health/%72eady",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(gate.admitted(path, &format!("c{client}")), 1, "{path}");
    }
}

#[test]
fn a_policy_counts_by_what_it_says() {
    let with = |per: &[Per]| {
        Gate::new(&[Limit {
            per: per.to_vec(),
            ..limit("p", 1)
        }])
    };
    for everybody in [with(&[]), with(&[Per::All])] {
        assert!(everybody.admits("/x", "a") && !everybody.admits("/y", "b"));
    }
    let by_path = with(&[Per::Path]);
    assert!(by_path.admits("/x", "a") && !by_path.admits("/x", "b") && by_path.admits("/y", "a"));
    assert!(!by_path.admits("/x/", "c"));
    let by_ip = with(&[Per::Ip]);
    let from = |peer: &str| {
        by_ip.check(&Request {
            peer: peer.into(),
            ..request("GET", "/", &[])
        })
    };
    assert!(matches!(from("2001:db8::1"), Verdict::Admit(_)));
    assert!(matches!(from("2001:db8::2"), Verdict::Answer(_)));
    assert!(matches!(from("2001:db8:0:1::1"), Verdict::Admit(_)));
    let by_both = with(&[Per::Client, Per::Path]);
    assert!(by_both.admits("/x", "a") && by_both.admits("/x", "b") && by_both.admits("/y", "a"));
    assert!(!by_both.admits("/x", "a"));
}

#[test]
fn no_client_can_name_itself_into_the_bucket_of_another() {
    let gate = Gate::new(&[Limit {
        per: vec![Per::Client, Per::Path],
        ..limit("p", 1)
    }]);
    assert!(gate.admits("/x|/y", "a"));
    assert!(gate.admits("/y", "a|/x"));
    assert!(gate.admits("/y", "a%7C/x"));
}

#[test]
fn keys_of_buckets_are_bounded() {
    let name = "n".repeat(64);
    let everything = vec![Per::Client, Per::Ip, Per::Path];
    let gate = Gate::new(&[Limit {
        per: everything,
        ..limit(&name, 1)
    }]);
    let long = format!("/{}", "p".repeat(60_000));
    assert!(gate.admits(&long, &"|".repeat(128)));
    assert!(
        gate.admits(&format!("{long}x"), &"|".repeat(128)),
        "long paths are told apart"
    );
    assert!(!gate.admits(&long, &"|".repeat(128)));
    for key in gate.buckets.states.borrow().keys() {
        assert!(
            key.len() <= tollgate_store::bucket::MAX_KEY_BYTES,
            "{}",
            key.len()
        );
    }
}

#[test]
fn a_key_is_looked_up_only_for_a_policy_that_counts_by_client() {
    let bearer = [("authorization", "Bearer some-key-or-other")];
    let gate = Gate::new(&[Limit {
        per: vec![Per::Ip],
        ..limit("ip", 5)
    }]);
    gate.check(&request("GET", "/", &bearer));
    assert_eq!(gate.store.gets.get(), 0);
    let gate = Gate::new(&[limit("one", 5), limit("two", 5)]);
    gate.check(&request("GET", "/", &bearer));
    assert_eq!(gate.store.gets.get(), 1);
}

#[test]
fn a_store_that_is_down_leaves_header_and_address_to_count_by() {
    let gate = Gate::new(&[limit("default", 1)]);
    let (key, commit) = mint("k", &[Scope::Links], None, 1, &fresh);
    block_on(gate.store.commit(commit)).unwrap();
    let bearer = format!("Bearer {key}");
    let call = || {
        gate.check(&request(
            "GET",
            "/",
            &[("authorization", bearer.as_str()), ("x-client-id", "a")],
        ))
    };
    assert!(matches!(call(), Verdict::Admit(_)));
    assert!(matches!(call(), Verdict::Answer(_)));
    gate.store.down.set(true);
    assert!(matches!(call(), Verdict::Admit(_)), "counted as id:a now");
    assert!(!gate.admits("/", "a"));
}

#[test]
fn without_buckets_the_policies_decide() {
    let deny = Limit {
        on_store_failure: OnFailure::Deny,
        domain: None,
        descriptor: Vec::new(),
        ..limit("deny", 5)
    };
    let shadow = Limit {
        shadow: true,
        ..deny.clone()
    };
    for (limits, admitted) in [
        (vec![limit("allow", 5)], true),
        (vec![limit("allow", 5), deny], false),
        (vec![shadow], true),
    ] {
        let gate = Gate::new(&limits);
        gate.buckets.down.set(true);
        match gate.get("/api/x", "a") {
            Verdict::Admit(headers) => assert!(admitted && headers.is_empty()),
            Verdict::Answer(response) => {
                assert!(!admitted);
                assert_eq!(
                    (response.status, response.header("retry-after")),
                    (503, Some("1"))
                );
            }
        }
    }
}

#[test]
fn without_the_store_of_exact_limits_the_others_count() {
    let exact = Limit {
        shared: crate::config::Shared::Exact,
        ..limit("exact", 5)
    };
    let gate = Gate::new(&[exact.clone(), limit("own", 2)]);
    gate.buckets.away.set(Some("exact"));
    let Verdict::Admit(headers) = gate.get("/api/x", "a") else {
        panic!("refused")
    };
    assert_eq!(field(&headers, "ratelimit"), Some("\"own\";r=1;t=1"));
    assert_eq!(gate.admitted("/api/x", "a"), 1);
    let (response, body) = refused(gate.get("/api/x", "a"));
    assert_eq!(
        (response.status, &body["violated-policies"]),
        (429, &json!(["own"]))
    );
    assert_eq!(
        field(&response.headers, "ratelimit-policy"),
        Some("\"own\";q=2;w=2")
    );
    let closed = Limit {
        on_store_failure: OnFailure::Deny,
        ..exact
    };
    let gate = Gate::new(&[closed, limit("own", 2)]);
    gate.buckets.away.set(Some("exact"));
    assert_eq!(refused(gate.get("/api/x", "a")).0.status, 503);
    gate.buckets.away.set(None);
    assert_eq!(gate.admitted("/api/x", "a"), 2, "nothing was taken meanwhile");
}

#[test]
fn a_limit_that_was_not_asked_is_not_told() {
    let exact = Limit {
        shared: crate::config::Shared::Exact,
        ..limit("exact", 5)
    };
    let gate = Gate::new(&[exact, limit("own", 1)]);
    gate.buckets.lazy.set(Some("exact"));
    assert!(gate.admits("/api/x", "a"));
    let (response, body) = refused(gate.get("/api/x", "a"));
    assert_eq!(body["violated-policies"], json!(["own"]));
    assert_eq!(field(&response.headers, "ratelimit"), Some("\"own\";r=0;t=1"));
    assert_eq!(
        field(&response.headers, "ratelimit-policy"),
        Some("\"own\";q=1;w=1")
    );
}

#[test]
fn busy_buckets_let_nobody_through_whatever_the_failure_mode() {
    let deny = Limit {
        on_store_failure: OnFailure::Deny,
        domain: None,
        descriptor: Vec::new(),
        ..limit("deny", 5)
    };
    let shadow = Limit {
        shadow: true,
        ..limit("shadow", 5)
    };
    for (limits, admitted) in [
        (vec![limit("allow", 5)], false),
        (vec![limit("allow", 5), shadow.clone()], false),
        (vec![limit("allow", 5), deny], false),
        (vec![shadow], true),
    ] {
        let gate = Gate::new(&limits);
        gate.buckets.busy.set(true);
        match gate.get("/api/x", "a") {
            Verdict::Admit(headers) => assert!(admitted && headers.is_empty()),
            Verdict::Answer(response) => {
                let answer = (response.status, response.header("retry-after"));
                assert!(!admitted, "{limits:?}");
                assert_eq!(answer, (503, Some("1")));
            }
        }
    }
}

#[test]
fn an_admin_sees_the_policies() {
    let half = Limit {
        interval: Span(SECOND / 2),
        ..limit("half", 5)
    };
    let gate = Gate::new(&[limit("whole", 5), half]);
    let (key, commit) = mint("k", &[Scope::Admin], None, 1, &fresh);
    block_on(gate.store.commit(commit)).unwrap();
    let world = World {
        store: &gate.store,
        settings: &gate.settings,
        now: 1,
        fresh: &fresh,
    };
    let bearer = format!("Bearer {key}");
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        block_on(crate::admin::handle(
            &world,
            &gate.buckets,
            &request(method, path, headers),
        ))
    };
    let response = ask("GET", "/api/limits", &[("authorization", &bearer)]);
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    let whole = json!({
        "name": "whole", "path": "/...", "methods": ["*"], "per": ["client"], "capacity": 5, "refill": 1,
        "interval": 1, "cost": 1, "shadow": false, "onStoreFailure": "allow",
    });
    assert_eq!((response.status, &body["limits"][0]), (200, &whole));
    assert_eq!(body["limits"][1]["interval"], 0.5);
    assert_eq!(ask("GET", "/api/limits", &[]).status, 401);
    assert_eq!(ask("POST", "/api/limits", &[]).header("allow"), Some("GET, HEAD"));
    assert_eq!(ask("GET", "/api/limits/nothing", &[]).status, 404);
}

proptest! {
    #[test]
    fn whatever_the_shadows_the_enforced_policies_alone_decide(
        shapes in proptest::collection::vec((1..6_u64, any::<bool>()), 1..6),
        steps in proptest::collection::vec(0..2 * SECOND, 1..30),
    ) {
        let limits: Vec<Limit> = shapes
            .iter()
            .enumerate()
            .map(|(i, &(capacity, shadow))| Limit { shadow, ..limit(&i.to_string(), capacity) })
            .collect();
        let with = Gate::new(&limits);
        let without = Gate::new(&limits.iter().filter(|limit| !limit.shadow).cloned().collect::<Vec<_>>());
        for step in steps {
            with.buckets.now.set(with.buckets.now.get() + step);
            without.buckets.now.set(with.buckets.now.get());
            prop_assert_eq!(with.get("/api/x", "a"), without.get("/api/x", "a"));
        }
    }
}
