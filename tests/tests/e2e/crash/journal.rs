//! What the clients know, and what must therefore be there.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, crowd};

/// Requests at once.
const WIDTH: usize = 32;

/// An id and its place in a sequence without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    id: String,
    sequence: u64,
}

impl Admission {
    /// What a claim, or a message, says.
    #[track_caller]
    pub fn of(value: &Value) -> Self {
        Self {
            id: value["id"].as_str().expect("it has an id").to_owned(),
            sequence: value["sequence"].as_u64().expect("it has a sequence"),
        }
    }

    /// Its place.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// Sequences are the order in which admissions took effect; so none ended before one with a smaller number began, over all
/// gateways, and none began after somebody was told that all is sold.
#[derive(Default)]
pub struct Order {
    /// By campaign and sequence: when it was asked for, and answered.
    admitted: BTreeMap<String, BTreeMap<u64, (Instant, Instant)>>,
    /// By campaign.
    sold_out: BTreeMap<String, Instant>,
}

impl Order {
    /// An answer that has just come.
    pub fn admitted(&mut self, campaign: &str, sequence: u64, began: Instant) {
        let sold_out = self.sold_out.get(campaign);
        assert!(
            sold_out.is_none_or(|told| *told >= began),
            "admitted after all was sold: {sequence} of {campaign}"
        );
        let campaign = self.admitted.entry(campaign.to_owned()).or_default();
        campaign.insert(sequence, (began, Instant::now()));
    }

    /// An answer that has just come.
    pub fn sold_out(&mut self, campaign: &str) {
        self.sold_out
            .entry(campaign.to_owned())
            .or_insert_with(Instant::now);
    }

    fn check(&mut self) {
        for (campaign, admitted) in std::mem::take(&mut self.admitted) {
            let mut latest = None;
            for (sequence, (began, ended)) in admitted {
                assert!(
                    latest.is_none_or(|latest| ended >= latest),
                    "{sequence} of {campaign} ended before one with a smaller number began"
                );
                latest = latest.max(Some(began));
            }
        }
    }
}

/// What is known of a link.
#[derive(Clone, Copy, Default)]
pub struct Link {
    pub max: u64,
    pub redirected: u64,
    /// Visits that may have counted.
    pub unanswered: u64,
    pub deleting: bool,
    pub deleted: bool,
}

/// What the clients know of the gateway's state. Everything in it was acknowledged.
#[derive(Default)]
pub struct Journal {
    /// By campaign and user.
    pub claims: BTreeMap<(String, String), Admission>,
    /// Units by campaign.
    pub quantities: BTreeMap<String, u64>,
    /// By idempotency key.
    pub sign_ups: BTreeMap<String, Admission>,
    /// By code.
    pub links: BTreeMap<String, Link>,
    pub order: Order,
    read: Read,
}

/// What was read of the topics so far.
#[derive(Default)]
struct Read {
    claims: BTreeMap<(String, String), Admission>,
    admitted: BTreeMap<String, u64>,
    claim_messages: u64,
    sign_ups: BTreeMap<String, Admission>,
    /// Acknowledgements that were compared before.
    compared: u64,
}

impl Journal {
    /// Compares all of it with what is there; gives the number of acknowledgements that are new since the last time.
    pub async fn check(&mut self, gateway: &Gateway) -> u64 {
        self.order.check();
        self.check_claims(gateway).await;
        self.check_sign_ups(gateway).await;
        self.check_links(gateway).await;
        let redirected: u64 = self.links.values().map(|link| link.redirected).sum();
        let compared = redirected
            + (self.claims.len() + self.sign_ups.len() + self.links.len() + self.quantities.len()) as u64;
        let new = compared - self.read.compared;
        self.read.compared = compared;
        new
    }

    /// Claims are what was announced: one per user, numbered without gaps, never more than there are units.
    async fn check_claims(&mut self, gateway: &Gateway) {
        let mut campaigns = BTreeSet::new();
        let mut news = Vec::new();
        for message in gateway.messages_after("coupon", self.read.claim_messages).await {
            self.read.claim_messages += 1;
            assert_eq!(
                message["sequence"], self.read.claim_messages,
                "the topic has a gap: {message}"
            );
            let data = &message["data"];
            let text = |member: &str| data[member].as_str().expect("it is announced").to_owned();
            let (campaign, user) = (text("campaign"), text("user"));
            let admitted = self.read.admitted.entry(campaign.clone()).or_default();
            *admitted += 1;
            assert_eq!(data["sequence"], *admitted, "admissions have a gap: {message}");
            assert!(
                *admitted <= self.quantities[&campaign],
                "over-admitted: {message}"
            );
            let admission = Admission {
                id: text("claim"),
                sequence: *admitted,
            };
            campaigns.insert(campaign.clone());
            news.push((campaign.clone(), user.clone(), admission.clone()));
            let before = self.read.claims.insert((campaign, user), admission);
            assert!(before.is_none(), "a second claim of one user: {message}");
        }
        for (who, admission) in &self.claims {
            assert_eq!(
                self.read.claims.get(who),
                Some(admission),
                "lost, or changed: the claim of {who:?}"
            );
        }
        for campaign in campaigns {
            let path = format!("/api/campaigns/{campaign}");
            let state = gateway.get(&path).send().await.expect(200).json();
            let (admitted, quantity) = (self.read.admitted[&campaign], self.quantities[&campaign]);
            assert_eq!(
                (&state["admitted"], &state["remaining"]),
                (&json!(admitted), &json!(quantity - admitted)),
                "state and queue disagree: {state}"
            );
        }
        let states = crowd(WIDTH, news.clone(), |(campaign, user, _)| {
            let path = format!("/api/campaigns/{campaign}/claims/{user}");
            gateway.get(&path).user(&user).send()
        });
        for (answer, (_, user, admission)) in states.await.into_iter().zip(&news) {
            let claims = answer.expect(200).json()["claims"].clone();
            assert_eq!(claims.as_array().map(Vec::len), Some(1), "{user}: {claims}");
            assert_eq!(Admission::of(&claims[0]), *admission, "{user}");
        }
    }

    /// Every key is one message, however often it was sent.
    async fn check_sign_ups(&mut self, gateway: &Gateway) {
        let read = self.read.sign_ups.len() as u64;
        for (n, message) in gateway.messages_after("signup", read).await.iter().enumerate() {
            assert_eq!(
                message["sequence"],
                read + n as u64 + 1,
                "the topic has a gap: {message}"
            );
            let key = message["data"]["key"].as_str().expect("it has a key").to_owned();
            let before = self.read.sign_ups.insert(key, Admission::of(message));
            assert_eq!(before, None, "signed up twice: {message}");
        }
        for (key, admission) in &self.sign_ups {
            assert_eq!(
                self.read.sign_ups.get(key),
                Some(admission),
                "lost, or changed: sign-up {key}"
            );
        }
    }

    /// Links lead nowhere more often than they may, and count what they did.
    async fn check_links(&self, gateway: &Gateway) {
        let links: Vec<(String, Link)> = self
            .links
            .iter()
            .map(|(code, link)| (code.clone(), *link))
            .collect();
        let answers = crowd(WIDTH, links.clone(), |(code, _)| {
            gateway.get(&format!("/api/links/{code}")).key(ADMIN_KEY).send()
        });
        for (answer, (code, link)) in answers.await.into_iter().zip(links) {
            assert!(
                link.redirected <= link.max,
                "{code}: {} of {}",
                link.redirected,
                link.max
            );
            if link.deleted || (link.deleting && answer.status == 404) {
                answer.problem(404, "not-found");
                continue;
            }
            let visits = answer.expect(200).json()["visits"]
                .as_u64()
                .expect("visits are a number");
            let possible = link.redirected..=(link.redirected + link.unanswered).min(link.max);
            assert!(
                possible.contains(&visits),
                "{code}: {visits} visits, not {possible:?}"
            );
        }
    }
}
