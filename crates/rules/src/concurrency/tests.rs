use serde_json::{Value, json};

use super::*;
use crate::testing::{Gateway, ready, request};

const FILE: &str = "[[concurrency]]\nname = \"reports\"\npath = \"/api/reports/...\"\nmethods = [\"GET\"]\nmax = 2\n\n\
    [[concurrency]]\nname = \"all\"\nper = []\nmax = 9\nstatus = 503\n\n\
    [[access]]\nname = \"friends\"\naction = \"exempt\"\nclients = [\"id:friend\"]\n";

fn keys(path: &str, method: &str, headers: &[(&str, &str)]) -> Result<Vec<String>, u16> {
    let gateway = Gateway::with_settings(Settings::parse(FILE, "tollgate.toml").unwrap());
    let fresh = || gateway.fresh();
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: gateway.store.now(),
        fresh: &fresh,
    };
    let request = request(method, path, headers, &Value::Null);
    let places = ready(places(&world, &request)).map_err(|problem| problem.into_response().status)?;
    Ok(places.into_iter().map(|place| place.key).collect())
}

#[test]
fn a_request_needs_a_place_of_every_limit_that_matches_it() {
    let ann = [("x-client-id", "ann")];
    let both = ["reports|id:ann", "all"].map(str::to_owned).to_vec();
    assert_eq!(keys("/api/reports/1", "GET", &ann), Ok(both.clone()));
    assert_eq!(keys("/api/%72eports/1", "GET", &ann), Ok(both));
    assert_eq!(keys("/api/reports/1", "PUT", &ann), Ok(vec!["all".to_owned()]));
    assert_eq!(
        keys("/api/reports/1", "GET", &[("x-client-id", "friend")]),
        Ok(Vec::new())
    );
    let twice = [("x-client-id", "ann"), ("x-client-id", "bob")];
    assert_eq!(keys("/api/reports/1", "GET", &twice), Err(400));
}

#[test]
fn health_and_forward_auth_need_none_and_nothing_is_asked_where_nothing_is_set() {
    let settings = Settings::parse(FILE, "tollgate.toml").unwrap();
    assert!(is_wanted(&settings, "GET", "/abc"));
    for path in ["/health/live", "/health/ready", "/api/check", "/api/check/abc"] {
        assert!(!is_wanted(&settings, "GET", path), "{path}");
    }
    assert!(!is_wanted(&Settings::default(), "GET", "/api/reports/1"));
}

#[test]
fn one_too_many_is_told_which_limit_and_when_to_come_back() {
    let settings = Settings::parse(FILE, "tollgate.toml").unwrap();
    let told = |index: usize| {
        let limit = &settings.concurrency[index];
        let response = limit.refusal().into_response();
        let document = crate::testing::body(&response);
        (
            response.status,
            response.header("retry-after").map(str::to_owned),
            document["violated-policies"].clone(),
        )
    };
    assert_eq!(told(0), (429, Some("1".into()), json!(["reports"])));
    assert_eq!(told(1), (503, Some("1".into()), Value::Null));
}
