//! The clients: users, visitors, an administrator. They lose replies, give up, and try again, with and
//! without an idempotency key. The answers that they get are compared with the model.

use std::rc::Rc;

use serde_json::{Value, json};
use tollgate_api::http::Response;
use tollgate_api::time;

use crate::coverage::Seen;
use crate::executor::Home;
use crate::model::Campaign;
use crate::model::room::FASTEST;
use crate::world::{ROOM, SCRATCH, SUBSCRIPTION, Sim, TOPICS};

mod consuming;
mod judge;
mod request;
mod sending;
mod story;

use request::{TWO, Wish};
use sending::ask;
pub use story::{finish, prepare};

/// One claim per user; its stock changes; exactly N are admitted in the end.
pub const FLASH: &str = "flash";
/// Several claims per user, codes, a window, and closing.
pub const MULTI: &str = "multi";
/// Claims that are held, and confirmed or not.
pub const TICKETS: &str = "tickets";
/// A draw that closes by itself, or is drawn by hand.
pub const DRAW: &str = "easter";
/// A link with `maxVisits`.
pub const LIMITED: &str = "limited";
/// A link without limits, whose clicks are deferred.
pub const PLAIN: &str = "plain";

/// A link that is deleted, made again, and given a bound while it is in use.
pub const CHANGING: &str = "changing";

/// What a seed's clients have in common.
pub struct Crowd {
    pub users: u64,
    pub operations: u64,
    /// Whether most of what they want is about links.
    pub links: bool,
}

/// One client: does some things, one after the other.
pub async fn client(sim: &Rc<Sim>, number: u64, crowd: &Crowd) {
    for operation in 0..crowd.operations {
        let pause = if crowd.links { 2_500 } else { 25_000 };
        sim.executor.sleep(sim.below(pause)).await;
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
        let claim = match &wish {
            Wish::Claim {
                campaign: TICKETS,
                user,
                ..
            } => Some(user.clone()),
            _ => None,
        };
        if let Wish::Admin { path, .. } = &wish
            && path.ends_with("/codes")
        {
            // Another operator imports at the same time, some of the same codes.
            let (other, sim) = (import(sim), Rc::clone(sim));
            let executor = &Rc::clone(&sim).executor;
            executor.spawn(Home::World, async move { drop(ask(&sim, other).await) });
        }
        let response = ask(sim, wish).await;
        if let (Some(user), Some(response)) = (claim, response) {
            if response.status == 410 && sim.one_of(600) {
                wait_in_line(sim, user.clone()).await;
            }
            settle(sim, user, &response).await;
        }
        if sim.one_of(80) {
            consuming::consume(sim).await;
        }
        if sim.one_of(100) {
            queue(sim, number).await;
        }
        if sim.scratches && sim.one_of(150) {
            ask(sim, scratch_wish(sim)).await;
        }
        if crowd.links && sim.one_of(200) {
            replace(sim, number, operation).await;
        }
    }
}

/// What a user does with a claim: confirms it, gives it back, or forgets it; at once, at the last moment, or too late; now and
/// then both at once, or an operator takes it back.
async fn settle(sim: &Rc<Sim>, user: String, response: &Response) {
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let claim = &answer["claim"];
    let (Some(id), Some(ends)) = (claim["id"].as_str(), claim["expiresAt"].as_str()) else {
        return;
    };
    let left = time::parse(ends).unwrap_or(0).saturating_sub(sim.wall_ms());
    match sim.below(10) {
        0 => return,
        1..4 => sim.executor.sleep(sim.below(60_000)).await,
        4..9 => {
            let ms = (left + sim.below(6)).saturating_sub(4);
            sim.executor.sleep(ms.min(3_000) * 1_000).await;
            sim.saw(Seen::SettledAtTheEnd);
        }
        _ => sim.executor.sleep(sim.below(2_500_000)).await,
    }
    let wish = |verb| Wish::Settle {
        campaign: TICKETS,
        user: user.clone(),
        claim: id.to_owned(),
        verb,
        key: sim.one_of(400).then(|| format!("c{}", sim.below(2))),
        by_user: verb != "revoke" && sim.one_of(700),
    };
    let verbs = ["confirm", "confirm", "release", "release", "revoke"];
    if sim.one_of(400) {
        // Somebody else, at the same time.
        let (other, sim) = (wish(verbs[sim.pick(5)]), Rc::clone(sim));
        let executor = &Rc::clone(&sim).executor;
        executor.spawn(Home::World, async move { drop(ask(&sim, other).await) });
    }
    ask(sim, wish(verbs[sim.pick(4)])).await;
}

/// Takes a place in line where there is one, looks now and then, and may give it up.
async fn wait_in_line(sim: &Rc<Sim>, user: String) {
    let has_line = |known: &Campaign| known.line.is_some();
    if !sim.model.borrow().campaigns.get(TICKETS).is_some_and(has_line) {
        return;
    }
    let wish = |method| Wish::Line {
        method,
        user: user.clone(),
    };
    ask(sim, wish("POST")).await;
    for _ in 0..sim.below(3) {
        sim.executor.sleep(sim.below(600_000)).await;
        ask(sim, wish("GET")).await;
    }
    if sim.one_of(300) {
        // From now on the place may go without a claim.
        if let Some(known) = sim.model.borrow_mut().campaigns.get_mut(TICKETS)
            && let Some(line) = known.line.as_mut()
        {
            line.may_leave(&user);
        }
        ask(sim, wish("DELETE")).await;
    }
}

/// Codes, some of which were imported before, or are by others at the same time.
fn import(sim: &Sim) -> Wish {
    let first = sim.below(MOST_CODES);
    let codes: Vec<String> = (first..first + sim.between(1, 4)).map(code).collect();
    Wish::admin(
        "POST",
        format!("/api/campaigns/{MULTI}/codes"),
        json!({ "codes": codes }),
    )
}

/// Codes that are imported, about.
pub(crate) const MOST_CODES: u64 = 9;

pub(crate) fn code(number: u64) -> String {
    format!("CODE-{number}")
}

/// Draws a ticket, and asks after it now and then; an operator changes the pace.
async fn queue(sim: &Rc<Sim>, number: u64) {
    let client = format!("visitor-{number}");
    if sim.one_of(250) {
        let (verb, body) = match sim.below(4) {
            0 => ("pause", Value::Null),
            1 | 2 => ("resume", Value::Null),
            _ => ("pace", json!({"perSecond": sim.between(1, FASTEST)})),
        };
        sim.saw(Seen::PaceChanged);
        ask(
            sim,
            Wish::admin("POST", format!("/api/rooms/{ROOM}/{verb}"), body),
        )
        .await;
    }
    let drawn = ask(
        sim,
        Wish::Draw {
            client: client.clone(),
        },
    )
    .await;
    let Some(drawn) = drawn.filter(|drawn| drawn.status == 201) else {
        return;
    };
    let answer: Value = serde_json::from_slice(&drawn.body).unwrap_or_default();
    for _ in 0..sim.below(4) {
        sim.executor.sleep(sim.below(400_000)).await;
        let ticket = answer["ticket"].as_str().unwrap_or_default().to_owned();
        ask(
            sim,
            Wish::Look {
                client: client.clone(),
                ticket,
            },
        )
        .await;
    }
}

/// Makes the link anew while the last visit may still be on its way to its counter.
async fn replace(sim: &Rc<Sim>, number: u64, operation: u64) {
    ask(sim, Wish::VisitBy(CHANGING, number * 100 + operation)).await;
    let path = format!("/api/links/{CHANGING}");
    ask(sim, Wish::admin("DELETE", path, Value::Null)).await;
    ask(
        sim,
        Wish::admin("POST", "/api/links", changing(sim, number, operation)),
    )
    .await;
}

fn changing(sim: &Sim, number: u64, operation: u64) -> Value {
    let url = format!(
        "https://shop.example/{CHANGING}/{number}/{operation}/{}",
        sim.bits()
    );
    let mut link = json!({"url": url, "code": CHANGING});
    if sim.one_of(400) {
        link["maxVisits"] = sim.between(1, 4).into();
    }
    link
}

/// Something about links that change.
fn link_wish(sim: &Sim, number: u64, operation: u64) -> Wish {
    let path = format!("/api/links/{CHANGING}");
    let visits = sim.model.borrow().called(CHANGING).map_or(0, |link| link.visits);
    match sim.below(20) {
        0..11 => Wish::VisitBy(CHANGING, number * 100 + operation),
        11..13 => Wish::admin("DELETE", path, Value::Null),
        13..15 => Wish::admin("POST", "/api/links", changing(sim, number, operation)),
        15..18 => Wish::admin("PATCH", path, json!({"maxVisits": visits + sim.between(1, 4)})),
        18 => Wish::admin("PATCH", path, json!({"maxVisits": null})),
        _ => {
            let shared = json!({"url": "https://shop.example/shared", "ifExists": "return"});
            Wish::admin("POST", "/api/links", shared)
        }
    }
}

/// Something about the topic that is deleted now and then.
fn scratch_wish(sim: &Sim) -> Wish {
    let path = format!("/api/topics/{SCRATCH}");
    match sim.below(8) {
        0..4 => Wish::admin("POST", format!("{path}/messages"), json!({"n": sim.bits()})),
        4..6 => Wish::admin("GET", format!("{path}/messages?limit=1000"), Value::Null),
        _ => Wish::admin("DELETE", path, Value::Null),
    }
}

/// Something about the draw.
fn draw_wish(sim: &Sim, crowd: &Crowd) -> Wish {
    let path = format!("/api/draws/{DRAW}");
    match sim.below(100) {
        0..80 => Wish::Enter {
            user: format!("user-{}", sim.below(crowd.users)),
            key: sim.one_of(500).then(|| format!("e{}", sim.below(2))),
        },
        80..92 => Wish::admin("GET", path, Value::Null),
        92..97 => Wish::admin("POST", format!("{path}/draw"), Value::Null),
        _ => {
            let beacon = json!({"beacon": format!("beacon {}", sim.below(2))});
            Wish::admin("POST", format!("{path}/draw"), beacon)
        }
    }
}

fn wish(sim: &Sim, number: u64, operation: u64, crowd: &Crowd) -> Wish {
    if sim.one_of(120) {
        return draw_wish(sim, crowd);
    }
    if sim.one_of(if crowd.links { 700 } else { 30 }) {
        return link_wish(sim, number, operation);
    }
    let user = || format!("user-{}", sim.below(crowd.users));
    match sim.below(100) {
        0..45 => {
            let campaign = match sim.below(100) {
                0..40 => FLASH,
                40..65 => MULTI,
                _ => TICKETS,
            };
            let key = sim.one_of(500).then(|| format!("k{}", sim.below(2)));
            // A claim that takes an imported code takes one unit.
            let most = |known: &Campaign| match known.codes {
                Some(_) => 1,
                None => known.per_user,
            };
            let known = sim.model.borrow().campaigns.get(campaign).map_or(1, most);
            let body = match sim.below(10) {
                0 => "{}",
                1..4 if known > 1 => TWO,
                _ => "",
            };
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
            if sim.one_of(200) {
                let seconds = sim.between(1, 4);
                return Wish::Later {
                    client: number,
                    key,
                    body,
                    seconds,
                };
            }
            Wish::SignUp {
                client: number,
                key,
                body,
            }
        }
        67..80 => Wish::Visit(LIMITED),
        80..90 => Wish::Visit(PLAIN),
        90..96 => {
            let campaign = [FLASH, FLASH, MULTI, TICKETS][sim.pick(4)];
            let path = format!("/api/campaigns/{campaign}");
            let imports = |known: &Campaign| known.codes.is_some();
            if campaign == MULTI
                && sim.model.borrow().campaigns.get(MULTI).is_some_and(imports)
                && sim.one_of(500)
            {
                return import(sim);
            }
            if campaign == MULTI && sim.one_of(250) {
                let state = if sim.one_of(400) { "open" } else { "closed" };
                return Wish::admin("PATCH", path, json!({"state": state}));
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
