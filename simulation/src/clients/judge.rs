//! Whether an answer is true.

use serde::Deserialize;
use serde_json::Value;
use tollgate_api::http::Response;
use tollgate_rules::campaigns::Status;

use super::request::{TWO, Wish};
use super::{MULTI, TICKETS};
use crate::coverage::Seen;
use crate::model::{Checked, Model, ensure};
use crate::world::{SCRATCH, Sim, TOPICS};

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

#[derive(Deserialize)]
struct Posted {
    id: String,
    sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Redriven {
    redriven: u64,
}

fn decoded<'a, T: Deserialize<'a>>(response: &'a Response) -> Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("an answer cannot be read: {error}"))
}

/// Compares an answer with what is durable. The request began at `began`, microseconds since the beginning; what it was told may
/// have been true `late` before.
pub fn judge(sim: &Sim, wish: &Wish, response: &Response, began: u64, late: u64) -> Checked {
    let since = began.saturating_sub(late);
    let answer = Answer {
        sim,
        response,
        began,
        since,
    };
    match response.status {
        503 => sim.saw(Seen::Unavailable),
        429 => sim.saw(Seen::Limited),
        // A gateway need not know yet of what another has just made.
        401 | 404 if sim.is_fleet() && since <= sim.prepared.get() => sim.saw(Seen::NotKnownYet),
        status => {
            let mut model = sim.model.borrow_mut();
            return match wish {
                Wish::Claim {
                    campaign,
                    user,
                    key,
                    body,
                } => {
                    let key = key.as_ref().map(|key| format!("{campaign} {user} {key} {body}"));
                    let units = if *body == TWO { 2 } else { 1 };
                    answer.to_claim(&mut model, campaign, user, units, key)
                }
                Wish::Settle {
                    campaign,
                    claim,
                    verb,
                    key,
                    ..
                } => {
                    let key = key.as_ref().map(|key| format!("{claim} {verb} {key}"));
                    answer.to_settle(&mut model, campaign, claim, verb, key)
                }
                Wish::Line { method, user } => answer.to_line(&model, method, user),
                Wish::Enter { user, key } => {
                    let key = key.as_ref().map(|key| format!("draw {user} {key}"));
                    answer.to_entry(&mut model, key)
                }
                Wish::Draw { .. } => {
                    ensure(status == 201, || format!("{status} to a ticket"))?;
                    let drawn: Value = decoded(response)?;
                    let is_lot = drawn["position"].is_null();
                    sim.saw(if is_lot { Seen::LotsDrawn } else { Seen::TurnsDrawn });
                    model.room.drawn(&drawn)
                }
                Wish::Look { ticket, .. } => {
                    ensure(status == 200, || format!("{status} to a look at a ticket"))?;
                    let seen: Value = decoded(response)?;
                    let is_waiting = seen["state"] == "waiting";
                    sim.saw(if is_waiting {
                        Seen::TurnsWaited
                    } else {
                        Seen::TurnsCome
                    });
                    model.room.looked(&Value::from(ticket.as_str()), &seen)
                }
                Wish::Admin { path, .. } if path.starts_with("/api/rooms/") => {
                    ensure(status == 200, || format!("{status} to a pace"))
                }
                Wish::Admin { path, .. } if path.starts_with("/api/draws/") => answer.to_draw(&model),
                Wish::SignUp { client, key, body } => {
                    let key = key.as_ref().map(|key| format!("{client} {key}"));
                    answer.to_sign_up(&mut model, body, key)
                }
                Wish::Later {
                    client, key, body, ..
                } => {
                    let key = key.as_ref().map(|key| format!("later {client} {key}"));
                    answer.to_later(&mut model, body, key)
                }
                Wish::Visit(code) | Wish::VisitBy(code, _) => answer.to_visit(&mut model, code),
                Wish::Admin { method, path, body } if path.starts_with("/api/links") => {
                    answer.to_link(&mut model, method, body)
                }
                Wish::Admin { method, path, .. } if path.contains(SCRATCH) => {
                    answer.to_scratch(&mut model, method)
                }
                Wish::Admin { path, body, .. } if path.contains("/groups/") => {
                    answer.to_consumer(&model, path, body)
                }
                Wish::Admin { method, path, body } => answer.to_admin(&model, method, path, body),
                Wish::Install => ensure(status == 204, || format!("{status} to the admin key")),
            };
        }
    }
    Ok(())
}

struct Answer<'a> {
    sim: &'a Sim,
    response: &'a Response,
    began: u64,
    /// What it was told was true at this time, or later.
    since: u64,
}

impl Answer<'_> {
    /// To a message, a look, or a deletion of the topic that is deleted now and then.
    fn to_scratch(&self, model: &mut Model, method: &str) -> Checked {
        match (method, self.response.status) {
            ("POST", 202) => {
                let accepted: Accepted = decoded(self.response)?;
                model.scratch.posted(accepted.sequence, self.sim.executor.now())
            }
            ("GET", 200) => model.scratch.seen(&decoded(self.response)?, self.began),
            ("DELETE", 204) => {
                self.sim.saw(Seen::TopicsDeleted);
                model.scratch.deleted(self.began)
            }
            // It had gone already, or others kept changing it.
            ("DELETE", 404 | 409) => Ok(()),
            (method, status) => Err(format!("{status} to {method} of {SCRATCH}")),
        }
    }
}

impl Answer<'_> {
    fn is_replayed(&self) -> bool {
        self.response.header("idempotency-replayed").is_some()
    }

    fn saw(&self, seen: Seen) -> Checked {
        self.sim.saw(seen);
        Ok(())
    }

    fn unexpected(&self, to: &str) -> Checked {
        Err(format!("{} to {to}", self.response.status))
    }

    fn to_claim(
        &self,
        model: &mut Model,
        campaign: &str,
        user: &str,
        units: u64,
        key: Option<String>,
    ) -> Checked {
        match self.response.status {
            201 | 409 => {
                let ToldClaim { id, sequence } = decoded::<Told>(self.response)?.claim;
                model.admitted(campaign, user, &id, sequence)?;
            }
            410 => {
                model.refused_as_sold_out(campaign, units, self.since)?;
                let told: Value = decoded(self.response)?;
                if told["held"].is_number() {
                    self.sim.saw(Seen::SoldOutHeld);
                }
                if told["waiting"].is_number() {
                    self.sim.saw(Seen::SoldOutLined);
                }
                return self.saw(Seen::SoldOut);
            }
            403 => return self.saw(Seen::OutsideWindow),
            422 => return self.saw(Seen::KeyReused),
            _ => return self.unexpected("a claim"),
        }
        if self.response.status == 409 {
            return self.saw(Seen::AlreadyClaimed);
        }
        if units > 1 {
            self.sim.saw(Seen::ClaimedTwo);
        }
        self.sim.saw(if self.is_replayed() {
            Seen::ClaimsReplayed
        } else {
            Seen::Admitted
        });
        key.map_or(Ok(()), |key| model.answered(key, &self.response.body))
    }

    fn to_settle(
        &self,
        model: &mut Model,
        campaign: &str,
        claim: &str,
        verb: &str,
        key: Option<String>,
    ) -> Checked {
        let to = match verb {
            "confirm" => Status::Confirmed,
            "release" => Status::Released,
            _ => Status::Revoked,
        };
        match self.response.status {
            200 => {
                model.settled(campaign, claim, to)?;
                key.map_or(Ok(()), |key| model.answered(key, &self.response.body))
            }
            409 => {
                model.settled_otherwise(campaign, claim, to)?;
                self.saw(Seen::SettledOtherwise)
            }
            410 => {
                model.settled(campaign, claim, Status::Expired)?;
                self.saw(Seen::SettledLate)
            }
            _ => self.unexpected("a change of a claim"),
        }
    }

    fn to_line(&self, model: &Model, method: &str, user: &str) -> Checked {
        match (method, self.response.status) {
            ("POST" | "GET", 200 | 201) => {
                let told: Value = decoded(self.response)?;
                match told["since"].is_string() {
                    true => model.told_a_place(TICKETS, user),
                    false => Ok(()),
                }
            }
            ("DELETE", 204) => self.saw(Seen::LinesLeft),
            // Units are left, or the user has as many as it may.
            ("POST", 409) => Ok(()),
            _ => self.unexpected("a line"),
        }
    }

    fn to_import(&self, model: &Model, body: &Value) -> Checked {
        let told: Value = decoded(self.response)?;
        self.sim.saw(Seen::CodesImported);
        let codes = body["codes"].as_array().into_iter().flatten();
        model.imported(MULTI, codes.filter_map(Value::as_str), told["quantity"].as_u64())
    }

    fn to_entry(&self, model: &mut Model, key: Option<String>) -> Checked {
        match self.response.status {
            201 | 409 => {
                let entry = &decoded::<Value>(self.response)?["entry"];
                let (id, sequence) = (entry["id"].as_str(), entry["sequence"].as_u64());
                model.draw.admitted(id.unwrap_or(""), sequence.unwrap_or(0))?;
                match self.response.status {
                    409 => self.saw(Seen::EnteredAlready),
                    _ => key.map_or(Ok(()), |key| model.answered(key, &self.response.body)),
                }
            }
            403 => self.saw(Seen::EntriesRefused),
            _ => self.unexpected("an entry"),
        }
    }

    fn to_draw(&self, model: &Model) -> Checked {
        match self.response.status {
            200 | 202 => model.draw.shown(&decoded(self.response)?),
            409 => Ok(()),
            _ => self.unexpected("a draw"),
        }
    }

    fn to_sign_up(&self, model: &mut Model, body: &str, key: Option<String>) -> Checked {
        if self.response.status != 202 {
            return self.unexpected("a sign-up");
        }
        let Accepted { id, sequence } = decoded(self.response)?;
        self.sim.saw(if self.is_replayed() {
            Seen::SignUpsReplayed
        } else {
            Seen::SignedUp
        });
        model.signed_up(&id, sequence, body.as_bytes())?;
        key.map_or(Ok(()), |key| model.answered(key, &self.response.body))
    }

    /// A message that was posted to come later, or has come meanwhile.
    fn to_later(&self, model: &mut Model, body: &str, key: Option<String>) -> Checked {
        if self.response.status != 202 {
            return self.unexpected("a message to come");
        }
        let Posted { id, sequence } = decoded(self.response)?;
        self.sim.saw(Seen::PostedLater);
        model.posted_later(&id)?;
        if let Some(sequence) = sequence {
            return model.signed_up(&id, sequence, body.as_bytes());
        }
        let key = key.map(|key| format!("{key} {id}"));
        key.map_or(Ok(()), |key| model.answered(key, &self.response.body))
    }

    fn to_visit(&self, model: &mut Model, code: &str) -> Checked {
        match self.response.status {
            302 => {
                self.sim.saw(Seen::Visits);
                if model.redirected(self.response.header("location").unwrap_or(""), self.since)? {
                    self.sim.saw(Seen::VisitsGranted);
                }
                Ok(())
            }
            410 => {
                self.sim.saw(Seen::VisitsExhausted);
                model.refused_as_exhausted(code, self.since)
            }
            404 => {
                self.sim.saw(Seen::LinksGone);
                model.refused_as_unknown(code, self.since)
            }
            _ => self.unexpected("a visit"),
        }
    }

    fn to_link(&self, model: &mut Model, method: &str, body: &Value) -> Checked {
        match (method, self.response.status) {
            ("POST", 200 | 201) if body.get("ifExists").is_some() => {
                let link: Value = decoded(self.response)?;
                model.shares(link["code"].as_str().unwrap_or(""))
            }
            ("POST", 201) => self.saw(Seen::LinksMadeAgain),
            ("POST", 409) => self.saw(Seen::CodesTaken),
            ("PATCH", 200) if body["maxVisits"].is_number() => self.saw(Seen::BoundsSet),
            ("DELETE", 204) => self.saw(Seen::LinksDeleted),
            ("PATCH" | "DELETE", 200 | 404 | 409) => Ok(()),
            ("GET", 200) => {
                let page: Value = decoded(self.response)?;
                let links = page["links"].as_array().into_iter().flatten();
                let codes = links.map(|link| link["code"].as_str().unwrap_or("").to_owned());
                // Before, links may come and go during the list.
                match self.sim.calm.get() {
                    true => model.listed(&codes.collect::<Vec<_>>()),
                    false => Ok(()),
                }
            }
            _ => self.unexpected("a link"),
        }
    }

    fn to_consumer(&self, model: &Model, path: &str, body: &Value) -> Checked {
        if !matches!(self.response.status, 200 | 201 | 409) {
            return self.unexpected(path);
        }
        let topic = path.split('/').nth(3);
        let index = TOPICS.iter().position(|name| topic == Some(name)).unwrap_or(0);
        let (group, document) = (&model.groups[index], decoded::<Value>(self.response)?);
        let lease = |id: &Value| {
            let (sequence, lease) = id.as_str()?.split_once('-')?;
            Some((sequence.parse().ok()?, u64::from_str_radix(lease, 16).ok()?))
        };
        if path.ends_with("/lease") {
            let leases = document["leases"].as_array().into_iter().flatten();
            let leases: Vec<_> = leases.filter_map(|one| lease(&one["leaseId"])).collect();
            self.sim.saw_times(Seen::Leased, leases.len() as u64);
            return group.told(&leases);
        }
        if path.ends_with("/ack") {
            let ids = body["leaseIds"].as_array().into_iter().flatten();
            let leases: Vec<_> = ids.filter_map(lease).collect();
            let acked = document["acked"].as_u64().unwrap_or(0);
            self.sim.saw_times(Seen::Acked, acked);
            self.sim.saw_times(Seen::AckedLate, leases.len() as u64 - acked);
            return group.acknowledged(&leases, acked);
        }
        Ok(())
    }

    fn to_admin(&self, model: &Model, method: &str, path: &str, body: &Value) -> Checked {
        match (method, self.response.status) {
            ("PATCH", 200) if body.get("state").is_some() => {
                let campaign = path.rsplit('/').next().unwrap_or("");
                let known = model.campaigns.get(campaign);
                if body["state"] == "open" {
                    let open = known.is_some_and(|known| known.was_opened || !known.closed);
                    ensure(open, || format!("{campaign} was opened, which is not durable"))?;
                    return self.saw(Seen::Opened);
                }
                let closed = known.is_some_and(|known| known.was_closed);
                ensure(closed, || format!("{campaign} was closed, which is not durable"))?;
                self.saw(Seen::Closed)
            }
            ("PATCH", 409) => self.saw(Seen::StockRefused),
            // An end that lies before the start.
            ("PATCH", 400) => Ok(()),
            // A draw that would have closed by now.
            ("POST", 400) if path == "/api/draws" => Ok(()),
            ("POST", 200) if path.ends_with("/redrive") => {
                let Redriven { redriven } = decoded(self.response)?;
                self.sim.saw_times(Seen::Redriven, redriven);
                Ok(())
            }
            ("POST", 200) if path.ends_with("/codes") => self.to_import(model, body),
            (_, 200 | 201 | 409) => Ok(()),
            _ => self.unexpected(path),
        }
    }
}
