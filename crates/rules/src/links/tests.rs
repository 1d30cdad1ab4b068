//! Links against the store in memory: redirects and creation here, the rest by subject.

mod claiming;
mod conditional;
mod counting;
mod creating;
mod domains;
mod images;
mod listing;
mod lost;
mod managing;
mod many;
mod meddled;
mod passwords;
mod putting;
mod races;
mod redirecting;
mod strangers;
mod sweeping;
mod ways;

use serde_json::{Value, json};

use crate::keys;
use crate::testing::{ADMIN, Gateway, SECOND, body as json_of, pointer, ready, request, slug as kind, text};
use crate::upkeep::Work;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::time;
use tollgate_store::memory::START;
use tollgate_store::ports::Store;

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

impl Gateway {
    /// A new key with the scope `links`.
    fn member(&self, scope: Scope) -> String {
        let (key, commit) = keys::mint("m", &[scope], None, START, &|| self.fresh());
        ready(self.store.commit(commit)).unwrap();
        key
    }

    /// Creates a link as the admin.
    #[track_caller]
    fn create(&self, body: &Value) -> Value {
        let response = self.admin("POST", "/api/links", body);
        assert_eq!(response.status, 201, "{}", text(&response));
        json_of(&response)
    }

    /// A link called `code` with further fields.
    #[track_caller]
    fn link(&self, code: &str, fields: Value) {
        let mut body = json!({"url": "https://example.com/landing", "code": code});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        self.create(&body);
    }

    fn read(&self, code: &str) -> Value {
        json_of(&self.admin("GET", &format!("/api/links/{code}"), &Value::Null))
    }

    fn visits(&self, code: &str) -> u64 {
        self.read(code)["visits"].as_u64().unwrap()
    }

    /// A person follows the link.
    fn visit(&self, path: &str) -> Response {
        self.call("GET", path, &[("user-agent", BROWSER)], &Value::Null)
    }

    fn pass(&self, ms: u64) {
        self.store.set_now(self.store.now() + ms);
    }

    /// Does all that is due of the background work on links and visits.
    fn maintain_links(&self) {
        for work in [Work::Visits, Work::Links] {
            let step = || ready(work.step(&self.store, &self.settings.config, self.store.now()));
            let steps = (0..100).take_while(|_| step().unwrap()).count();
            assert!(steps < 100, "it comes to an end");
        }
    }
}

fn at(ms_from_start: u64) -> String {
    time::format(START + ms_from_start)
}
