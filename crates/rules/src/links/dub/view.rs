//! Dub's link: ours with its names. Each of its keys is there, since its clients insist on them.

use serde_json::{Map, Value, json};

use super::super::domain;
use super::super::record::{Link, short_url};
use super::ID;
use super::fields::{Way, way};
use crate::codes;
use crate::world::World;
use tollgate_api::time;

/// A link's id as Dub's clients know it.
pub(super) fn id(link: &Link) -> String {
    [ID, &link.record.id].concat()
}

pub(super) fn of<S>(world: &World<'_, S>, link: &Link) -> Value {
    let record = &link.record;
    let settings = world.settings;
    let rules = serde_json::to_value(&record.rules).unwrap_or_default();
    let utm = serde_json::to_value(&record.utm).unwrap_or_default();
    let tag = |tag: &String| json!({ "id": tag, "name": tag, "color": "gray" });
    let total: u32 = record.targets.iter().map(|one| one.weight).sum();
    let variant = |one: &super::super::routing::Weighted| {
        let percentage = f64::from(one.weight) * 100.0 / f64::from(total.max(1));
        json!({ "url": one.url, "percentage": percentage })
    };
    let variants: Vec<Value> = record.targets.iter().map(variant).collect();
    let (host, code) = codes::parts(&link.code);
    let on = host.map_or(String::new(), |host| format!("&domain={host}"));
    let qr = format!("{}/api/links/{code}/qr?format=png{on}", settings.public_url);
    let mut view = json!({
        "id": id(link), "domain": host.unwrap_or_else(|| domain::default(settings)), "key": code, "url": record.url, "shortLink": short_url(settings, &link.code),
        "qrCode": qr, "externalId": record.external_id, "title": record.title, "archived": record.limits.archived,
        "expiresAt": record.limits.expires_at.map(time::format), "expiredUrl": record.fallback_url,
        "ios": led(&rules, Way::Ios), "android": led(&rules, Way::Android), "geo": geo(&rules),
        "tags": record.tags.iter().map(tag).collect::<Vec<_>>(), "tagId": record.tags.first(),
        "testVariants": Some(variants).filter(|variants| !variants.is_empty()), "testStartedAt": null, "testCompletedAt": null,
        "clicks": link.visits, "lastClicked": link.visited_at.map(time::format),
        "createdAt": time::format(record.created_at), "updatedAt": time::format(record.updated_at),
        "workspaceId": record.owner, "projectId": record.owner, "userId": null,
    });
    // What has no counterpart.
    let without = json!({
        "tenantId": null, "programId": null, "partnerId": null, "folderId": null, "comments": null, "description": null,
        "image": null, "video": null, "password": null, "disabledAt": null, "webhookIds": [],
        "trackConversion": false, "proxy": false, "rewrite": false, "doIndex": false, "publicStats": false,
        "leads": 0, "conversions": 0, "sales": 0, "saleAmount": 0,
    });
    if let (Value::Object(view), Value::Object(without)) = (&mut view, without) {
        view.extend(without);
    }
    for (ours, theirs) in super::fields::UTM {
        view[theirs] = utm.get(ours).cloned().unwrap_or_default();
    }
    view
}

/// Where the first rule of this kind leads.
fn led(rules: &Value, wanted: Way) -> Option<&Value> {
    let mut rules = rules.as_array().into_iter().flatten();
    rules.find(|rule| way(rule) == wanted)?.get("url")
}

/// The rules of countries.
fn geo(rules: &Value) -> Option<Value> {
    let mut geo = Map::new();
    for rule in rules.as_array().into_iter().flatten() {
        if let (Way::Country, Some(country), Some(url)) =
            (way(rule), rule["when"]["country"].as_str(), rule.get("url"))
        {
            geo.entry(country).or_insert(url.clone());
        }
    }
    (!geo.is_empty()).then_some(Value::Object(geo))
}
