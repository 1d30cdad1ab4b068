//! Waiting rooms: places, the pace, the page, and what a room is in front of.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, crowd, eventually, in_seconds, unique};

/// A room over the API, in force.
async fn room(gateway: &Gateway, settings: Value) -> String {
    let name = unique("room");
    let mut body = json!({ "path": format!("/{name}"), "admitPerSecond": 10 });
    let settings = settings.as_object().expect("settings are an object").clone();
    body.as_object_mut().expect("so is this").extend(settings);
    let path = format!("/api/rooms/{name}");
    gateway
        .put(&path)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    // Under Spin the first of all is in force within a second.
    eventually("the room is in force", async || {
        let answer = gateway.get(&path).send().await;
        (answer.status == 200).then_some(())
    })
    .await;
    name
}

async fn draw(gateway: &Gateway, room: &str, client: &str) -> Value {
    let path = format!("/api/rooms/{room}/tickets");
    gateway.post(&path).client(client).send().await.expect(201).json()
}

async fn look(gateway: &Gateway, room: &str, client: &str, ticket: &Value) -> Value {
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let path = format!("/api/rooms/{room}/tickets/{ticket}");
    gateway.get(&path).client(client).send().await.expect(200).json()
}

async fn visit(gateway: &Gateway, path: &str, client: &str, token: &str) -> Answer {
    gateway
        .get(path)
        .client(client)
        .header("x-room-token", token)
        .send()
        .await
}

async fn link(gateway: &Gateway, code: &str) {
    let link = json!({ "url": "https://example.com/", "code": code });
    gateway
        .post("/api/links")
        .key(ADMIN_KEY)
        .json(&link)
        .send()
        .await
        .expect(201);
}

async fn admitted(gateway: &Gateway, room: &str) -> u64 {
    let room = gateway
        .get(&format!("/api/rooms/{room}"))
        .send()
        .await
        .expect(200)
        .json();
    room["admitted"].as_u64().expect("a number")
}

pub async fn turns_come_at_the_pace(host: Host) {
    let gateway = &Gateway::shared(host).await;
    let room = room(gateway, json!({ "admitPerSecond": 100 })).await;
    let clients: Vec<String> = (0..600).map(|number| format!("c{number}")).collect();
    let path = format!("/api/rooms/{room}/tickets");
    let ask = |client: String| gateway.post(&path).client(&client).send();
    let answers = crowd(16, clients, ask).await;
    let tickets: Vec<Value> = answers
        .into_iter()
        .map(|answer| answer.expect(201).json())
        .collect();
    let distinct: BTreeSet<&str> = tickets
        .iter()
        .filter_map(|ticket| ticket["ticket"].as_str())
        .collect();
    assert_eq!(distinct.len(), 600);
    // Between two looks, as many turns as time.
    let (began, first) = (Instant::now(), admitted(gateway, &room).await);
    let first_took = began.elapsed();
    sleep(Duration::from_secs(3)).await;
    let (asked, last) = (Instant::now(), admitted(gateway, &room).await);
    let last_took = asked.elapsed();
    let turns = (last - first) as f64;
    let (least, most) = (asked - began - first_took, asked - began + last_took);
    assert!(
        turns >= least.as_secs_f64() * 98.0 - 1.0 && turns <= most.as_secs_f64() * 102.0 + 1.0,
        "{turns} turns in {least:?} to {most:?}"
    );
}

pub async fn a_restart_keeps_everybodys_place(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let room = room(&gateway, json!({ "admitPerSecond": 0.05, "session": 3600 })).await;
    let mut tickets = Vec::new();
    for _ in 0..5 {
        tickets.push(draw(&gateway, &room, "ann").await);
    }
    gateway.kill();
    gateway.restart().await;
    for (index, ticket) in tickets.iter().enumerate() {
        let seen = look(&gateway, &room, "ann", ticket).await;
        let (before, now) = (ticket["position"].as_u64(), seen["position"].as_u64());
        let moved = before.expect("a place") - now.expect("a place");
        // At one turn in 20 seconds.
        assert!(moved <= 3, "{index}: {before:?} {now:?}");
    }
    let next = draw(&gateway, &room, "ann").await;
    let last = look(&gateway, &room, "ann", &tickets[4]).await;
    let position = |ticket: &Value| ticket["position"].as_u64().expect("a place");
    assert_eq!(
        position(&next),
        position(&last) + 1,
        "no number is given twice, none is left out"
    );
}

pub async fn places_before_the_opening_are_by_lot(host: Host) {
    let gateway = &Gateway::shared(host).await;
    let room = room(gateway, json!({ "admitPerSecond": 0.01, "opens": in_seconds(3) })).await;
    let clients: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let mut tickets = Vec::new();
    for client in &clients {
        let ticket = draw(gateway, &room, client).await;
        assert_eq!(ticket["position"], Value::Null, "{ticket}");
        tickets.push(ticket);
    }
    let mut places = Vec::new();
    for (client, ticket) in clients.iter().zip(&tickets) {
        let place = eventually("the room opens", async || {
            look(gateway, &room, client, ticket).await["position"].as_u64()
        })
        .await;
        places.push(place);
    }
    let distinct: BTreeSet<u64> = places.iter().copied().collect();
    assert_eq!(
        distinct.into_iter().collect::<Vec<_>>(),
        (1..=40).collect::<Vec<_>>()
    );
    assert!(places.windows(2).any(|pair| pair[0] > pair[1]), "{places:?}");
    assert_eq!(draw(gateway, &room, "late").await["position"], 41);
}

pub async fn a_token_is_its_holders_alone(host: Host) {
    let gateway = &Gateway::shared(host).await;
    let room = room(gateway, json!({ "admitPerSecond": 100 })).await;
    link(gateway, &room).await;
    let path = format!("/{room}");
    let refused = visit(gateway, &path, "ann", "none")
        .await
        .problem(429, "waiting-room");
    assert_eq!(refused["tickets"], format!("/api/rooms/{room}/tickets"));
    let ticket = draw(gateway, &room, "ann").await;
    let token = eventually("the turn comes", async || {
        look(gateway, &room, "ann", &ticket).await["token"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    visit(gateway, &path, "ann", &token).await.expect(302);
    visit(gateway, &path, "bob", &token)
        .await
        .problem(429, "waiting-room");
    let text = ticket["ticket"].as_str().expect("a ticket");
    let other = gateway
        .get(&format!("/api/rooms/{room}/tickets/{text}"))
        .client("bob");
    other.send().await.problem(404, "not-found");
    gateway
        .get(&path)
        .client("ann")
        .send()
        .await
        .problem(429, "waiting-room");
}

pub async fn a_ticket_is_told_as_an_event(host: Host) {
    let gateway = &Gateway::shared(host).await;
    let room = room(gateway, json!({ "admitPerSecond": 0.5 })).await;
    draw(gateway, &room, "ann").await;
    let ticket = draw(gateway, &room, "bob").await;
    let text = ticket["ticket"].as_str().expect("a ticket");
    let path = format!("/api/rooms/{room}/tickets/{text}");
    let listen = async |last: &'static str| {
        let call = gateway.get(&path).client("bob").header("last-event-id", last);
        call.header("accept", "text/event-stream").send().await
    };
    let told = listen("").await.expect(200);
    assert_eq!(told.header("content-type"), "text/event-stream");
    let text = told.text();
    let begin = "retry: 1000\nid: waiting\nevent: ticket\ndata: {\"state\":\"waiting\"";
    assert!(text.starts_with(begin) && text.ends_with("}\n\n"), "{text}");
    eventually("the turn comes", async || {
        let text = listen("waiting").await.expect(200).text();
        text.contains("\nid: admitted\n").then_some(())
    })
    .await;
    // Who knows it listens no longer.
    listen("admitted").await.expect(204);
}

pub async fn a_browser_waits_on_a_page_without_a_script(host: Host) {
    let gateway = &Gateway::shared(host).await;
    let room = room(
        gateway,
        json!({ "admitPerSecond": 0.01, "title": "Tea & <i>cake</i>" }),
    )
    .await;
    link(gateway, &room).await;
    let path = format!("/{room}");
    let page = |language: &'static str, cookie: String| {
        let call = gateway.get(&path).header("accept", "text/html,*/*;q=0.8");
        call.header("accept-language", language)
            .header("cookie", &cookie)
            .send()
    };
    let mut first = None;
    for (language, said) in [
        ("en-GB,en;q=0.9", "You are in line"),
        ("ko-KR,ko;q=0.9", "대기 중입니다"),
        ("de", "Sie sind in der Warteschlange"),
    ] {
        let answer = page(language, String::new()).await;
        let html = answer.text();
        assert!(answer.status == 429 && html.contains(said), "{}", answer.shown());
        assert!(
            html.contains("http-equiv=\"refresh\"") && !html.contains("<script"),
            "{html}"
        );
        assert!(html.contains("Tea &amp; &lt;i&gt;cake&lt;/i&gt;"), "{html}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        let cookie = answer
            .header("set-cookie")
            .split(';')
            .next()
            .expect("a cookie")
            .to_owned();
        first.get_or_insert(cookie);
    }
    let again = page("en", first.expect("a cookie")).await;
    assert!(
        again.text().contains("Your place in line: 1."),
        "{}",
        again.shown()
    );
    assert_eq!(again.maybe_header("set-cookie"), None);
}

pub async fn a_pause_and_another_pace_are_in_force_at_once(host: Host) {
    let gateway = &Gateway::shared(host).await;
    let room = room(gateway, json!({ "admitPerSecond": 0.5 })).await;
    let ticket = draw(gateway, &room, "ann").await;
    let steer = |what: &str, body: Value| {
        let call = gateway.post(&format!("/api/rooms/{room}/{what}")).key(ADMIN_KEY);
        call.json(&body).send()
    };
    let paused = steer("pause", Value::Null).await.expect(200).json();
    assert_eq!(paused["state"], "paused");
    sleep(Duration::from_millis(2_500)).await;
    let seen = look(gateway, &room, "ann", &ticket).await;
    assert_eq!(
        (&seen["state"], &seen["etaSeconds"]),
        (&json!("waiting"), &Value::Null)
    );
    steer("pace", json!({ "perSecond": 1000 })).await.expect(200);
    steer("resume", Value::Null).await.expect(200);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(look(gateway, &room, "ann", &ticket).await["state"], "admitted");
}

pub async fn a_proxy_and_a_campaign_ask_for_a_token(host: Host) {
    let gateway = Gateway::start_trusting(host, "127.0.0.0/8", "").await;
    let room = room(
        &gateway,
        json!({ "path": "/checkout/...", "admitPerSecond": 100 }),
    )
    .await;
    let campaign = json!({ "id": room, "quantity": 3, "room": room });
    gateway
        .post("/api/campaigns")
        .key(ADMIN_KEY)
        .json(&campaign)
        .send()
        .await
        .expect(201);
    let ask = |token: String| {
        let call = gateway.get("/api/check").header("x-forwarded-uri", "/checkout/1");
        call.header("x-forwarded-for", "203.0.113.7")
            .user("ann")
            .header("x-room-token", &token)
            .send()
    };
    let claim = |token: String| {
        let call = gateway.post(&format!("/api/campaigns/{room}/claims")).user("ann");
        call.header("x-room-token", &token).send()
    };
    ask("none".into()).await.problem(429, "waiting-room");
    claim("none".into()).await.problem(429, "waiting-room");
    let drawn = gateway
        .post(&format!("/api/rooms/{room}/tickets"))
        .user("ann")
        .send()
        .await
        .expect(201);
    let ticket = drawn.json()["ticket"].as_str().expect("a ticket").to_owned();
    sleep(Duration::from_millis(100)).await;
    let seen = gateway
        .get(&format!("/api/rooms/{room}/tickets/{ticket}"))
        .user("ann")
        .send()
        .await;
    let token = seen.json()["token"].as_str().expect("a token").to_owned();
    ask(token.clone()).await.expect(204);
    claim(token).await.expect(201);
}

pub async fn there_may_be_a_thousand_rooms(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let put = |number: usize| {
        let room = json!({ "path": format!("/r{number}/..."), "admitPerSecond": 5 });
        let path = format!("/api/rooms/r{number}");
        gateway.put(&path).key(ADMIN_KEY).json(&room).send()
    };
    for answer in crowd(4, 0..1_000, put).await {
        answer.expect(201);
    }
    let more = json!({ "path": "/more", "admitPerSecond": 5 });
    let more = gateway
        .put("/api/rooms/more")
        .key(ADMIN_KEY)
        .json(&more)
        .send()
        .await;
    more.problem(409, "conflict");
    for number in [0, 499, 999] {
        let refused = eventually("the room is in force", async || {
            let answer = gateway.get(&format!("/r{number}/x")).send().await;
            (answer.status == 429).then(|| answer.problem(429, "waiting-room"))
        })
        .await;
        assert_eq!(refused["room"], format!("r{number}"));
    }
    gateway.get("/more").send().await.problem(404, "not-found");
}

pub async fn a_look_waits_for_the_turn_where_it_may(host: Host) {
    let gateway = Gateway::shared(host).await;
    let room = room(&gateway, json!({ "admitPerSecond": 0.5 })).await;
    let ticket = draw(&gateway, &room, "ann").await;
    let text = ticket["ticket"].as_str().expect("a ticket");
    let began = Instant::now();
    let path = format!("/api/rooms/{room}/tickets/{text}?wait=20");
    let seen = gateway.get(&path).client("ann").send().await.expect(200).json();
    assert_eq!(seen["state"], "admitted", "{seen}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let line = format!("tollgate_room_admitted_total{{room=\"{room}\"}} 1");
    eventually("the room is scraped", async || {
        gateway.scrape().await.contains(&line).then_some(())
    })
    .await;
}
