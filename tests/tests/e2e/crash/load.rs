//! Clients that claim, sign up and follow links, and write down every answer; and ask again where there was none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::journal::{Admission, Journal, Link};
use crate::harness::{ADMIN_KEY, Answer, Call, Gateway, crowd, unique};

/// Units of a campaign; when it is sold out, there is another.
const QUANTITY: u64 = 150;
/// Visits of a link; when they are used up, the link is deleted and there is another.
const VISITS: u64 = 40;
/// Requests at once when all answers are asked for.
const WIDTH: usize = 32;
/// How long a client of a fleet waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits before it asks the next gateway.
const PAUSE: Duration = Duration::from_millis(20);
/// How long it may take until all that was not answered is, once nothing is broken any more.
const CALM: Duration = Duration::from_secs(60);

/// Nobody answered: the power is gone.
pub struct Gone;

/// A request that was not answered, to be asked again under the same name.
#[derive(Clone)]
enum Unanswered {
    Claim { campaign: String, user: String },
    SignUp { key: String },
    Delete { code: String },
}

/// What all clients ask for now.
#[derive(Clone, Default)]
struct Current {
    campaign: String,
    link: String,
}

pub struct Load {
    gateways: Arc<Vec<Gateway>>,
    next: AtomicUsize,
    current: AsyncMutex<Current>,
    journal: Mutex<Journal>,
    unanswered: Mutex<Vec<Unanswered>>,
}

impl Load {
    /// Over one gateway, or over several of one store.
    pub fn new(gateways: Arc<Vec<Gateway>>) -> Self {
        Self {
            gateways,
            next: AtomicUsize::new(0),
            current: AsyncMutex::default(),
            journal: Mutex::default(),
            unanswered: Mutex::default(),
        }
    }

    /// A gateway of a fleet may know nothing of a commit for a while, and say so.
    fn is_fleet(&self) -> bool {
        self.gateways.len() > 1
    }

    /// Each in turn.
    fn gateway(&self) -> &Gateway {
        &self.gateways[self.next.fetch_add(1, Ordering::Relaxed) % self.gateways.len()]
    }

    /// An answer that says what became of the request.
    async fn attempt(&self, call: Call) -> Option<Answer> {
        if !self.is_fleet() {
            return call.attempt().await.ok();
        }
        let answer = tokio::time::timeout(PATIENCE, call.attempt()).await;
        answer
            .ok()?
            .ok()
            .filter(|answer| answer.status != 503 && answer.status != 504)
    }

    /// Makes the first campaign and the first link.
    pub async fn begin(&self) {
        let made = self.sold_out("").await.is_ok() && self.used_up("").await.is_ok();
        assert!(made, "nobody answers");
    }

    /// One client: until nobody answers any more, or, of a fleet, until then.
    pub async fn run(self: Arc<Self>, name: String, until: Option<Arc<OnceCell<Instant>>>) {
        for n in 0.. {
            let name = format!("{name}-{n}");
            let done = match n % 4 {
                0 | 1 => {
                    let campaign = self.current.lock().await.campaign.clone();
                    self.claim(campaign, name).await
                }
                2 => self.sign_up(name).await,
                _ => self.visit().await,
            };
            match &until {
                Some(until) if until.get().is_some_and(|until| Instant::now() >= *until) => return,
                Some(_) if done.is_err() => tokio::time::sleep(PAUSE).await,
                None if done.is_err() => return,
                _ => {}
            }
        }
    }

    /// Asks again what was not answered.
    pub async fn ask_again(self: &Arc<Self>) {
        let until = Instant::now() + CALM;
        while !self.asked_again().await {
            assert!(self.is_fleet(), "the gateway is gone after its restart");
            assert!(Instant::now() < until, "not all is answered after {CALM:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether all was answered.
    async fn asked_again(self: &Arc<Self>) -> bool {
        let unanswered = std::mem::take(&mut *self.unanswered.lock().unwrap());
        let answered = crowd(WIDTH, unanswered, |request| {
            let load = Arc::clone(self);
            async move {
                match request {
                    Unanswered::Claim { campaign, user } => load.claim(campaign, user).await,
                    Unanswered::SignUp { key } => load.sign_up(key).await,
                    Unanswered::Delete { code } => load.delete(code).await,
                }
            }
        });
        answered.await.iter().all(Result::is_ok)
    }

    /// Claims what is left of the last campaign. Of a fleet, what is not answered in time is to be asked again.
    pub async fn finish(self: &Arc<Self>) {
        let campaign = self.current.lock().await.campaign.clone();
        let users = 0..QUANTITY + 20;
        let claims = crowd(WIDTH, users, |user| {
            Arc::clone(self).claim_of(campaign.clone(), format!("last-{user}"))
        });
        let all = claims.await.iter().all(Result::is_ok);
        assert!(all || self.is_fleet(), "the gateway is gone");
    }

    async fn claim_of(self: Arc<Self>, campaign: String, user: String) -> Result<(), Gone> {
        self.claim(campaign, user).await
    }

    /// Compares what is there with the journal; gives the number of acknowledgements that were compared.
    pub async fn check(&self) -> u64 {
        let mut journal = std::mem::take(&mut *self.journal.lock().unwrap());
        let checked = journal.check(self.gateway()).await;
        *self.journal.lock().unwrap() = journal;
        checked
    }

    async fn claim(&self, campaign: String, user: String) -> Result<(), Gone> {
        let path = format!("/api/campaigns/{campaign}/claims");
        let call = self.gateway().post(&path).user(&user).json(&json!({}));
        let began = Instant::now();
        let Some(answer) = self.attempt(call).await else {
            self.unanswered(Unanswered::Claim { campaign, user });
            return Err(Gone);
        };
        let claim = match answer.status {
            201 => {
                let claim = answer.json()["claim"].clone();
                let mut journal = self.journal.lock().unwrap();
                journal
                    .order
                    .admitted(&campaign, Admission::of(&claim).sequence(), began);
                claim
            }
            // Asked again, after an answer that was lost.
            409 => answer.problem(409, "already-claimed")["claim"].clone(),
            _ => {
                answer.problem(410, "sold-out");
                self.journal.lock().unwrap().order.sold_out(&campaign);
                return self.sold_out(&campaign).await;
            }
        };
        let admission = Admission::of(&claim);
        let before = self
            .journal
            .lock()
            .unwrap()
            .claims
            .insert((campaign, user), admission.clone());
        assert!(
            before.is_none_or(|before| before == admission),
            "two claims of one user: {claim}"
        );
        Ok(())
    }

    async fn sign_up(&self, key: String) -> Result<(), Gone> {
        let call = self
            .gateway()
            .post("/signup")
            .client("crash")
            .json(&json!({ "key": key }))
            .header("idempotency-key", &format!("\"{key}\""));
        let Some(answer) = self.attempt(call).await else {
            self.unanswered(Unanswered::SignUp { key });
            return Err(Gone);
        };
        let message = answer.expect(202).json();
        self.journal
            .lock()
            .unwrap()
            .sign_ups
            .insert(key, Admission::of(&message));
        Ok(())
    }

    async fn visit(&self) -> Result<(), Gone> {
        let code = self.current.lock().await.link.clone();
        let answer = self.attempt(self.gateway().get(&format!("/{code}"))).await;
        let told = {
            let mut journal = self.journal.lock().unwrap();
            let link = journal.links.entry(code.clone()).or_default();
            match &answer {
                None => {
                    link.unanswered += 1;
                    return Err(Gone);
                }
                Some(answer) if answer.status == 302 => {
                    link.redirected += 1;
                    return Ok(());
                }
                Some(answer) => answer.clone(),
            }
        };
        self.is_over(&told);
        self.used_up(&code).await
    }

    /// Whether the link was visited once too often, or deleted by the client that saw that first.
    fn is_over(&self, answer: &Answer) {
        match answer.status {
            404 => drop(answer.problem(404, "not-found")),
            _ => drop(answer.problem(410, "gone")),
        }
    }

    async fn delete(&self, code: String) -> Result<(), Gone> {
        let call = self
            .gateway()
            .delete(&format!("/api/links/{code}"))
            .key(ADMIN_KEY);
        let Some(answer) = self.attempt(call).await else {
            self.unanswered(Unanswered::Delete { code });
            return Err(Gone);
        };
        assert!(answer.status == 204 || answer.status == 404, "{}", answer.shown());
        self.link(&code, |link| link.deleted = true);
        Ok(())
    }

    /// Makes the next campaign, unless somebody has.
    async fn sold_out(&self, campaign: &str) -> Result<(), Gone> {
        let mut current = self.current.lock().await;
        if current.campaign != campaign {
            return Ok(());
        }
        let id = unique("crash");
        let body = json!({ "id": id, "quantity": QUANTITY });
        self.create("/api/campaigns", &body).await?;
        self.journal
            .lock()
            .unwrap()
            .quantities
            .insert(id.clone(), QUANTITY);
        current.campaign = id;
        Ok(())
    }

    /// Makes the next link and deletes this one, unless somebody has.
    async fn used_up(&self, code: &str) -> Result<(), Gone> {
        let mut current = self.current.lock().await;
        if current.link != code {
            return Ok(());
        }
        let next = unique("crash");
        let body = json!({ "url": format!("https://example.com/{next}"), "code": next, "maxVisits": VISITS });
        self.create("/api/links", &body).await?;
        self.link(&next, |link| link.max = VISITS);
        current.link = next;
        drop(current);
        // The first ones are kept, to be counted for as long as this lasts.
        let (kept, known) = {
            let journal = self.journal.lock().unwrap();
            (
                journal.links.len().is_multiple_of(2),
                journal.links.contains_key(code),
            )
        };
        match known && !kept {
            true => self.delete(code.to_owned()).await,
            false => Ok(()),
        }
    }

    async fn create(&self, path: &str, body: &Value) -> Result<(), Gone> {
        let call = self.gateway().post(path).key(ADMIN_KEY).json(body);
        let answer = self.attempt(call).await.ok_or(Gone)?;
        answer.expect(201);
        Ok(())
    }

    fn link(&self, code: &str, change: impl FnOnce(&mut Link)) {
        change(
            self.journal
                .lock()
                .unwrap()
                .links
                .entry(code.to_owned())
                .or_default(),
        );
    }

    fn unanswered(&self, request: Unanswered) {
        if let Unanswered::Delete { code } = &request {
            self.link(code, |link| link.deleting = true);
        }
        self.unanswered.lock().unwrap().push(request);
    }
}
