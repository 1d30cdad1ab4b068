//! How a seed begins, and how it must end.

use std::ops::Bound;
use std::rc::Rc;

use serde_json::{Value, json};
use tollgate_api::time;
use tollgate_rules::draws;
use tollgate_store::memory::START;

use super::consuming;
use super::request::Wish;
use super::sending::ask;
use super::{CHANGING, DRAW, FLASH, LIMITED, MOST_CODES, MULTI, PLAIN, TICKETS, code};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::model::group::MAX_ATTEMPTS;
use crate::model::{Campaign, Line};
use crate::postgres::LATEST;
use crate::server::SKEW_MS;
use crate::world::{GROUP, SUBSCRIPTION, Sim, TOPICS};

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
    let imports = sim.one_of(350);
    if imports {
        multi["codes"] = "import".into();
        if let Some(multi) = multi.as_object_mut() {
            multi.remove("quantity");
        }
        if sim.one_of(500) {
            multi["codeOrder"] = "import".into();
        }
    }
    insist(sim, Wish::admin("POST", "/api/campaigns", multi), 201).await;
    if imports {
        import_all(sim, sim.between(1, 4)).await;
    }
    let mut tickets = json!({
        "id": TICKETS, "quantity": sim.between(1, 4), "perUser": sim.between(1, 2), "holdSeconds": sim.between(1, 2),
    });
    if sim.one_of(400) {
        tickets["waitlist"] = true.into();
    }
    insist(sim, Wish::admin("POST", "/api/campaigns", tickets), 201).await;
    make_draw(sim).await;
    let limited = json!({"url": "https://shop.example/", "code": LIMITED, "maxVisits": sim.between(1, 4)});
    insist(sim, Wish::admin("POST", "/api/links", limited), 201).await;
    let plain = json!({"url": "https://shop.example/plain", "code": PLAIN});
    insist(sim, Wish::admin("POST", "/api/links", plain), 201).await;
    let changing = json!({"url": "https://shop.example/changing", "code": CHANGING});
    insist(sim, Wish::admin("POST", "/api/links", changing), 201).await;
    for topic in TOPICS {
        let group = json!({"maxAttempts": MAX_ATTEMPTS, "ordered": !sim.has(Bug::LeaseOutOfOrder)});
        let path = format!("/api/topics/{topic}/groups/{GROUP}");
        insist(sim, Wish::admin("PUT", path, group), 201).await;
    }
}

/// The first codes, until they are there.
async fn import_all(sim: &Rc<Sim>, count: u64) {
    let codes: Vec<String> = (0..count).map(code).collect();
    let path = format!("/api/campaigns/{MULTI}/codes");
    let tries = if sim.is_fleet() { 400 } else { 20 };
    for _ in 0..tries {
        let wish = Wish::admin("POST", path.as_str(), json!({ "codes": codes }));
        let answer = ask(sim, wish).await.map(|response| response.status);
        if answer == Some(200) || sim.is_violated() {
            return;
        }
    }
    sim.violated(|| "codes cannot be imported".into());
}

/// The draw. It must close in the future, which may have passed before it is made: then it closes later.
async fn make_draw(sim: &Rc<Sim>) {
    let (soon, per_user) = (sim.one_of(500), sim.between(1, 3));
    while !sim.is_violated() {
        let open = if soon { sim.between(500, 5_000) } else { 3_600_000 };
        let draw = json!({
            "id": DRAW, "pick": 2, "pool": {"from": 1, "to": 5}, "perUser": per_user,
            "closesAt": time::format(sim.wall_ms() + open),
            "prizes": [{"matches": 2, "name": "all", "quantity": 1}, {"matches": 1, "name": "one"}],
        });
        let Some(response) = ask(sim, Wish::admin("POST", "/api/draws", draw)).await else {
            continue;
        };
        if matches!(response.status, 201 | 409) {
            return;
        }
        sim.ensure(matches!(response.status, 400 | 401 | 404 | 429 | 503), || {
            format!("{} to a new draw", response.status)
        });
    }
}

async fn insist(sim: &Rc<Sim>, wish: Wish, status: u16) {
    while !sim.is_violated() {
        if let Some(response) = ask(sim, wish.clone()).await {
            if sim.is_fleet() && matches!(response.status, 401 | 404) {
                // That gateway does not know yet of what another has just made.
                sim.executor.sleep(LATEST / 10).await;
                continue;
            }
            let there = response.status == status || matches!(response.status, 200 | 409);
            sim.ensure(there, || format!("{} to {wish:?}", response.status));
            return;
        }
    }
}

/// All is calm: whatever is left can be had, and no more; everything is delivered.
pub async fn finish(sim: &Rc<Sim>) {
    sell_out(sim, FLASH, 1).await;
    let imports = |known: &Campaign| known.codes.is_some();
    if sim.model.borrow().campaigns.get(MULTI).is_some_and(imports) {
        // What an import left half done is done by the next, and each code is a unit.
        import_all(sim, MOST_CODES + 4).await;
    }
    let per_user = sim
        .model
        .borrow()
        .campaigns
        .get(MULTI)
        .map_or(1, |campaign| campaign.per_user);
    sell_out(sim, MULTI, per_user).await;
    sell_out(sim, TICKETS, 1).await;
    saw_lines_and_codes(sim);
    holds_end(sim).await;
    line_ends(sim).await;
    holds_end(sim).await;
    confirm_all(sim).await;
    all_come(sim).await;
    end_draw(sim).await;
    ask(sim, Wish::Visit(PLAIN)).await;
    while ask(sim, Wish::Visit(LIMITED))
        .await
        .is_some_and(|response| response.status == 302)
    {}
    ask(sim, Wish::Visit(PLAIN)).await;
    let exhausted = sim
        .model
        .borrow()
        .called(LIMITED)
        .is_some_and(|link| link.max == Some(link.visits));
    sim.ensure(exhausted, || "the link with maxVisits has visits left".into());
    insist(
        sim,
        Wish::admin("GET", "/api/links?owner=key:configured&limit=500", Value::Null),
        200,
    )
    .await;
    drained(sim).await;
    sim.check(sim.model.borrow().check_end());
    consuming::drain(sim).await;
    for (index, topic) in TOPICS.into_iter().enumerate() {
        if sim.model.borrow().dead_letters(index).is_empty() {
            continue;
        }
        let redrive = format!("/api/topics/{topic}/subscriptions/{SUBSCRIPTION}/dead-letters/redrive");
        insist(sim, Wish::admin("POST", redrive, json!({"all": true})), 200).await;
    }
    for (index, topic) in TOPICS.into_iter().enumerate() {
        let dead = sim.model.borrow().groups[index].dead.len() as u64;
        sim.saw_times(Seen::GivenUp, dead);
        sim.saw_times(Seen::LeasedAgain, sim.model.borrow().groups[index].again);
        if dead > 0 {
            let redrive = consuming::path(topic, "dead-letters/redrive");
            insist(sim, Wish::admin("POST", redrive, json!({"all": true})), 200).await;
        }
    }
    drained(sim).await;
    consuming::drain(sim).await;
    {
        let model = sim.model.borrow();
        for (index, topic) in TOPICS.into_iter().enumerate() {
            let (last, ledger) = (model.mirror.last_sequence(topic), &model.ledgers[index]);
            let missing = (1..=last).find(|sequence| !ledger.acknowledged.contains(sequence));
            sim.ensure(missing.is_none(), || {
                format!("{topic} {missing:?} was redriven and not delivered")
            });
            let group = &model.groups[index];
            let missing = (1..=last).find(|sequence| !group.acked.contains(sequence));
            sim.ensure(missing.is_none(), || {
                format!("{topic} {missing:?} was acknowledged by nobody")
            });
        }
        sim.check(model.check_end());
    }
    // A group of the background work may be on disk, and not told yet.
    let same = || match sim.is_fleet() {
        true => sim.database.is_as_told(sim),
        false => sim.model.borrow().same_as(&sim.disk.borrow().read()),
    };
    for _ in 0..20 {
        if same().is_ok() {
            break;
        }
        sim.executor.sleep(50_000).await;
    }
    sim.check(same());
    if sim.is_fleet() {
        // Reports of what was admitted are under way.
        sim.executor.sleep(5_000_000).await;
        sim.check(sim.database.accounts.check_end());
    }
}

/// The draw is drawn, and its outcome holds for whoever checks it.
async fn end_draw(sim: &Rc<Sim>) {
    let path = format!("/api/draws/{DRAW}");
    // Two operators at once: there is one outcome.
    let drawn = || insist(sim, Wish::admin("POST", format!("{path}/draw"), Value::Null), 200);
    futures::future::join(drawn(), drawn()).await;
    let Some(outcome) = sim.model.borrow().draw.outcome.clone() else {
        return sim.violated(|| "the draw is not drawn when all is calm".into());
    };
    let Some(user) = outcome["winner"]["user"].as_str() else {
        return;
    };
    let proof = Wish::admin("GET", format!("{path}/entries/{user}/proof"), Value::Null);
    if let Some(response) = ask(sim, proof).await.filter(|response| response.status == 200) {
        let holds = draws::verify(&response.body, None).is_ok_and(|report| report.holds());
        sim.ensure(holds, || "the proof of the winner does not hold".into());
    }
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
        let began = sim.executor.now();
        let status = ask(sim, wish).await.map(|response| response.status);
        match status {
            Some(201) => {}
            Some(410) => {
                if let Some(is_full) = is_sold_out(sim, campaign, began) {
                    return sim.ensure(is_full, || format!("{campaign} refuses with units left"));
                }
                if sim.is_fleet() {
                    sim.executor.sleep(LATEST / 4).await;
                }
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

/// Whether a campaign that has just refused a claim as sold out, asked for at `began`, is so. `None`: it was, and a unit came back
/// while that claim was under way, such as by a revocation; once more.
fn is_sold_out(sim: &Sim, campaign: &str, began: u64) -> Option<bool> {
    let began = began.saturating_sub(if sim.is_fleet() { LATEST } else { 0 });
    let model = sim.model.borrow();
    let known = model.campaigns.get(campaign)?;
    match (known.is_sold_out(), known.short_at[1] >= began) {
        (false, true) => None,
        (is_full, _) => Some(is_full),
    }
}

fn saw_lines_and_codes(sim: &Sim) {
    let model = sim.model.borrow();
    for campaign in model.campaigns.values() {
        let (had, served) = campaign.line.as_ref().map_or((0, 0), Line::seen);
        sim.saw_times(Seen::Lined, had);
        sim.saw_times(Seen::Served, served);
        let given = campaign.codes.as_ref().map_or(0, |given| given.len() as u64);
        sim.saw_times(Seen::CodesGiven, given);
    }
}

/// Until every hold has ended: by the wall clock, which may be behind the store's.
async fn holds_end(sim: &Rc<Sim>) {
    let last = sim.model.borrow().campaigns.get(TICKETS).and_then(|campaign| {
        let held = campaign.fates.values().filter_map(|fate| fate.ends);
        held.max()
    });
    let behind = if sim.is_fleet() { SKEW_MS } else { 0 };
    while last.is_some_and(|last| sim.wall_ms() < last + behind) && !sim.is_violated() {
        sim.executor.sleep(500_000).await;
    }
}

/// Until everybody in line had a claim, which nobody confirms, or no unit can come back: whoever asks for one gives what has come
/// back to those in line.
async fn line_ends(sim: &Rc<Sim>) {
    let waiting = || {
        let model = sim.model.borrow();
        let known = model.campaigns.get(TICKETS);
        let may_come = |known: &&Campaign| known.held() > 0 || known.taken() < known.quantity;
        known.filter(may_come).map_or(0, Campaign::waiting)
    };
    for _ in 0..100 {
        if waiting() == 0 || sim.is_violated() {
            return;
        }
        holds_end(sim).await;
        let claim = Wish::Claim {
            campaign: TICKETS,
            user: "late-0".to_owned(),
            key: None,
            body: "",
        };
        ask(sim, claim).await;
    }
    sim.violated(|| format!("{} still are in line", waiting()));
}

/// Until every message that was to come has come: by the wall clock, which may be behind the store's.
async fn all_come(sim: &Rc<Sim>) {
    for _ in 0..1_500 {
        if sim.model.borrow().later.waiting() == 0 || sim.is_violated() {
            break;
        }
        sim.executor.sleep(250_000).await;
    }
    let (waiting, arrived) = (
        sim.model.borrow().later.waiting(),
        sim.model.borrow().later.arrived(),
    );
    sim.saw_times(Seen::CameLater, arrived as u64);
    sim.ensure(waiting == 0, || format!("{waiting} messages have not come"));
}

/// What was held and forgotten is back, swept or not: every unit is claimed and confirmed by somebody new.
async fn confirm_all(sim: &Rc<Sim>) {
    for number in 0..40 {
        let user = format!("buyer-{number}");
        let wish = Wish::Claim {
            campaign: TICKETS,
            user: user.clone(),
            key: None,
            body: "",
        };
        let began = sim.executor.now();
        let Some(response) = ask(sim, wish).await else {
            break;
        };
        if response.status == 410 {
            let Some(is_sold_out) = is_sold_out(sim, TICKETS, began) else {
                if sim.is_fleet() {
                    sim.executor.sleep(LATEST / 4).await;
                }
                continue;
            };
            let held = sim.model.borrow().campaigns[TICKETS].held();
            return sim.ensure(is_sold_out && held == 0, || {
                "tickets that nobody has confirmed are not to be had".into()
            });
        }
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let claim = answer["claim"]["id"].as_str().unwrap_or("").to_owned();
        let confirm = Wish::Settle {
            campaign: TICKETS,
            user,
            claim,
            verb: "confirm",
            key: None,
            by_user: true,
        };
        insist(sim, confirm, 200).await;
    }
    sim.violated(|| "the tickets do not sell out".into());
}

/// Until the relays have nothing left to do, at most some minutes, and clicks are written.
async fn drained(sim: &Rc<Sim>) {
    for waited in 0..1_500 {
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
            let waiting = model
                .mirror
                .entries
                .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
                .next();
            model.ledgers[index].watermark == model.mirror.last_sequence(topic)
                && waiting.is_none_or(|(key, _)| !key.starts_with(&prefix))
        });
        // A sync that was slow before all was calm may still be under way.
        let counted = waited >= 8 || model.clicks_are_counted();
        if at_end && counted || sim.is_violated() {
            return;
        }
    }
    sim.violated(|| "the relays do not come to an end".into());
}
