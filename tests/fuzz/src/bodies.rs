//! JSON bodies, queries and headers of whole requests, by every rule. No answer is a 5xx. A refusal is a
//! problem document and changes nothing. What was accepted can be read, listed and followed afterwards.

use serde_json::Value;
use tollgate_api::calls::{self, Call};
use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_rules::idempotency::REPLAYED;

use crate::config::can_be_sent_to;
use crate::gateway::{Gateway, SECRET, SETTINGS};
use crate::text;

/// What an admin can list.
const LISTS: [&str; 7] = [
    "/api/links?limit=500",
    "/api/links?sort=-visits",
    "/api/campaigns",
    "/api/topics",
    "/api/topics/signup/messages",
    "/api/topics/signup/groups",
    "/api/keys",
];

/// Any bytes, as requests one after another.
pub fn bodies(data: &[u8]) {
    let gateway = Gateway::new();
    let inputs = text::requests(data);
    if inputs.is_empty() {
        return;
    }
    let (mut changed, mut earlier) = (0, Vec::new());
    for input in &inputs {
        let request = gateway.prepare(input);
        let (response, changes) = gateway.checked(&request);
        tells_no_secret(&gateway, data, &response);
        leads_somewhere(&gateway, &request, &response);
        if request.path.starts_with("/api/links") {
            links_lead_out(&response);
        }
        pages(&request, &response);
        repeats(&gateway, &request, &response, changes);
        belongs(&request, &response, &earlier);
        earlier.push(request);
        changed += changes;
    }
    if changed == 0 {
        return;
    }
    for path in LISTS {
        read(&gateway, path);
    }
    let subscriptions = read(&gateway, "/api/topics/signup/subscriptions");
    for one in subscriptions["subscriptions"].as_array().expect("a list") {
        let url = one["url"].as_str().expect("a text");
        assert!(can_be_sent_to(url), "{url}");
    }
}

fn read(gateway: &Gateway, path: &str) -> Value {
    // An admin may have removed its own key.
    gateway.install_admin();
    let mut request = gateway.request("GET", path, Vec::new());
    gateway.authorize(&mut request, "admin");
    let (response, _) = gateway.checked(&request);
    assert_eq!(
        response.status,
        200,
        "{path}: {}",
        String::from_utf8_lossy(&response.body)
    );
    serde_json::from_slice(&response.body).expect("what is listed is JSON")
}

/// A credential in an answer came with the input.
fn tells_no_secret(gateway: &Gateway, data: &[u8], response: &Response) {
    let holds = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
    for secret in gateway.credentials().iter().map(String::as_str).chain([SECRET]) {
        assert!(
            !holds(&response.body, secret) || holds(data, secret),
            "a secret in an answer"
        );
    }
}

/// A link to the gateway itself would lead round in circles.
fn is_own(target: &url::Url) -> bool {
    target
        .host_str()
        .is_some_and(|host| host.trim_end_matches('.') == "go.example")
}

/// No link that an answer shows leads to the gateway.
fn links_lead_out(response: &Response) {
    let Ok(body) = serde_json::from_slice::<Value>(&response.body) else {
        return;
    };
    let listed = body["links"].as_array().into_iter().flatten();
    for link in listed.chain([&body]) {
        let own = [&link["url"], &link["fallbackUrl"]];
        let others = ["rules", "targets"].map(|list| link[list].as_array());
        let others = others.into_iter().flatten().flatten().map(|one| &one["url"]);
        for target in own.into_iter().chain(others) {
            let Some(target) = target.as_str() else {
                continue;
            };
            let target = url::Url::parse(target).expect("a link leads to a URL");
            assert!(
                matches!(target.scheme(), "http" | "https") && !is_own(&target),
                "{target}"
            );
        }
    }
}

/// What was made can be read where the answer says it is; a redirect leads to the web.
fn leads_somewhere(gateway: &Gateway, request: &Request, response: &Response) {
    let Some(location) = response.header("location") else {
        let link = response.status == 201 && request.path == "/api/links";
        assert!(
            !link && response.status / 100 != 3,
            "{} without Location",
            response.status
        );
        return;
    };
    if response.status / 100 == 3 {
        let target = url::Url::parse(location).expect("a redirect leads to a URL");
        assert!(
            matches!(target.scheme(), "http" | "https") && !is_own(&target),
            "{location}"
        );
        return;
    }
    assert_eq!(
        SETTINGS.component(location),
        SETTINGS.component(&request.path_of_api())
    );
    if location.contains("/tickets/") {
        // Only whoever drew it can look at it.
        let mut look = request.clone();
        look.method = "GET".into();
        look.path = location.into();
        (look.query, look.body) = (None, Vec::new());
        let (seen, _) = gateway.checked(&look);
        assert_eq!(
            seen.status,
            200,
            "{location}: {}",
            String::from_utf8_lossy(&seen.body)
        );
    } else if !location.contains("/claims/") {
        read(gateway, location);
    }
}

trait Api {
    /// The path, or that of the API where it is a configured route.
    fn path_of_api(&self) -> String;
}

impl Api for Request {
    fn path_of_api(&self) -> String {
        match self.path.starts_with("/api/") {
            true => self.path.clone(),
            false => "/api/messages/".to_owned(),
        }
    }
}

/// A page is as long as was asked for, at most; and what was asked for is within bounds.
fn pages(request: &Request, response: &Response) {
    /// No list gives more at once.
    const MOST: usize = 1_000;
    const LISTS: [Call; 7] = [
        Call::ListLinks,
        Call::ListCampaigns,
        Call::ListTopics,
        Call::ReadMessages,
        Call::ListDeadLetters,
        Call::ListGroupDeadLetters,
        Call::ListKeys,
    ];
    let found = calls::find(SETTINGS.component(&request.path), request);
    let lists = found.is_ok_and(|(call, _)| LISTS.contains(&call)) && response.status == 200;
    let fields = request.query_fields();
    let limit = fields.iter().find(|(name, _)| name == "limit");
    let (true, Some((_, limit))) = (lists, limit) else {
        return;
    };
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    let limit: usize = limit.parse().expect("a limit that was taken is a number");
    assert!((1..=MOST).contains(&limit), "{limit}");
    let members = body.as_object().expect("a page is an object").values();
    let longest = members.filter_map(Value::as_array).map(Vec::len).max();
    assert!(
        longest.is_some_and(|length| length <= limit),
        "{longest:?} of {limit}"
    );
}

/// An answer is about who asks: a claim is the user's own, and what is replayed was sent before by the same caller.
fn belongs(request: &Request, response: &Response, earlier: &[Request]) {
    if request.path.ends_with("/claims") && response.status == 201 {
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(body["claim"]["user"].as_str(), request.header("x-user-id"));
    }
    if response.header(REPLAYED).is_some() {
        let same = |other: &&Request| {
            let both = |name| other.header(name) == request.header(name);
            other.path == request.path
                && other.body == request.body
                && ["idempotency-key", "x-user-id", "x-client-id", "authorization"]
                    .into_iter()
                    .all(both)
        };
        assert!(
            earlier.iter().any(|other| same(&other)),
            "an answer to another request"
        );
    }
}

/// The same request with the same `Idempotency-Key` gets the same answer and changes nothing more.
fn repeats(gateway: &Gateway, request: &Request, response: &Response, changes: u32) {
    let keyed = request.header("idempotency-key").is_some();
    let forwarded = SETTINGS.component(&request.path) == Component::Forward && response.status == 202;
    let claimed = request.path.ends_with("/claims") && response.status == 201;
    if !keyed || !(forwarded || claimed) {
        return;
    }
    assert!(changes <= 1, "{changes} commits for one request");
    let (again, changes) = gateway.checked(request);
    assert_eq!(changes, 0, "a repetition changed something");
    assert_eq!(again.header(REPLAYED), Some("true"));
    let value = |response: &Response| serde_json::from_slice::<Value>(&response.body).unwrap();
    assert_eq!((again.status, value(&again)), (response.status, value(response)));
}
