//! Rooms on the store in memory.

use serde_json::{Value, json};

use crate::limiter::{self, Verdict};
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, SECOND, body, pointer, ready, request, slug, text};
use crate::world::World;
use tollgate_api::http::Response;
use tollgate_store::memory::START;

const FILE: &str = "[server]\ntrusted_proxies = [\"192.0.2.9\"]\n\
    [[rooms]]\nname = \"sale\"\npath = \"/sale\"\nadmit_per_second = 2\nsession = \"10s\"\ntitle = \"Tea & <b>biscuits</b>\"\n";
const BROWSER: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";

impl Gateway {
    /// Through the limiter, as an adapter does it.
    pub(crate) fn through(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let request = request(method, path, headers, body);
        self.through_as(&request)
    }

    fn through_as(&self, request: &tollgate_api::http::Request) -> Response {
        let fresh = || self.fresh();
        let world = World {
            store: &self.store,
            settings: &self.settings,
            now: self.store.now(),
            fresh: &fresh,
        };
        match ready(limiter::check(&world, &self.buckets, request)) {
            Verdict::Answer(response) => response,
            Verdict::Admit(added) => {
                let mut response = self.send(request);
                response.headers.extend(added);
                response
            }
        }
    }

    fn draw(&self, room: &str, client: &str) -> Value {
        let path = format!("/api/rooms/{room}/tickets");
        let drawn = self.through("POST", &path, &[("x-client-id", client)], &Value::Null);
        assert_eq!(drawn.status, 201, "{}", text(&drawn));
        body(&drawn)
    }

    fn look(&self, room: &str, client: &str, ticket: &Value) -> Value {
        let path = format!("/api/rooms/{room}/tickets/{}", ticket["ticket"].as_str().unwrap());
        let seen = self.through("GET", &path, &[("x-client-id", client)], &Value::Null);
        assert_eq!(seen.status, 200, "{}", text(&seen));
        body(&seen)
    }

    fn wait_ms(&self, ms: u64) {
        self.store.set_now(self.store.now() + ms);
    }

    /// A room over the API, in force.
    fn room(&mut self, name: &str, settings: &Value) -> Response {
        let answer = self.admin("PUT", &format!("/api/rooms/{name}"), settings);
        self.adopt();
        answer
    }

    fn adopt(&mut self) {
        let entry = ready(crate::run_time::entry(&self.store)).unwrap();
        let record = entry.map(|entry| entry.value).unwrap_or_default();
        self.settings.set_run_time(&record).unwrap();
    }

    fn read_room(&self, name: &str) -> Value {
        body(&self.through("GET", &format!("/api/rooms/{name}"), &[], &Value::Null))
    }
}

fn gateway() -> Gateway {
    let gateway = Gateway::with_settings(Settings::parse(FILE, "tollgate.toml").unwrap());
    let link = json!({ "url": "https://example.com/", "code": "sale" });
    assert_eq!(gateway.admin("POST", "/api/links", &link).status, 201);
    // Its counter begins with the first look.
    gateway.read_room("sale");
    gateway
}

#[test]
fn a_ticket_is_told_as_events_that_say_when_to_ask_again() {
    let gateway = gateway();
    gateway.draw("sale", "a");
    let ticket = gateway.draw("sale", "b");
    let path = format!("/api/rooms/sale/tickets/{}", ticket["ticket"].as_str().unwrap());
    let listen = |last: &str| {
        let headers = [
            ("x-client-id", "b"),
            ("accept", "text/event-stream"),
            ("last-event-id", last),
        ];
        gateway.through("GET", &path, &headers, &Value::Null)
    };
    let event = |response: &Response| -> (String, Value) {
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        let headers = response.headers.iter();
        let kept = headers.filter(|header| header.name == "cache-control").count();
        assert_eq!(kept, 1);
        let text = text(response);
        let rest = text.strip_prefix("retry: 1000\nid: ").expect(&text);
        let (id, data) = rest.split_once("\nevent: ticket\ndata: ").expect(rest);
        let data = data.strip_suffix("\n\n").expect(data);
        (id.to_owned(), serde_json::from_str(data).unwrap())
    };
    let (id, data) = event(&listen(""));
    assert_eq!(
        (&*id, &data["state"], &data["token"]),
        ("waiting", &json!("waiting"), &Value::Null)
    );
    gateway.wait_ms(1_000);
    // What was told of the waiting does not end the listening.
    let (id, data) = event(&listen("waiting"));
    assert_eq!((&*id, &data["state"]), ("admitted", &json!("admitted")));
    assert!(data["token"].is_string(), "{data}");
    assert_eq!(listen("admitted").status, 204, "an EventSource ends");
    gateway.wait_ms(10_000);
    assert_eq!(event(&listen("admitted")).0, "expired");
    assert_eq!(listen("expired").status, 204);
}

#[test]
fn turns_come_in_order_at_the_pace() {
    let gateway = gateway();
    let names: Vec<String> = (0..10).map(|number| format!("c{number}")).collect();
    let tickets: Vec<Value> = names.iter().map(|name| gateway.draw("sale", name)).collect();
    for (index, ticket) in tickets.iter().enumerate() {
        assert_eq!(ticket["position"], json!(index + 1));
    }
    assert_eq!(tickets[9]["etaSeconds"], 5);
    for half in 0..=10_usize {
        for (index, (name, ticket)) in names.iter().zip(&tickets).enumerate() {
            let seen = gateway.look("sale", name, ticket);
            let expected = if index < half { "admitted" } else { "waiting" };
            assert_eq!(seen["state"], expected, "{half} {index}");
            assert_eq!(seen["position"], json!((index + 1).saturating_sub(half)));
            assert_eq!(seen["token"].is_string(), index < half);
        }
        gateway.wait_ms(SECOND / 2);
    }
    let room = gateway.read_room("sale");
    assert_eq!(
        (&room["waiting"], &room["admitted"], &room["perSecond"]),
        (&json!(0), &json!(10), &json!(2))
    );
}

#[test]
fn turns_that_nobody_took_admit_no_crowd_later() {
    let gateway = gateway();
    gateway.wait_ms(3_600 * SECOND);
    let first = gateway.draw("sale", "a");
    assert_eq!(first["position"], 0);
    for number in 1..=6 {
        assert_eq!(gateway.draw("sale", "b")["position"], json!(number));
    }
    assert_eq!(gateway.read_room("sale")["waiting"], 6);
}

#[test]
fn a_look_that_waits_is_told_from_others() {
    let of = |query| {
        super::Patience::of("GET", "/api/rooms/sale/tickets/x", Some(query)).map(|one| one.wait.as_secs())
    };
    assert_eq!((of("wait=1"), of("wait=30")), (Some(1), Some(30)));
    for other in [
        "",
        "wait=0",
        "wait=31",
        "wait=-1",
        "wait=+1",
        "wait=1&wait=1",
        "x=1",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
    let gateway = gateway();
    let ticket = gateway.draw("sale", "a");
    let again = |ticket: &Value| {
        super::Patience::again(&serde_json::to_vec(&gateway.look("sale", "a", ticket)).unwrap())
    };
    assert_eq!(again(&ticket).map(|wait| wait.as_millis()), Some(100));
    gateway.wait_ms(SECOND);
    assert_eq!(again(&ticket), None);
    let path = format!(
        "/api/rooms/sale/tickets/{}?wait=31",
        ticket["ticket"].as_str().unwrap()
    );
    assert_eq!(
        pointer(&gateway.through("GET", &path, &[("x-client-id", "a")], &Value::Null)),
        "query:wait"
    );
}

#[test]
fn a_session_ends_and_a_late_ticket_begins_when_it_is_drawn() {
    let gateway = gateway();
    gateway.wait_ms(60 * SECOND + 400);
    let ticket = gateway.draw("sale", "a");
    assert_eq!(gateway.look("sale", "a", &ticket)["state"], "admitted");
    gateway.wait_ms(10 * SECOND - 1);
    let token = gateway.look("sale", "a", &ticket)["token"].clone();
    let visit = |token: &str| {
        gateway.through(
            "GET",
            "/sale",
            &[("x-client-id", "a"), ("x-room-token", token)],
            &Value::Null,
        )
    };
    assert_eq!(visit(token.as_str().unwrap()).status, 302);
    gateway.wait_ms(1);
    assert_eq!(gateway.look("sale", "a", &ticket)["state"], "expired");
    let refused = visit(token.as_str().unwrap());
    assert_eq!((refused.status, slug(&refused)), (429, "waiting-room".into()));
    assert_eq!(gateway.look("sale", "a", &ticket)["token"], Value::Null);
}

#[test]
fn without_a_token_of_ones_own_nobody_passes() {
    let gateway = gateway();
    let refused = gateway.through("GET", "/sale", &[("x-client-id", "a")], &Value::Null);
    assert_eq!((refused.status, slug(&refused)), (429, "waiting-room".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(body(&refused)["tickets"], "/api/rooms/sale/tickets");
    let ticket = gateway.draw("sale", "a");
    let text = ticket["ticket"].as_str().unwrap();
    let visit = |client: &str, token: &str| {
        gateway.through(
            "GET",
            "/sale",
            &[("x-client-id", client), ("x-room-token", token)],
            &Value::Null,
        )
    };
    let waiting = visit("a", text);
    assert_eq!(
        (waiting.status, body(&waiting)["position"].clone()),
        (429, json!(1))
    );
    gateway.wait_ms(SECOND);
    let token = gateway.look("sale", "a", &ticket)["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(visit("a", &token).status, 302);
    assert_eq!(
        visit("a", text).status,
        302,
        "a ticket whose turn has come is as good"
    );
    for (client, token) in [("b", &*token), ("b", text), ("a", "AAAA"), ("a", "")] {
        assert_eq!(visit(client, token).status, 429, "{client} {token}");
    }
    let path = format!("/api/rooms/sale/tickets/{text}");
    assert_eq!(
        gateway
            .through("GET", &path, &[("x-client-id", "b")], &Value::Null)
            .status,
        404
    );
    let path = format!("/api/rooms/sale/tickets/{token}");
    assert_eq!(
        gateway
            .through("GET", &path, &[("x-client-id", "a")], &Value::Null)
            .status,
        404,
        "a token is no ticket"
    );
    let twice = [
        ("x-client-id", "a"),
        ("x-room-token", &*token),
        ("x-room-token", &*token),
    ];
    assert_eq!(
        pointer(&gateway.through("GET", "/sale", &twice, &Value::Null)),
        "header:x-room-token"
    );
    // A user's is the user's, from wherever it comes.
    let draw = gateway.through(
        "POST",
        "/api/rooms/sale/tickets",
        &[("x-user-id", "u")],
        &Value::Null,
    );
    gateway.wait_ms(SECOND);
    let ticket = body(&draw)["ticket"].as_str().unwrap().to_owned();
    let visit = |headers: &[(&str, &str)]| gateway.through("GET", "/sale", headers, &Value::Null).status;
    assert_eq!(
        visit(&[
            ("x-user-id", "u"),
            ("x-client-id", "z"),
            ("x-room-token", &ticket)
        ]),
        302
    );
    assert_eq!(visit(&[("x-user-id", "v"), ("x-room-token", &ticket)]), 429);
}

#[test]
fn every_text_of_the_path_is_behind_the_room_and_nothing_else() {
    let gateway = gateway();
    for path in ["/sale", "/s%61le", "/sale/", "/sale?x=1"] {
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(
                gateway.through(method, path, &[], &Value::Null).status,
                429,
                "{method} {path}"
            );
        }
    }
    for path in ["/salt", "/sale/x", "/api/rooms/sale", "/health/ready"] {
        assert_ne!(
            gateway.through("GET", path, &[], &Value::Null).status,
            429,
            "{path}"
        );
    }
}

#[test]
fn a_browser_waits_on_a_page_in_its_language_and_passes() {
    let gateway = gateway();
    // The next turn is somebody else's.
    gateway.draw("sale", "other");
    let mut cookie = String::new();
    for (language, tag, said) in [
        ("en", "en", "Your place in line: "),
        ("de-AT,de;q=0.9", "de", "Ihr Platz in der Schlange: "),
        ("ko", "ko", "대기 순번: "),
        ("fr", "en", "Your place in line: "),
    ] {
        let headers = [("accept", BROWSER), ("accept-language", language)];
        let page = gateway.through("GET", "/sale", &headers, &Value::Null);
        assert_eq!(page.status, 429);
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let html = text(&page);
        assert!(html.contains(&format!("<html lang=\"{tag}\">")), "{html}");
        assert!(
            html.contains(said) && html.contains("http-equiv=\"refresh\""),
            "{html}"
        );
        assert!(
            html.contains("Tea &amp; &lt;b&gt;biscuits&lt;/b&gt;") && !html.contains("<b>"),
            "{html}"
        );
        assert!(
            !html.contains("<script") && html.contains("role=\"status\""),
            "{html}"
        );
        let set = page.header("set-cookie").unwrap().to_owned();
        assert!(
            set.starts_with("tollgate-room-sale=") && set.contains("HttpOnly; SameSite=Lax"),
            "{set}"
        );
        if cookie.is_empty() {
            cookie = set.split(';').next().unwrap().to_owned();
        }
    }
    let cookie = format!("x=1; {cookie}; y=2");
    let headers = [("accept", BROWSER), ("cookie", &*cookie)];
    let again = gateway.through("GET", "/sale", &headers, &Value::Null);
    assert_eq!(
        (again.status, again.header("set-cookie")),
        (429, None),
        "it keeps its place"
    );
    assert!(
        text(&again).contains("Your place in line: 2."),
        "{}",
        text(&again)
    );
    gateway.wait_ms(SECOND);
    assert_eq!(
        gateway.through("GET", "/sale", &headers, &Value::Null).status,
        302
    );
    // Its session over, it is given another place.
    gateway.wait_ms(12 * SECOND);
    let anew = gateway.through("GET", "/sale", &headers, &Value::Null);
    assert!(anew.header("set-cookie").is_some());
}

#[test]
fn where_nobody_waits_a_browser_passes_at_once() {
    let gateway = gateway();
    gateway.wait_ms(SECOND);
    let visit = gateway.through("GET", "/sale", &[("accept", BROWSER)], &Value::Null);
    assert_eq!(visit.status, 302);
    assert!(
        visit
            .header("set-cookie")
            .unwrap()
            .starts_with("tollgate-room-sale=")
    );
}

#[test]
fn a_proxy_is_told_to_let_wait() {
    let gateway = gateway();
    let ask = |token: &str| {
        let headers = [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/sale"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-client-id", "a"),
            ("x-room-token", token),
        ];
        let mut request = request("GET", "/api/check", &headers, &Value::Null);
        request.peer = "192.0.2.9".into();
        gateway.through_as(&request)
    };
    assert_eq!(slug(&ask("none")), "waiting-room");
    let ticket = gateway.draw("sale", "a");
    gateway.wait_ms(SECOND);
    let token = gateway.look("sale", "a", &ticket)["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(ask(&token).status, 204);
}

#[test]
fn a_pause_and_another_pace_keep_everybodys_place() {
    let gateway = gateway();
    let tickets: Vec<Value> = (0..8).map(|_| gateway.draw("sale", "a")).collect();
    gateway.wait_ms(1_250);
    let post = |what: &str, body: &Value| gateway.admin("POST", &format!("/api/rooms/sale/{what}"), body);
    assert_eq!(body(&post("pause", &Value::Null))["state"], "paused");
    gateway.wait_ms(60 * SECOND);
    let seen = gateway.look("sale", "a", &tickets[2]);
    assert_eq!(
        (&seen["position"], &seen["etaSeconds"]),
        (&json!(1), &Value::Null)
    );
    let refused = gateway.through("GET", "/sale", &[], &Value::Null);
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert_eq!(body(&post("pace", &json!({ "perSecond": 4 })))["state"], "paused");
    assert_eq!(body(&post("resume", &Value::Null))["perSecond"], 4);
    // Half a turn had come before: the third comes after half of what one takes now.
    gateway.wait_ms(124);
    assert_eq!(gateway.look("sale", "a", &tickets[2])["state"], "waiting");
    gateway.wait_ms(1);
    assert_eq!(gateway.look("sale", "a", &tickets[2])["state"], "admitted");
    gateway.wait_ms(SECOND);
    assert_eq!(gateway.look("sale", "a", &tickets[6])["state"], "admitted");
    assert_eq!(gateway.look("sale", "a", &tickets[7])["state"], "waiting");
    for bad in [
        json!({ "perSecond": 0 }),
        json!({ "perSecond": 10_001 }),
        json!({ "perSecond": -1 }),
    ] {
        assert_eq!(pointer(&post("pace", &bad)), "#/perSecond");
    }
}

#[test]
fn the_file_changes_the_pace_and_keeps_places() {
    let mut gateway = gateway();
    let tickets: Vec<Value> = (0..20).map(|_| gateway.draw("sale", "a")).collect();
    gateway.wait_ms(SECOND);
    let faster = FILE.replace("admit_per_second = 2", "admit_per_second = 10.5");
    gateway.settings = Settings::parse(&faster, "tollgate.toml").unwrap();
    assert_eq!(gateway.read_room("sale")["perSecond"], json!(10.5));
    gateway.wait_ms(SECOND);
    assert_eq!(gateway.look("sale", "a", &tickets[11])["state"], "admitted");
    assert_eq!(gateway.look("sale", "a", &tickets[12])["state"], "waiting");
}

#[test]
fn before_it_opens_places_are_by_lot_and_known_to_nobody() {
    let mut gateway = gateway();
    let opens = tollgate_api::time::format(START + 60 * SECOND);
    let room = json!({ "path": "/early", "admitPerSecond": 10, "opens": opens });
    let made = gateway.room("early", &room);
    assert_eq!((made.status, &body(&made)["state"]), (201, &json!("scheduled")));
    let tickets: Vec<Value> = (0..400).map(|_| gateway.draw("early", "a")).collect();
    for ticket in [&tickets[0], &gateway.look("early", "a", &tickets[1])] {
        assert_eq!(
            (&ticket["position"], &ticket["etaSeconds"]),
            (&Value::Null, &json!(60))
        );
    }
    let room = gateway.read_room("early");
    assert_eq!((&room["waiting"], &room["admitted"]), (&json!(400), &json!(0)));
    gateway.store.set_now(START + 60 * SECOND);
    let late = gateway.draw("early", "a");
    assert_eq!(late["position"], 401, "whoever comes later is behind them");
    let place = |ticket: &Value| gateway.look("early", "a", ticket)["position"].as_u64().unwrap();
    let places: Vec<u64> = tickets.iter().map(place).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(1..=400), "each has a place of its own");
    let kept = places
        .iter()
        .zip(1..)
        .filter(|(place, number)| **place == *number)
        .count();
    assert!(kept < 20, "{kept} have the place that they came in");
    gateway.wait_ms(20 * SECOND);
    assert_eq!(gateway.read_room("early")["admitted"], 200);
    let admitted = tickets
        .iter()
        .filter(|ticket| gateway.look("early", "a", ticket)["state"] == "admitted");
    assert_eq!(admitted.count(), 200);
    // It has opened, and does not open again.
    let again = tollgate_api::time::format(START + 600 * SECOND);
    let answer = gateway.room(
        "early",
        &json!({ "path": "/early", "admitPerSecond": 10, "opens": again }),
    );
    assert_eq!(answer.status, 409);
}

#[test]
fn an_opening_that_was_moved_holds() {
    let mut gateway = gateway();
    let at = |seconds| tollgate_api::time::format(START + seconds * SECOND);
    let room = |opens: String| json!({ "path": "/early", "admitPerSecond": 1, "opens": opens });
    gateway.room("early", &room(at(60)));
    let ticket = gateway.draw("early", "a");
    assert_eq!(gateway.room("early", &room(at(90))).status, 200);
    gateway.store.set_now(START + 60 * SECOND);
    assert_eq!(gateway.look("early", "a", &ticket)["etaSeconds"], 30);
    gateway.store.set_now(START + 91 * SECOND);
    assert_eq!(gateway.look("early", "a", &ticket)["state"], "admitted");
}

#[test]
fn a_capacity_bounds_the_pace() {
    let mut gateway = gateway();
    let room = json!({ "path": "/x", "admitPerSecond": 100, "session": 20, "capacity": 10 });
    assert_eq!(body(&gateway.room("x", &room))["perSecond"], json!(0.5));
    let pace = gateway.admin("POST", "/api/rooms/x/pace", &json!({ "perSecond": 50 }));
    assert_eq!(body(&pace)["perSecond"], json!(0.5));
}

#[test]
fn rooms_are_made_listed_changed_and_removed() {
    let mut gateway = gateway();
    let room = json!({ "path": "/x/...", "admitPerSecond": 1 });
    assert_eq!(gateway.room("x", &room).status, 201);
    let ticket = gateway.draw("x", "a");
    assert_eq!(
        gateway
            .room("x", &json!({ "path": "/y", "admitPerSecond": 3 }))
            .status,
        200
    );
    assert_eq!(
        gateway.look("x", "a", &ticket)["position"],
        1,
        "its place is kept"
    );
    assert_eq!(gateway.through("GET", "/x/1", &[], &Value::Null).status, 404);
    assert_eq!(gateway.through("GET", "/y", &[], &Value::Null).status, 429);
    let all = body(&gateway.admin("GET", "/api/rooms", &Value::Null));
    let names: Vec<_> = all["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| room["name"].clone())
        .collect();
    assert_eq!(names, ["sale", "x"]);
    assert_eq!(gateway.admin("DELETE", "/api/rooms/x", &Value::Null).status, 204);
    gateway.adopt();
    assert_eq!(gateway.admin("DELETE", "/api/rooms/x", &Value::Null).status, 404);
    assert_ne!(gateway.through("GET", "/y", &[], &Value::Null).status, 429);
    // One that takes its name knows none of its tickets.
    gateway.room("x", &room);
    let path = format!("/api/rooms/x/tickets/{}", ticket["ticket"].as_str().unwrap());
    assert_eq!(
        gateway
            .through("GET", &path, &[("x-client-id", "a")], &Value::Null)
            .status,
        404
    );
    assert_eq!(gateway.draw("x", "a")["position"], 1);
    for (method, path) in [("PUT", "/api/rooms/sale"), ("DELETE", "/api/rooms/sale")] {
        assert_eq!(gateway.admin(method, path, &room).status, 409);
    }
}

#[test]
fn a_thousand_rooms_are_found_by_path() {
    let mut gateway = gateway();
    for number in 0..super::MAX_ROOMS {
        let room = json!({ "path": format!("/r{number}/..."), "admitPerSecond": 1 });
        assert_eq!(
            gateway
                .admin("PUT", &format!("/api/rooms/r{number}"), &room)
                .status,
            201
        );
    }
    gateway.adopt();
    let room = json!({ "path": "/more", "admitPerSecond": 1 });
    assert_eq!(gateway.admin("PUT", "/api/rooms/more", &room).status, 409);
    for number in [0, 500, 999] {
        let refused = gateway.through("GET", &format!("/r{number}/a"), &[], &Value::Null);
        assert_eq!(body(&refused)["room"], format!("r{number}"));
    }
}

#[test]
fn what_is_set_wrong_is_named_and_changes_nothing() {
    let gateway = gateway();
    let before = format!("{:?}", gateway.store);
    for (wrong, field) in [
        (json!({ "path": "x", "admitPerSecond": 1 }), "#/path"),
        (
            json!({ "path": "/x", "admitPerSecond": 0.001 }),
            "#/admitPerSecond",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "session": 9 }),
            "#/session",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "session": 86_401 }),
            "#/session",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "capacity": 0 }),
            "#/capacity",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "capacity": 1, "session": 86_400 }),
            "#/capacity",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "title": "" }),
            "#/title",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "opens": "soon" }),
            "#/opens",
        ),
        (
            json!({ "path": "/x", "admitPerSecond": 1, "color": "red" }),
            "#/color",
        ),
    ] {
        let answer = gateway.admin("PUT", "/api/rooms/x", &wrong);
        assert_eq!(pointer(&answer), field, "{wrong}");
    }
    assert_eq!(
        pointer(&gateway.admin(
            "PUT",
            "/api/rooms/X",
            &json!({ "path": "/x", "admitPerSecond": 1 })
        )),
        "path:name"
    );
    assert_eq!(format!("{:?}", gateway.store), before);
    assert_eq!(gateway.with("", "GET", "/api/rooms", &Value::Null).status, 401);
    assert_eq!(gateway.with(ADMIN, "GET", "/api/rooms", &Value::Null).status, 200);
}

#[test]
fn a_campaign_behind_a_room_takes_claims_of_who_was_admitted() {
    let gateway = gateway();
    let campaign = json!({ "id": "c", "quantity": 5, "room": "sale" });
    assert_eq!(
        body(&gateway.admin("POST", "/api/campaigns", &campaign))["room"],
        "sale"
    );
    let unknown = json!({ "id": "d", "quantity": 5, "room": "none" });
    assert_eq!(
        pointer(&gateway.admin("POST", "/api/campaigns", &unknown)),
        "#/room"
    );
    let claim = |user: &str, token: &str| {
        let headers = [("x-user-id", user), ("x-room-token", token)];
        gateway.through("POST", "/api/campaigns/c/claims", &headers, &Value::Null)
    };
    assert_eq!(slug(&claim("ann", "")), "waiting-room");
    let drawn = gateway.through(
        "POST",
        "/api/rooms/sale/tickets",
        &[("x-user-id", "ann")],
        &Value::Null,
    );
    let ticket = body(&drawn)["ticket"].as_str().unwrap().to_owned();
    let refused = claim("ann", &ticket);
    assert_eq!(
        (slug(&refused), body(&refused)["position"].clone()),
        ("waiting-room".into(), json!(1))
    );
    let headers = [("x-user-id", "ann")];
    let path = "/api/campaigns/c/claims/eligibility";
    let tried = body(&gateway.through("GET", path, &headers, &Value::Null));
    assert_eq!(tried["problem"]["type"], "urn:tollgate:problem:waiting-room");
    gateway.wait_ms(SECOND);
    assert_eq!(slug(&claim("bob", &ticket)), "waiting-room");
    assert_eq!(claim("ann", &ticket).status, 201);
    // A room that is gone lets nobody pass.
    let without = Settings::parse("[server]\n", "tollgate.toml").unwrap();
    let gateway = Gateway {
        settings: without,
        ..gateway
    };
    let headers = [("x-user-id", "cleo"), ("x-room-token", &*ticket)];
    let refused = gateway.through("POST", "/api/campaigns/c/claims", &headers, &Value::Null);
    assert_eq!(refused.status, 503);
}

/// What many do at once: drawing before, at and after the opening, with lost replies.
#[test]
fn no_number_is_given_twice_whoever_draws_when_it_opens() {
    let mut gateway = gateway();
    let opens = tollgate_api::time::format(START + 5 * SECOND);
    gateway.room(
        "early",
        &json!({ "path": "/early", "admitPerSecond": 1000, "opens": opens }),
    );
    let mut tickets = Vec::new();
    for number in 0..300_u64 {
        gateway.store.set_now(START + number * SECOND / 30);
        tickets.push(gateway.draw("early", "a"));
    }
    let record = ready(super::record::find(&gateway.store, "early"))
        .unwrap()
        .unwrap()
        .record;
    let turn = |ticket: &Value| {
        let pass = record.read(ticket["ticket"].as_str().unwrap(), "id:a").unwrap();
        record.turn_of(pass).unwrap().0
    };
    let mut turns: Vec<u64> = tickets.iter().map(turn).collect();
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), tickets.len());
}
