//! The access table of `SECURITY.md`, asserted: every call with every credential. Paths that are no call are
//! refused.

use std::cell::Cell;
use std::collections::BTreeMap;

use futures::executor::block_on;
use serde_json::{Value, json};

use tollgate_api::calls::{self, Access, Call, Scope};
use tollgate_api::components::Component;
use tollgate_api::http::{Header, Request, Response};

use crate::keys;
use crate::settings::Settings;
use crate::world::World;
use crate::{admin, campaigns, forward, groups, links};
use tollgate_store::memory::{InMemoryBuckets, InMemoryStore, START};
use tollgate_store::ports::Store as _;

const DOCUMENT: &str = include_str!("../../../SECURITY.md");
const ADMIN: &str = "an-admin-key-of-these-tests";
const SETTINGS: &str = "[[challenges]]\nname = \"bots\"\npath = \"/behind/that\"\nkind = \"altcha\"\n[[rooms]]\nname = \"sale\"\npath = \"/behind/it\"\nadmit_per_second = 1000\n[[forward]]\npath = \"/signup\"\ntopic = \"signup\"\n\
    [[limits]]\nname = \"default\"\ncapacity = 1000000\nrefill = 1\n";
const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND",
];

/// The columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    BadKey,
    Links,
    Campaigns,
    Topics,
    Admin,
    OwnKey,
    OwnToken,
    OtherToken,
    OwnClient,
    OtherClient,
    OwnUser,
    OtherUser,
}

const CALLERS: &[(Caller, &str)] = &[
    (Caller::Nobody, "nobody"),
    (Caller::BadKey, "bad key"),
    (Caller::Links, "links"),
    (Caller::Campaigns, "campaigns"),
    (Caller::Topics, "topics"),
    (Caller::Admin, "admin"),
    (Caller::OwnKey, "its key"),
    (Caller::OwnToken, "its token"),
    (Caller::OtherToken, "other token"),
    (Caller::OwnClient, "its client"),
    (Caller::OtherClient, "other client"),
    (Caller::OwnUser, "its user"),
    (Caller::OtherUser, "other user"),
];

/// The rows of the table: every call, the configured routes, and the calls for which it matters what they are about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Call(Call),
    ConfiguredRoute,
    PostToNewTopic,
    PutPrivateSubscription,
}

impl Row {
    fn all() -> Vec<Self> {
        let special = [
            Self::ConfiguredRoute,
            Self::PostToNewTopic,
            Self::PutPrivateSubscription,
        ];
        Call::ALL.iter().copied().map(Self::Call).chain(special).collect()
    }

    fn label(self) -> String {
        let line = |call: Call| format!("`{} {}`", call.method(), call.path());
        match self {
            Self::Call(call) => line(call),
            Self::ConfiguredRoute => "a path of `[[forward]]`".into(),
            Self::PostToNewTopic => format!("{}, not configured", line(Call::PostMessage)),
            Self::PutPrivateSubscription => {
                format!("{} with `allowPrivateAddresses`", line(Call::PutSubscription))
            }
        }
    }

    /// Whether that is what everybody is answered who may: what Shlink has, and we have not, or a tag that no link has.
    fn comes_to_nothing(self, status: u16) -> bool {
        let Self::Call(call) = self else { return false };
        match call {
            Call::ShlinkMercure => status == 501,
            Call::ShlinkDomainRedirects | Call::AskYourls => status == 400,
            // What is asked for is in a header.
            Call::AskSqs | Call::AskSqsQueue => status == 400,
            // Which link is asked for by a query.
            Call::DubReadLink => status == 400,
            Call::DubDeleteLinks => status == 422,
            // A subscription of the file keeps its topic.
            Call::DeleteTopic => status == 409,
            Call::DubEditLink | Call::DubDeleteLink => status == 404,
            Call::ShlinkTagVisits | Call::ShlinkRenameTag => status == 404,
            _ => false,
        }
    }

    /// Method, path and body of a request that is sound, so that only the caller decides.
    fn request(self, site: &Site, caller: Caller) -> (&'static str, String, Value) {
        let hook = json!({ "url": "https://example.com/hook" });
        let call = match self {
            Self::Call(call) => call,
            Self::ConfiguredRoute => return ("POST", "/signup".into(), json!({})),
            Self::PostToNewTopic => return ("POST", "/api/topics/fresh/messages".into(), json!({})),
            Self::PutPrivateSubscription => {
                let body = json!({ "url": "http://127.0.0.1:9/", "allowPrivateAddresses": true });
                return ("PUT", "/api/topics/signup/subscriptions/new".into(), body);
            }
        };
        // A ticket is its holder's.
        let ticket = match call {
            Call::ReadTicket => site.ticket_of(caller),
            _ => String::new(),
        };
        // A link belongs to a key, or to the holder of its token.
        let link = match caller {
            Caller::OwnToken | Caller::OtherToken => "anonymous",
            _ => "owned",
        };
        let (first, second) = match call {
            Call::FollowLinkByPut | Call::FollowLinkByPatch | Call::FollowLinkByDelete => ("keeping", ""),
            Call::FollowLink
            | Call::OpenLink
            | Call::ReadLink
            | Call::EditLink
            | Call::DeleteLink
            | Call::DrawLink
            | Call::ReadLinkStats
            | Call::ListVisits
            | Call::DeleteVisits
            | Call::PutLink
            | Call::ShlinkReadUrl
            | Call::ShlinkEditUrl
            | Call::ShlinkDeleteUrl
            | Call::ShlinkReadRules
            | Call::ShlinkSetRules
            | Call::ShlinkUrlVisits
            | Call::ShlinkDeleteUrlVisits
            | Call::ExtendLink => (link, ""),
            Call::ShlinkDomainVisits => ("DEFAULT", ""),
            Call::Claim | Call::ReadClaims | Call::ListClaims | Call::CheckClaim => ("spring", "its-user"),
            Call::DeleteCampaign => ("untouched", ""),
            Call::ConfirmClaim | Call::ReleaseClaim | Call::RevokeClaim => ("tickets", site.held.as_str()),
            Call::ReadCampaign | Call::EditCampaign | Call::PutEligible => ("spring", ""),
            Call::ImportCodes => ("vouchers", ""),
            Call::JoinWaitlist | Call::ReadWaitlist | Call::LeaveWaitlist => ("line", ""),
            Call::ReadDraw | Call::Enter => ("easter", ""),
            Call::Draw => ("may", ""),
            Call::ReadEntries => ("easter", "its-user"),
            // Of one that is drawn.
            Call::ProveEntries => ("june", "its-user"),
            Call::ReadMessage => (site.message.as_str(), ""),
            Call::DeleteKey | Call::RotateKey => (site.spare_key.as_str(), ""),
            Call::PutSubscription => ("signup", "new"),
            Call::ReadRoom | Call::PauseRoom | Call::ResumeRoom | Call::PaceRoom | Call::DrawTicket => {
                ("sale", "")
            }
            Call::ReadChallenge => ("bots", ""),
            Call::PutRoom | Call::DeleteRoom => ("queue", ""),
            Call::ReadTicket => ("sale", ticket.as_str()),
            Call::ReadAccess | Call::PutAccess | Call::DeleteAccess => ("scrapers", ""),
            Call::ReadClientLimits | Call::PutOverride | Call::RefillClient => ("id:ann", ""),
            _ => ("signup", "hook"),
        };
        let mut parameters = [first, second].into_iter();
        let segments = call
            .path()
            .split('/')
            .map(|segment| match segment.starts_with(':') {
                true => parameters.next().unwrap(),
                false => segment,
            });
        let path = segments.collect::<Vec<_>>().join("/");
        let body = match call {
            Call::OpenLink => json!("open=1"),
            Call::CreateLink => json!({ "url": "https://example.com/" }),
            Call::CreateLinks => json!({ "links": [{ "url": "https://example.com/" }] }),
            Call::PutLink => json!({ "url": "https://example.com/put" }),
            Call::PostYourls => json!("action=version&format=json"),
            Call::DubCreateLink | Call::DubUpsertLink => json!({ "url": "https://example.com/dub" }),
            Call::DubEditLink => json!({ "title": "changed" }),
            Call::DubCreateLinks => json!([{ "url": "https://example.com/dub" }]),
            Call::DubEditLinks => json!({ "linkIds": ["link_none"], "data": { "title": "changed" } }),
            Call::ShlinkCreateUrl => json!({ "longUrl": "https://example.com/" }),
            Call::ShlinkEditUrl => json!({ "title": "changed" }),
            Call::ShlinkSetRules => json!({ "redirectRules": [] }),
            Call::ShlinkRenameTag => json!({ "oldName": "old", "newName": "new" }),
            Call::ShlinkDomainRedirects => json!({ "domain": "localhost:3000" }),
            Call::EditLinks => json!({ "codes": ["owned"], "title": "changed" }),
            Call::DeleteLinks => json!({ "codes": ["owned"] }),
            Call::ClaimLinks => json!({ "tokens": [site.other_token] }),
            Call::PostMessage => json!({}),
            Call::VerifyReceipt => json!({ "receipt": "no.such.receipt" }),
            Call::EditLink => json!({ "title": "changed" }),
            Call::ExtendLink => json!({ "seconds": 60 }),
            Call::RotateKey => json!({ "graceSeconds": 60 }),
            Call::CreateCampaign => json!({ "id": "autumn", "quantity": 5 }),
            Call::EditCampaign => json!({ "quantity": 50 }),
            Call::CreateDraw => draw("autumn"),
            Call::PutEligible => json!({ "add": ["its-user"] }),
            Call::ImportCodes => json!({ "codes": ["one"] }),
            Call::PutSubscription => hook,
            Call::PutRoom => json!({ "path": "/queue", "admitPerSecond": 1 }),
            Call::PaceRoom => json!({ "perSecond": 2 }),
            Call::PutAccess => json!({ "action": "deny", "clients": ["id:mallory"] }),
            Call::PutOverride => json!({ "policy": "default", "capacity": 1, "refill": 1, "interval": 1 }),
            Call::Redrive | Call::RedriveGroup | Call::DeleteDeadLetters | Call::DeleteGroupDeadLetters => {
                json!({ "all": true })
            }
            Call::Replay => json!({ "fromSequence": 1 }),
            Call::PutGroup | Call::LeaseMessages | Call::JoinWaitlist => json!({}),
            Call::AskSqs | Call::AskSqsQueue => json!({}),
            Call::AckMessages | Call::NackMessages => json!({ "leaseIds": ["1-00000000000000aa"] }),
            Call::ExtendLeases => json!({ "leaseIds": ["1-00000000000000aa"], "leaseSeconds": 9 }),
            Call::CreateKey => json!({ "name": "another", "scopes": ["links"] }),
            _ => Value::Null,
        };
        (call.method(), path, body)
    }
}

fn draw(id: &str) -> Value {
    json!({
        "id": id, "pick": 2, "pool": { "from": 1, "to": 9 }, "perUser": 5, "closesAt": "2999-01-01T00:00:00Z",
        "prizes": [{ "matches": 2, "name": "first" }],
    })
}

/// A gateway with one of everything.
#[derive(Clone)]
struct Site {
    store: InMemoryStore,
    settings: Settings,
    count: Cell<u128>,
    keys: BTreeMap<&'static str, String>,
    own_token: String,
    other_token: String,
    message: String,
    spare_key: String,
    /// A claim that is held.
    held: String,
}

thread_local! {
    /// As each is at first: what takes some thirty calls is made once for all cells of a table.
    static SITE: Site = Site::made_anew();
}

impl Site {
    fn new() -> Self {
        SITE.with(Clone::clone)
    }

    fn made_anew() -> Self {
        let mut site = Self {
            store: InMemoryStore::new(),
            settings: Settings::parse(SETTINGS, "tollgate.toml").unwrap(),
            count: Cell::new(0),
            keys: BTreeMap::new(),
            own_token: String::new(),
            other_token: String::new(),
            message: String::new(),
            spare_key: String::new(),
            held: String::new(),
        };
        block_on(keys::install_admin(&site.store, ADMIN, START)).unwrap();
        for (name, scope, expires) in [
            ("links", Scope::Links, None),
            ("own", Scope::Links, None),
            ("campaigns", Scope::Campaigns, None),
            ("topics", Scope::Topics, None),
            ("expired", Scope::Admin, Some(START + 1)),
            ("deleted", Scope::Admin, None),
        ] {
            let (text, commit) = keys::mint(name, &[scope], expires, START, &|| site.fresh());
            block_on(site.store.commit(commit)).unwrap();
            site.keys.insert(name, text);
        }
        site.store.set_now(START + 2);
        let (own, expiry) = (site.keys["own"].clone(), "2030-01-01T00:00:00Z");
        let as_key = |key: &str| vec![("authorization", format!("Bearer {key}"))];
        let deleted = site.keys["deleted"].split('_').nth(1).unwrap().to_owned();
        site.made(
            "DELETE",
            &format!("/api/keys/{deleted}"),
            &as_key(ADMIN),
            &Value::Null,
        );
        let link = |code: &str| json!({ "url": "https://example.com/", "code": code, "expiresAt": expiry });
        site.made("POST", "/api/links", &as_key(&own), &link("owned"));
        let keeping = json!({ "url": "https://example.com/", "code": "keeping", "redirect": 307 });
        site.made("POST", "/api/links", &as_key(&own), &keeping);
        let client = |name: &str| vec![("x-client-id", name.to_owned())];
        let token = |made: Value| made["manageToken"].as_str().unwrap().to_owned();
        site.own_token = token(site.made("POST", "/api/links", &client("its-client"), &link("anonymous")));
        site.other_token = token(site.made("POST", "/api/links", &client("its-client"), &link("another")));
        let campaign = json!({ "id": "spring", "quantity": 10, "perUser": 5 });
        site.made("POST", "/api/campaigns", &as_key(ADMIN), &campaign);
        let list = json!({ "action": "deny", "clients": ["id:mallory"] });
        site.made("PUT", "/api/access/scrapers", &as_key(ADMIN), &list);
        let room = json!({ "path": "/queue", "admitPerSecond": 1 });
        site.made("PUT", "/api/rooms/queue", &as_key(ADMIN), &room);
        let user = vec![("x-user-id", "its-user".to_owned())];
        site.made("POST", "/api/campaigns/spring/claims", &user, &Value::Null);
        let campaign = json!({ "id": "untouched", "quantity": 1 });
        site.made("POST", "/api/campaigns", &as_key(ADMIN), &campaign);
        let campaign = json!({ "id": "line", "quantity": 1, "holdSeconds": 600, "waitlist": true });
        site.made("POST", "/api/campaigns", &as_key(ADMIN), &campaign);
        let first = vec![("x-user-id", "first".to_owned())];
        site.made("POST", "/api/campaigns/line/claims", &first, &Value::Null);
        let campaign = json!({ "id": "vouchers", "codes": "import" });
        site.made("POST", "/api/campaigns", &as_key(ADMIN), &campaign);
        let campaign = json!({ "id": "tickets", "quantity": 10, "holdSeconds": 600 });
        site.made("POST", "/api/campaigns", &as_key(ADMIN), &campaign);
        let held = site.made("POST", "/api/campaigns/tickets/claims", &user, &Value::Null);
        site.held = held["claim"]["id"].as_str().unwrap().to_owned();
        for id in ["easter", "may", "june"] {
            site.made("POST", "/api/draws", &as_key(ADMIN), &draw(id));
            let entries = format!("/api/draws/{id}/entries");
            site.made("POST", &entries, &user, &Value::Null);
        }
        site.made("POST", "/api/draws/june/draw", &as_key(ADMIN), &Value::Null);
        let posted = site.made(
            "POST",
            "/api/topics/signup/messages",
            &client("its-client"),
            &json!({}),
        );
        site.message = posted["id"].as_str().unwrap().to_owned();
        site.made(
            "PUT",
            "/api/topics/signup/subscriptions/hook",
            &as_key(ADMIN),
            &json!({ "url": "https://example.com/" }),
        );
        let group = "/api/topics/signup/groups/hook";
        site.made("PUT", group, &as_key(ADMIN), &json!({}));
        let spare = json!({ "name": "spare", "scopes": ["links"] });
        let made = site.made("POST", "/api/keys", &as_key(ADMIN), &spare);
        site.spare_key = made["id"].as_str().unwrap().to_owned();
        site
    }

    fn fresh(&self) -> [u8; 16] {
        self.count.set(self.count.get() + 1);
        self.count.get().to_be_bytes()
    }

    /// The answer of the component that the path is routed to.
    fn answer(&self, method: &str, path: &str, headers: &[(&str, String)], body: &Value) -> Response {
        let request = Request {
            method: tollgate_api::http::method(method),
            path: path.into(),
            query: None,
            headers: headers
                .iter()
                .map(|(name, value)| Header::new((*name).to_owned(), value.as_str()))
                .collect(),
            body: match body {
                Value::Null => Vec::new(),
                // A form.
                Value::String(text) => text.clone().into_bytes(),
                body => body.to_string().into_bytes(),
            },
            peer: "192.0.2.1".into(),
        };
        let fresh = || self.fresh();
        let world = World {
            store: &self.store,
            settings: &self.settings,
            now: self.store.now(),
            fresh: &fresh,
        };
        match self.settings.component(path) {
            Component::Shortener => block_on(links::handle(&world, &request)),
            Component::Coupon => block_on(campaigns::handle(&world, &request)),
            Component::Forward => block_on(forward::handle(&world, &request)),
            Component::Admin => block_on(admin::handle(&world, &InMemoryBuckets::default(), &request)),
        }
    }

    #[track_caller]
    fn made(&self, method: &str, path: &str, headers: &[(&str, String)], body: &Value) -> Value {
        let response = self.answer(method, path, headers, body);
        let text = String::from_utf8_lossy(&response.body);
        assert!((200..300).contains(&response.status), "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// A ticket that the caller has drawn.
    fn ticket_of(&self, caller: Caller) -> String {
        let credential = self.credentials(caller).into_iter().next().unwrap_or_default();
        let drawn = self.made("POST", "/api/rooms/sale/tickets", &credential, &Value::Null);
        drawn["ticket"].as_str().unwrap().to_owned()
    }

    /// The credentials that the caller sends; for a bad key, each way in which one can be bad.
    fn credentials(&self, caller: Caller) -> Vec<Vec<(&'static str, String)>> {
        let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
        let header = |name, value: &str| vec![vec![(name, value.to_owned())]];
        let half = &self.keys["links"][..self.keys["links"].len() / 2];
        match caller {
            Caller::Nobody => vec![Vec::new()],
            Caller::BadKey => vec![
                bearer(&self.keys["expired"]),
                bearer(&self.keys["deleted"]),
                bearer("a-key-that-nobody-has-ever-seen"),
                bearer(half),
                bearer("tg_configured_x"),
                bearer(""),
                bearer(&"k".repeat(10_000)),
                vec![("authorization", format!("Basic {ADMIN}"))],
                vec![("authorization", ADMIN.to_owned())],
            ],
            Caller::Links => vec![bearer(&self.keys["links"])],
            Caller::Campaigns => vec![bearer(&self.keys["campaigns"])],
            Caller::Topics => vec![bearer(&self.keys["topics"])],
            Caller::Admin => vec![bearer(ADMIN)],
            Caller::OwnKey => vec![bearer(&self.keys["own"])],
            Caller::OwnToken => vec![bearer(&self.own_token)],
            Caller::OtherToken => vec![bearer(&self.other_token)],
            Caller::OwnClient => header("x-client-id", "its-client"),
            Caller::OtherClient => header("x-client-id", "other-client"),
            Caller::OwnUser => header("x-user-id", "its-user"),
            Caller::OtherUser => header("x-user-id", "other-user"),
        }
    }
}

/// What a caller is answered by a call that no component knows, and our host as its access says: a test of that host holds
/// it to that.
fn only_on_our_host(row: Row, call: Call, caller: Caller) -> String {
    let site = Site::new();
    let (method, path, body) = row.request(&site, caller);
    for credential in site.credentials(caller) {
        assert_eq!(
            site.answer(method, &path, &credential, &body).status,
            404,
            "{call:?}"
        );
    }
    let column = CALLERS.iter().position(|(one, _)| *one == caller).unwrap();
    answers(call.access())[column].to_owned()
}

/// The answer to a caller, as the table writes it. Asserts that a refused call has changed nothing.
fn outcome(row: Row, caller: Caller) -> String {
    if let Row::Call(call) = row
        && call.is_host_only()
    {
        return only_on_our_host(row, call, caller);
    }
    let mut outcomes = Vec::new();
    for number in 0.. {
        let site = Site::new();
        let Some(credential) = site.credentials(caller).into_iter().nth(number) else {
            break;
        };
        let before = format!("{:?}", site.store);
        let (method, path, body) = row.request(&site, caller);
        let answer = site.answer(method, &path, &credential, &body);
        outcomes.push(match answer.status {
            200..400 => "yes".to_owned(),
            status if row.comes_to_nothing(status) => "yes".to_owned(),
            status => {
                assert_eq!(
                    format!("{:?}", site.store),
                    before,
                    "{row:?} by {caller:?} was refused and changed something"
                );
                let form = match path.as_str() {
                    path if path.starts_with(links::dub::PREFIX) => "application/json",
                    path if calls::is_sqs(path) => groups::sqs::MEDIA,
                    _ => "application/problem+json",
                };
                assert_eq!(answer.header("content-type"), Some(form));
                status.to_string()
            }
        });
    }
    outcomes.dedup();
    outcomes.join("/")
}

/// The answers to the callers where a call has this access, in the order of [`CALLERS`].
fn answers(access: Access) -> [&'static str; 13] {
    // An API key with one scope: with which scope it reaches so far; its own key has `links`.
    let key = |scope| {
        let reaches = |held| if scope == Some(held) { "yes" } else { "403" };
        let [links, campaigns, topics] = [Scope::Links, Scope::Campaigns, Scope::Topics].map(reaches);
        [links, campaigns, topics, "yes", links]
    };
    let (keys, [nobody, own_client, other_client, own_user, other_user]) = match access {
        Access::Anyone => return ["yes"; 13],
        Access::User => {
            let mut all = ["401"; 13];
            (all[11], all[12]) = ("yes", "yes");
            return all;
        }
        Access::Owner => {
            let (no, yes) = ("401", "yes");
            return [no, no, "403", "403", "403", yes, yes, yes, "403", no, no, no, no];
        }
        Access::Key(scope) => (key(Some(scope)), ["401"; 5]),
        Access::KeyOrClient(scope) => (key(Some(scope)), ["400", "yes", "yes", "400", "400"]),
        Access::AnyKeyOrClient => (["yes"; 5], ["400", "yes", "yes", "400", "400"]),
        Access::SenderOrKey(scope) => (key(Some(scope)), ["401", "yes", "403", "401", "401"]),
        Access::UserOrKey(scope) => (key(Some(scope)), ["401", "401", "401", "yes", "403"]),
        // The table's callers come from no proxy.
        Access::Proxy => return ["403"; 13],
        Access::AnyKey => (["yes"; 5], ["401"; 5]),
        Access::Session => return ["401"; 13],
    };
    let [links, campaigns, topics, admin, own] = keys;
    [
        nobody,
        "401",
        links,
        campaigns,
        topics,
        admin,
        own,
        "401",
        "401",
        own_client,
        other_client,
        own_user,
        other_user,
    ]
}

/// The table of the document: its columns, and by call its cells.
fn documented() -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_matches('|');
        inner.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with("| call |"));
    let columns = cells(lines.next().unwrap_or_default()).split_off(1);
    let rows = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut row = cells(line);
            (row.remove(0), row)
        });
    (columns, rows.collect())
}

#[test]
fn every_caller_may_do_exactly_what_the_table_of_security_md_says() {
    let (columns, mut rows) = documented();
    let names: Vec<&str> = CALLERS.iter().map(|(_, name)| *name).collect();
    assert_eq!(columns, names, "the columns of the table");
    let (mut found, mut wrong) = (String::new(), Vec::new());
    for row in Row::all() {
        let actual: Vec<String> = CALLERS.iter().map(|(caller, _)| outcome(row, *caller)).collect();
        found.push_str(&format!("| {} | {} |\n", row.label(), actual.join(" | ")));
        let expected = rows.remove(&row.label()).unwrap_or_default();
        if let Row::Call(call) = row {
            assert_eq!(
                expected,
                answers(call.access()),
                "{call:?}: the table and its access"
            );
        }
        if expected != actual {
            wrong.push(row.label());
        }
    }
    assert!(
        wrong.is_empty() && rows.is_empty(),
        "SECURITY.md differs at {wrong:?} and has rows for no call: {:?}\nThis is what is answered:\n{found}",
        rows.keys()
    );
}

/// Paths around every call's path: each segment left out, doubled, emptied, encoded, or replaced, and one more behind.
fn neighbours(path: &str) -> Vec<String> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let join = |segments: &[&str]| format!("/{}", segments.join("/"));
    let mut found = vec![
        path.to_owned(),
        format!("{path}/"),
        format!("{path}/more"),
        format!("/{path}"),
    ];
    for at in 0..segments.len() {
        for other in [
            &[][..],
            &[segments[at], segments[at]],
            &[""],
            &["nothing"],
            &["%2e%2e"],
            &[".."],
        ] {
            let mut changed = segments.clone();
            changed.splice(at..=at, other.iter().copied());
            found.push(join(&changed));
        }
        let mut changed = segments.clone();
        let (upper, encoded) = (
            segments[at].to_uppercase(),
            segments[at].replacen(['e', 'i', 'o'], "%65", 1),
        );
        changed[at] = &upper;
        found.push(join(&changed));
        changed[at] = &encoded;
        found.push(join(&changed));
    }
    found
}

#[test]
fn whatever_is_no_call_is_answered_404_or_405() {
    let site = Site::new();
    let key = [("authorization", format!("Bearer {ADMIN}"))];
    let configured = tollgate_api::pattern::Pattern::parse("/signup").unwrap();
    let examples: Vec<String> = Row::all()
        .into_iter()
        .map(|row| row.request(&site, Caller::Admin).1)
        .collect();
    let mut paths: Vec<String> = examples.iter().flat_map(|path| neighbours(path)).collect();
    paths.sort();
    paths.dedup();
    // Of any method, with any tail.
    paths.retain(|path| !crate::limiter::is_check(path));
    for path in &paths {
        // One slash behind a code does not count.
        let code = path
            .strip_suffix('/')
            .filter(|code| code.len() > 1 && !code[1..].contains('/'));
        let read = code.unwrap_or(path);
        let on_path: Vec<Call> = Call::ALL
            .iter()
            .copied()
            .filter(|call| is_at(call, read) && site.settings.component(path) == call.component())
            .collect();
        let literal = on_path.iter().any(|call| call.path() == read);
        let on_path: Vec<Call> = on_path
            .into_iter()
            .filter(|call| !literal || call.path() == read)
            .collect();
        // No answer of these changes anything.
        let site = Site::new();
        let before = format!("{:?}", site.store);
        for method in METHODS {
            let listed = on_path.iter().any(|call| call.takes(method))
                || (*method == "POST" && configured.matches(path));
            for headers in [&key[..], &[]] {
                if listed {
                    continue;
                }
                let answer = site.answer(method, path, headers, &Value::Null);
                let status = answer.status;
                assert!(
                    matches!(status, 404 | 405),
                    "{method} {path} is no call and was answered {status}"
                );
                if status == 405 {
                    let allow = answer.header("allow").unwrap();
                    assert!(
                        !allow.split(", ").any(|allowed| allowed == *method),
                        "{method} {path}: {allow}"
                    );
                    for call in &on_path {
                        assert!(
                            allow.split(", ").any(|allowed| allowed == call.method()),
                            "{path}: {allow}"
                        );
                    }
                }
            }
        }
        assert_eq!(format!("{:?}", site.store), before, "{path}");
    }
}

#[test]
fn every_call_is_found_where_its_path_is_routed() {
    let settings = Settings::default();
    for call in Call::ALL {
        let path = call.path().replace(':', "a-");
        assert_eq!(settings.component(&path), call.component(), "{path}");
        let native = Call::native(call.method(), &path).map(|found| found.map(|(found, _)| found));
        assert_eq!(native, call.is_native().then_some(Ok(*call)), "{path}");
        let mut request = Request {
            method: call.method().into(),
            path: path.clone(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            peer: String::new(),
        };
        assert_eq!(
            calls::find(call.component(), &request).map(|(found, _)| found),
            Ok(*call)
        );
        request.method = "HEAD".into();
        let head = calls::find(call.component(), &request).is_ok();
        let get = Call::ALL
            .iter()
            .any(|other| other.path() == call.path() && other.method() == "GET");
        assert_eq!(head, get, "{path}");
    }
}

/// Whether a path is the call's: its segments, with something in the place of each parameter.
fn is_at(call: &Call, path: &str) -> bool {
    let (expected, found): (Vec<_>, Vec<_>) = (call.path().split('/').collect(), path.split('/').collect());
    let is_like = |(expected, found): (&&str, &&str)| match expected.strip_prefix(':') {
        Some(_) => !found.is_empty(),
        None => expected == found,
    };
    expected.len() == found.len() && expected.iter().zip(&found).all(is_like)
}

#[test]
fn native_calls_are_told_the_methods_of_their_paths() {
    for (method, path, allow) in [
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/admin/session", "POST, GET, HEAD, DELETE"),
        ("DELETE", "/health/live", "GET, HEAD"),
    ] {
        let refused = Call::native(method, path).unwrap().unwrap_err().into_response();
        assert_eq!(
            (refused.status, refused.header("allow")),
            (405, Some(allow)),
            "{path}"
        );
    }
    for path in [
        "/abc",
        "/admin/",
        "/admin/assets/",
        "/admin/assets/a/b",
        "/administer",
        "/health/",
        "//",
        "",
    ] {
        assert!(Call::native("GET", path).is_none(), "{path}");
    }
    let file = Call::native("HEAD", "/admin/assets/app.js").unwrap().unwrap();
    assert_eq!(file, (Call::DashboardFile, ["app.js", ""]));
}

#[test]
fn what_the_table_says_of_a_call_holds() {
    let site = Site::new();
    for call in Call::ALL.iter().copied() {
        let (method, path, body) = Row::Call(call).request(&site, Caller::Admin);
        assert_eq!(call.has_body(), !body.is_null(), "{call:?}");
        assert_eq!(
            calls::is_hot(call.component(), method, &path),
            call.is_hot(),
            "{call:?}"
        );
        assert_eq!(calls::is_bulk(&path), call.is_bulk(), "{call:?}");
        assert!(call.takes(method));
    }
    assert!(
        calls::is_hot(Component::Shortener, "HEAD", "/abc")
            && calls::is_hot(Component::Forward, "PUT", "/signup")
    );
}

#[test]
fn crawlers_are_told_of_what_is_our_own() {
    let site = Site::new();
    let answer = site.answer("GET", "/robots.txt", &[], &Value::Null);
    let text = String::from_utf8(answer.body).unwrap();
    let forbidden: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("Disallow: /"))
        .collect();
    for one in &forbidden {
        assert!(
            calls::own_segments().any(|own| one.trim_end_matches('/') == own),
            "{one}"
        );
    }
    // Links are for everybody; whether we are well, and this very text, harm nobody.
    let harmless = |call: &&Call| {
        let path = call.path();
        let public = [Call::Robots, Call::Icon, Call::Welcome, Call::ReadJwks];
        !path.starts_with("/:") && !Call::is_health(path) && !public.contains(call)
    };
    for call in Call::ALL.iter().filter(harmless) {
        assert!(
            forbidden.iter().any(|one| call.path()[1..].starts_with(one)),
            "{call:?}"
        );
    }
}

#[test]
fn what_is_our_own_is_nobody_elses() {
    let own: Vec<&str> = calls::own_segments().collect();
    let mut distinct = own.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), own.len());
    let settings = Settings::default();
    for segment in own {
        let path = format!("/{segment}");
        let call = Call::ALL.iter().find(|call| call.path() == path);
        let expected = call.map_or(Component::Admin, |call| call.component());
        assert_eq!(settings.component(&path), expected, "{segment}");
        assert_ne!(expected, Component::Shortener, "{segment}");
    }
}
