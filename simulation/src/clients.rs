//! Who sends requests: users, visitors, an administrator. They lose replies, give up, and try again, with and without an
//! idempotency key; what they are told is compared with the model.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_core::http::{Header, Request, Response};
use tollgate_core::memory::START;
use tollgate_core::time;

use crate::coverage::Seen;
use crate::executor::{Home, Parcel};
use crate::server::INSTALL;
use crate::world::{ADMIN, SUBSCRIPTION, Sim, TOPICS};

/// One claim per user; its stock changes; exactly N are admitted in the end.
pub const FLASH: &str = "flash";
/// Several claims per user, codes, a window, and closing.
pub const MULTI: &str = "multi";
/// A link with `maxVisits`.
pub const LIMITED: &str = "limited";
/// A link without limits, whose clicks are submitted.
pub const PLAIN: &str = "plain";

/// How often a client sends one request at most.
const TRIES: usize = 6;

/// What a client wants.
#[derive(Clone, Debug)]
pub enum Wish {
    Claim {
        campaign: &'static str,
        user: String,
        key: Option<String>,
        body: &'static str,
    },
    SignUp {
        client: u64,
        key: Option<String>,
        body: String,
    },
    Visit(&'static str),
    Admin {
        method: &'static str,
        path: String,
        body: Value,
    },
    Install,
}

impl Wish {
    pub fn admin(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        let path = path.into();
        Self::Admin { method, path, body }
    }

    fn request(&self) -> Request {
        let mut headers = Vec::new();
        let (method, path, body) = match self {
            Self::Claim {
                campaign,
                user,
                key,
                body,
            } => {
                headers.push(Header::new("x-user-id", user));
                headers.push(Header::new("x-client-id", user));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                (
                    "POST",
                    format!("/api/campaigns/{campaign}/claims"),
                    (*body).to_owned(),
                )
            }
            Self::SignUp { client, key, body } => {
                headers.push(Header::new("x-client-id", format!("client-{client}")));
                headers.push(Header::new("content-type", "text/plain"));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                ("POST", "/signup".to_owned(), body.clone())
            }
            Self::Visit(code) => ("GET", format!("/{code}"), String::new()),
            Self::Admin { method, path, body } => {
                headers.push(Header::new("authorization", format!("Bearer {ADMIN}")));
                let body = if body.is_null() {
                    String::new()
                } else {
                    body.to_string()
                };
                (*method, path.clone(), body)
            }
            Self::Install => ("POST", INSTALL.to_owned(), String::new()),
        };
        Request {
            method: method.to_owned(),
            path,
            query: None,
            headers,
            body: body.into_bytes(),
            peer: "192.0.2.1".to_owned(),
        }
    }
}

/// Sends it once; `None` if no answer came.
async fn send(sim: &Rc<Sim>, wish: &Rc<Wish>, request: &Rc<Request>) -> Option<Response> {
    sim.saw(Seen::Requests);
    let bad = sim.is_on(&sim.weather.network_until);
    sim.executor.sleep(sim.below(400)).await;
    if bad && sim.one_of(150) {
        sim.saw(Seen::RequestsLost);
        sim.executor.sleep(sim.between(5_000, 100_000)).await;
        return None;
    }
    let parcel = Parcel::new();
    if !deliver(sim, wish, request, &parcel) {
        sim.executor.sleep(sim.between(1_000, 20_000)).await;
        return None;
    }
    if sim.fault(if bad { 200 } else { 10 }) {
        sim.saw(Seen::RequestsDoubled);
        // Both are carried out; whichever is answered first is what the client sees.
        deliver(sim, wish, request, &parcel);
    }
    let patience = if sim.calm.get() {
        30_000_000
    } else {
        sim.between(10_000, 500_000)
    };
    let response = parcel.receive_within(&sim.executor, patience).await;
    if response.is_none() {
        sim.saw(Seen::ClientTimeouts);
    } else if bad && sim.one_of(200) {
        sim.saw(Seen::RepliesLost);
        return None;
    }
    response
}

/// `false` if no process is there to take it.
fn deliver(sim: &Rc<Sim>, wish: &Rc<Wish>, request: &Rc<Request>, parcel: &Rc<Parcel<Response>>) -> bool {
    let Some(server) = sim.server.borrow().clone() else {
        return false;
    };
    let (wish, request, parcel) = (Rc::clone(wish), Rc::clone(request), Rc::clone(parcel));
    sim.executor.spawn(Home::Process, async move {
        let began = server.sim.executor.now();
        let response = server.answer(&request).await;
        // From here on a client may have seen it.
        let (sim, status) = (&server.sim, response.status);
        sim.note(|| {
            format!(
                "{status} to {wish:?}: {}",
                String::from_utf8_lossy(&response.body)
            )
        });
        sim.check(judge(sim, &wish, &response, began));
        parcel.send(&sim.executor, response);
    });
    true
}

/// Sends it until there is an answer that is worth keeping; `None` if there was none.
pub async fn ask(sim: &Rc<Sim>, wish: Wish) -> Option<Response> {
    let request = Rc::new(wish.request());
    let wish = Rc::new(wish);
    let tries = if sim.calm.get() { 100 } else { TRIES };
    for _ in 0..tries {
        let response = send(sim, &wish, &request).await;
        match response {
            Some(response) if !matches!(response.status, 429 | 503) => return Some(response),
            Some(_) => sim.executor.sleep(sim.between(30_000, 150_000)).await,
            None => sim.executor.sleep(sim.between(1_000, 30_000)).await,
        }
    }
    None
}

#[derive(Deserialize)]
struct Told {
    claim: ToldClaim,
}

#[derive(Deserialize)]
struct ToldClaim {
    id: String,
    sequence: u64,
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
    sequence: u64,
}

fn decoded<'a, T: Deserialize<'a>>(response: &'a Response) -> Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("an answer cannot be read: {error}"))
}

/// Whether an answer is true.
fn judge(sim: &Sim, wish: &Wish, response: &Response, began: u64) -> Result<(), String> {
    let mut model = sim.model.borrow_mut();
    match response.status {
        503 => return Ok(sim.saw(Seen::Unavailable)),
        429 => return Ok(sim.saw(Seen::Limited)),
        400 | 401 | 405 | 413.. => {
            let reused = response.status == 422 && matches!(wish, Wish::Claim { .. });
            // An end that lies before the start.
            let early = response.status == 400 && matches!(wish, Wish::Admin { method: "PATCH", .. });
            let known = reused || early;
            if !known {
                return Err(format!("{} to {wish:?}", response.status));
            }
        }
        _ => {}
    }
    let replayed = response.header("idempotency-replayed").is_some();
    match (wish, response.status) {
        (
            Wish::Claim {
                campaign,
                user,
                key,
                body,
            },
            201,
        ) => {
            let told: Told = decoded(response)?;
            sim.saw(if replayed {
                Seen::ClaimsReplayed
            } else {
                Seen::Admitted
            });
            model.admitted(campaign, user, &told.claim.id, told.claim.sequence)?;
            match key {
                Some(key) => model.answered(format!("{campaign} {user} {key} {body}"), &response.body),
                None => Ok(()),
            }
        }
        (Wish::Claim { campaign, user, .. }, 409) => {
            let told: Told = decoded(response)?;
            sim.saw(Seen::AlreadyClaimed);
            model.admitted(campaign, user, &told.claim.id, told.claim.sequence)
        }
        (Wish::Claim { campaign, .. }, 410) => {
            sim.saw(Seen::SoldOut);
            model.refused_as_sold_out(campaign, began)
        }
        (Wish::Claim { .. }, 403) => Ok(sim.saw(Seen::OutsideWindow)),
        (Wish::Claim { .. }, 422) => Ok(sim.saw(Seen::KeyReused)),
        (Wish::SignUp { client, key, body }, 202) => {
            let told: Accepted = decoded(response)?;
            sim.saw(if replayed {
                Seen::SignUpsReplayed
            } else {
                Seen::SignedUp
            });
            model.signed_up(&told.id, told.sequence, body.as_bytes())?;
            match key {
                Some(key) => model.answered(format!("{client} {key}"), &response.body),
                None => Ok(()),
            }
        }
        (Wish::Visit(code), 302) => {
            sim.saw(Seen::Visits);
            let link = model.links.entry((*code).to_owned()).or_default();
            let Some(max) = link.max else { return Ok(()) };
            link.granted += 1;
            sim.saw(Seen::VisitsGranted);
            if link.granted > link.visits || link.visits > max {
                return Err(format!(
                    "{} redirects of {code}, {} counted, of {max}",
                    link.granted, link.visits
                ));
            }
            Ok(())
        }
        (Wish::Visit(code), 410) => {
            sim.saw(Seen::VisitsExhausted);
            let exhausted = model
                .links
                .get(*code)
                .is_some_and(|link| link.max == Some(link.visits));
            if exhausted {
                Ok(())
            } else {
                Err(format!("{code} was said to be exhausted, and was not"))
            }
        }
        (
            Wish::Admin {
                method: "PATCH",
                path,
                body,
            },
            status,
        ) => {
            let campaign = path.rsplit('/').next().unwrap_or("");
            match status {
                200 if body.get("state").is_some() => {
                    sim.saw(Seen::Closed);
                    let closed = model.campaigns.get(campaign).is_some_and(|known| known.closed);
                    if closed {
                        Ok(())
                    } else {
                        Err(format!("{campaign} was closed, which is not durable"))
                    }
                }
                409 => Ok(sim.saw(Seen::StockRefused)),
                _ => Ok(()),
            }
        }
        (Wish::Admin { path, .. }, 200) if path.ends_with("/redrive") => {
            #[derive(Deserialize)]
            struct Redriven {
                redriven: u64,
            }
            let told: Redriven = decoded(response)?;
            Ok(sim.saw_times(Seen::Redriven, told.redriven))
        }
        _ => Ok(()),
    }
}

/// What a seed's clients have in common.
pub struct Crowd {
    pub users: u64,
    pub operations: u64,
}

/// One client: does some things, one after the other.
pub async fn client(sim: &Rc<Sim>, number: u64, crowd: &Crowd) {
    for operation in 0..crowd.operations {
        sim.executor.sleep(sim.below(25_000)).await;
        let wish = wish(sim, number, operation, crowd);
        if let Wish::Claim { campaign, .. } = &wish
            && sim.one_of(60)
        {
            ask(
                sim,
                Wish::admin("GET", format!("/api/campaigns/{campaign}"), Value::Null),
            )
            .await;
        }
        ask(sim, wish).await;
    }
}

fn wish(sim: &Sim, number: u64, operation: u64, crowd: &Crowd) -> Wish {
    let user = || format!("user-{}", sim.below(crowd.users));
    match sim.below(100) {
        0..45 => {
            let campaign = if sim.one_of(650) { FLASH } else { MULTI };
            let key = sim.one_of(500).then(|| format!("k{}", sim.below(2)));
            let body = if sim.one_of(80) { "{}" } else { "" };
            let user = user();
            Wish::Claim {
                campaign,
                user,
                key,
                body,
            }
        }
        45..67 => {
            let key = sim.one_of(600).then(|| format!("s{operation}"));
            let told = if key.is_some() { "with-key" } else { "plain" };
            let body = format!("{told} {number} {operation}");
            Wish::SignUp {
                client: number,
                key,
                body,
            }
        }
        67..80 => Wish::Visit(LIMITED),
        80..90 => Wish::Visit(PLAIN),
        90..96 => {
            let campaign = if sim.one_of(700) { FLASH } else { MULTI };
            let path = format!("/api/campaigns/{campaign}");
            if campaign == MULTI && sim.one_of(250) {
                return Wish::admin("PATCH", path, json!({"state": "closed"}));
            }
            if campaign == MULTI && sim.one_of(500) {
                let ends_at = time::format(sim.wall_ms() + sim.between(10, 60_000));
                return Wish::admin("PATCH", path, json!({"endsAt": ends_at}));
            }
            let quantity = sim.between(1, 7);
            let before = sim
                .model
                .borrow()
                .campaigns
                .get(campaign)
                .map_or(0, |c| c.quantity);
            sim.saw(if quantity > before {
                Seen::StockRaised
            } else {
                Seen::StockLowered
            });
            Wish::admin("PATCH", path, json!({"quantity": quantity}))
        }
        _ => {
            let topic = TOPICS[sim.pick(2)];
            let path = format!("/api/topics/{topic}/subscriptions/{SUBSCRIPTION}");
            match sim.below(4) {
                0 => {
                    sim.saw(Seen::Paused);
                    Wish::admin("POST", format!("{path}/pause"), Value::Null)
                }
                1 | 2 => Wish::admin("POST", format!("{path}/resume"), Value::Null),
                _ => Wish::admin(
                    "POST",
                    format!("{path}/dead-letters/redrive"),
                    json!({"all": true}),
                ),
            }
        }
    }
}

/// The admin key, the campaigns and the links; each is asked for until it is there.
pub async fn prepare(sim: &Rc<Sim>) {
    insist(sim, Wish::Install, 204).await;
    let flash = json!({"id": FLASH, "quantity": sim.between(1, 5)});
    insist(sim, Wish::admin("POST", "/api/campaigns", flash), 201).await;
    let mut multi = json!({
        "id": MULTI, "quantity": sim.between(2, 6), "perUser": sim.between(2, 3), "codes": "generate",
    });
    if sim.one_of(300) {
        multi["startsAt"] = time::format(START + sim.between(0, 200)).into();
        multi["endsAt"] = time::format(START + sim.between(201, 120_000)).into();
    }
    insist(sim, Wish::admin("POST", "/api/campaigns", multi), 201).await;
    let limited = json!({"url": "https://shop.example/", "code": LIMITED, "maxVisits": sim.between(1, 4)});
    insist(sim, Wish::admin("POST", "/api/links", limited), 201).await;
    let plain = json!({"url": "https://shop.example/plain", "code": PLAIN});
    insist(sim, Wish::admin("POST", "/api/links", plain), 201).await;
}

async fn insist(sim: &Rc<Sim>, wish: Wish, status: u16) {
    while !sim.is_violated() {
        if let Some(response) = ask(sim, wish.clone()).await {
            let there = response.status == status || response.status == 409;
            sim.ensure(there, || format!("{} to {wish:?}", response.status));
            return;
        }
    }
}

/// All is calm: whatever is left can be had, and no more; everything is delivered.
pub async fn finish(sim: &Rc<Sim>) {
    sell_out(sim, FLASH, 1).await;
    let per_user = sim
        .model
        .borrow()
        .campaigns
        .get(MULTI)
        .map_or(1, |campaign| campaign.per_user);
    sell_out(sim, MULTI, per_user).await;
    ask(sim, Wish::Visit(PLAIN)).await;
    while ask(sim, Wish::Visit(LIMITED))
        .await
        .is_some_and(|response| response.status == 302)
    {}
    ask(sim, Wish::Visit(PLAIN)).await;
    let exhausted = sim
        .model
        .borrow()
        .links
        .get(LIMITED)
        .is_some_and(|link| link.max == Some(link.visits));
    sim.ensure(exhausted, || "the link with maxVisits has visits left".into());
    drained(sim).await;
    sim.check(sim.model.borrow().check_end());
    for (index, topic) in TOPICS.into_iter().enumerate() {
        if sim.model.borrow().dead_letters(index).is_empty() {
            continue;
        }
        let redrive = format!("/api/topics/{topic}/subscriptions/{SUBSCRIPTION}/dead-letters/redrive");
        insist(sim, Wish::admin("POST", redrive, json!({"all": true})), 200).await;
    }
    drained(sim).await;
    let model = sim.model.borrow();
    for (index, topic) in TOPICS.into_iter().enumerate() {
        let (last, ledger) = (model.mirror.last_sequence(topic), &model.ledgers[index]);
        let missing = (1..=last).find(|sequence| !ledger.acknowledged.contains(sequence));
        sim.ensure(missing.is_none(), || {
            format!("{topic} {missing:?} was redriven and not delivered")
        });
    }
    sim.check(model.check_end());
    drop(model);
    sim.check(sim.model.borrow().same_as(&sim.disk.borrow().read()));
}

/// Every unit that is left is claimed by somebody new, if the campaign is open.
async fn sell_out(sim: &Rc<Sim>, campaign: &'static str, per_user: u64) {
    for number in 0..40 {
        let wish = Wish::Claim {
            campaign,
            user: format!("late-{}", number / per_user),
            key: None,
            body: "",
        };
        let status = ask(sim, wish).await.map(|response| response.status);
        match status {
            Some(201) => {}
            Some(410) => {
                let full = sim
                    .model
                    .borrow()
                    .campaigns
                    .get(campaign)
                    .is_some_and(|c| c.is_sold_out());
                return sim.ensure(full, || format!("{campaign} refuses with units left"));
            }
            // Closed, or outside its window.
            Some(403) if campaign == MULTI => return,
            status => {
                return sim.violated(|| format!("{status:?} to a claim of {campaign} when all is calm"));
            }
        }
    }
    sim.violated(|| format!("{campaign} does not sell out"));
}

/// Until the relays have nothing left to do: at most some minutes.
async fn drained(sim: &Rc<Sim>) {
    for _ in 0..1_500 {
        sim.executor.sleep(250_000).await;
        // A pause that the origin asked for may become durable only now.
        for (index, topic) in TOPICS.into_iter().enumerate() {
            if sim.model.borrow().is_paused(index) {
                let resume = format!("/api/topics/{topic}/subscriptions/{SUBSCRIPTION}/resume");
                insist(sim, Wish::admin("POST", resume, Value::Null), 200).await;
            }
        }
        let model = sim.model.borrow();
        let at_end = TOPICS.iter().enumerate().all(|(index, topic)| {
            let prefix = format!("relay/{topic}/{SUBSCRIPTION}/retry/");
            let waiting = model.mirror.entries.range(prefix.clone()..).next();
            model.ledgers[index].watermark() == model.mirror.last_sequence(topic)
                && waiting.is_none_or(|(key, _)| !key.starts_with(&prefix))
        });
        if at_end || sim.is_violated() {
            return;
        }
    }
    sim.violated(|| "the relays do not come to an end".into());
}
