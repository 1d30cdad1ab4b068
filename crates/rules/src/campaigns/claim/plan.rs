//! A claim as one commit, and what its refusals mean.

use std::collections::BTreeMap;

use super::Attempt;
use crate::campaigns::documents::{FormKind, generated};
use crate::campaigns::eligible::Listed;
use crate::campaigns::holds::Hold;
use crate::campaigns::pool::Taken;
use crate::campaigns::record::{Campaign, Codes, Live, Status};
use crate::world::World;
use tollgate_api::traceparent::Traceparent;
use tollgate_delivery::attributes;
use tollgate_store::commit::{Append, Commit, Condition, Mutation, Refusal, Template};
use tollgate_store::template::JsonBlank;

/// Why a claim was not admitted, as the commit tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    AlreadyClaimed,
    Changed,
    OutsideWindow,
    SoldOut,
    NotEligible,
    /// Another has the code.
    CodeTaken,
    /// The store's clock is further than was thought: the hold would be short.
    ShortHold,
    /// Our own claim was admitted before, and its units have come back since.
    Returned,
}

/// The answer of a claim's commit, and the meaning of its refusals.
pub(super) struct Plan {
    pub(super) answer: Template,
    /// Of the conditions beyond [`Plan::CONDITIONS`].
    further: Vec<Verdict>,
    mutations: &'static [Option<Verdict>],
}

impl Plan {
    const CONDITIONS: [Verdict; 3] = [Verdict::AlreadyClaimed, Verdict::Changed, Verdict::OutsideWindow];

    pub(super) fn verdict(&self, refusal: Refusal) -> Option<Verdict> {
        match refusal {
            Refusal::Condition(index) => {
                let mut all = Self::CONDITIONS.iter().chain(&self.further);
                all.nth(index as usize).copied()
            }
            Refusal::Mutation(index) => self.mutations.get(index as usize).copied().flatten(),
        }
    }
}

impl Attempt<'_> {
    /// The claim as one commit. `again`: it may have been made before.
    pub(super) fn plan<S>(
        &self,
        world: &World<'_, S>,
        live: &Live,
        listed: Listed,
        again: bool,
        taken: Option<&Taken>,
    ) -> (Commit, Plan) {
        let campaign = &*live.campaign;
        let hold = campaign
            .hold_seconds
            .map(|seconds| Hold::new(self.now.get(), seconds));
        let mut mutations = Vec::with_capacity(4);
        let meanings = self.count(campaign, &mut mutations);
        let (kind, code) = match (&hold, campaign.codes) {
            // A claim that is held gets its code when it is confirmed.
            (Some(_), _) => (FormKind::Held, ""),
            (None, Codes::None) => (FormKind::Plain, ""),
            (None, Codes::Generate) => {
                let fresh = || generated(world);
                (FormKind::WithCode, self.code.get_or_init(fresh).as_str())
            }
            (None, Codes::Import) => (
                FormKind::WithCode,
                taken.map(|taken| taken.code.as_str()).unwrap_or_default(),
            ),
        };
        let own;
        let forms = match self.units == 1 && self.metadata.is_none() {
            true => kind.usual(),
            false => {
                own = kind.forms(self.units, self.metadata.as_ref().map(|_| JsonBlank(5)));
                &own
            }
        };
        let expires = hold.as_ref().map_or("", |hold| &hold.text);
        let metadata = self.metadata.as_deref().unwrap_or_default();
        let texts = [
            self.claim.as_str(),
            &campaign.id,
            self.user,
            code,
            expires,
            metadata,
        ];
        let key = campaign.claim_key(self.user, &self.claim);
        let partition = Campaign::partition(&campaign.id);
        let answer = forms.answer.fill(&texts);
        mutations.push(Mutation::Set {
            key: key.clone(),
            value: forms.claim.fill(&texts),
            expires: None,
        });
        let idempotence = self.key.as_ref().map(|given| {
            given.idempotence(
                "claim",
                &[&campaign.id, self.user],
                self.request,
                201,
                &answer,
                &BTreeMap::new(),
            )
        });
        let mut conditions = vec![
            Condition::Absent(key),
            Condition::Version {
                key: partition.clone(),
                version: live.version,
            },
            window(campaign),
        ];
        let mut further = Vec::new();
        match listed {
            Listed::NoList => {}
            Listed::As(condition) => {
                conditions.push(condition);
                further.push(Verdict::Changed);
            }
            Listed::Not => {
                conditions.push(NEVER);
                further.push(Verdict::NotEligible);
            }
        }
        match taken {
            Some(taken) => {
                mutations.push(taken.mutation());
                conditions.push(taken.condition());
                further.push(Verdict::CodeTaken);
            }
            // It may be the repetition of a claim that was admitted.
            None if campaign.codes == Codes::Import && hold.is_none() => {
                conditions.push(NEVER);
                further.push(Verdict::SoldOut);
            }
            None => {}
        }
        if let Some(hold) = &hold {
            mutations.extend(hold.mutations(campaign, self.user, &self.claim, self.units));
            conditions.push(hold.is_long_enough());
            further.push(Verdict::ShortHold);
        }
        if again && campaign.per_user == 1 {
            // Meanwhile its place may be free again.
            conditions.push(Condition::Absent(campaign.returned_key(self.user, &self.claim)));
            further.push(Verdict::Returned);
        }
        let commit = Commit {
            idempotence,
            conditions,
            partition,
            mutations,
            appends: vec![Append {
                topic: campaign.topic.clone(),
                id: self.claim.clone(),
                key: self.user.to_owned(),
                kind: Status::Held.message().into(),
                content_type: "application/json".into(),
                attributes: attributes::write(None, Traceparent::of(self.request)),
                payload: forms.announcement.fill(&texts),
            }],
        };
        let plan = Plan {
            answer,
            further,
            mutations: meanings,
        };
        (commit, plan)
    }

    /// Moves a claim's counters, first the one that [`crate::campaigns::documents::SEQUENCE`] says; tells what a refusal of each means.
    fn count(&self, campaign: &Campaign, mutations: &mut Vec<Mutation>) -> &'static [Option<Verdict>] {
        let units = i64::try_from(self.units).unwrap_or(i64::MAX); // at most MAX_PER_USER
        let mut add = |key, delta, min, max| mutations.push(Mutation::Add { key, delta, min, max });
        add(Campaign::sequence_key(&campaign.id), 1, None, None);
        if campaign.per_user > 1 {
            let most = i64::try_from(campaign.per_user).unwrap_or(i64::MAX); // at most MAX_PER_USER
            add(
                Campaign::count_key(&campaign.id, self.user),
                units,
                None,
                Some(most),
            );
        }
        add(Campaign::remaining_key(&campaign.id), -units, Some(0), None);
        if campaign.waitlist {
            // Those in line come first.
            add(Campaign::waiting_key(&campaign.id), 0, None, Some(0));
        }
        const SOLD_OUT: Option<Verdict> = Some(Verdict::SoldOut);
        match (campaign.per_user, campaign.waitlist) {
            (1, false) => &[None, SOLD_OUT],
            (1, true) => &[None, SOLD_OUT, SOLD_OUT],
            (_, false) => &[None, Some(Verdict::AlreadyClaimed), SOLD_OUT],
            (_, true) => &[None, Some(Verdict::AlreadyClaimed), SOLD_OUT, SOLD_OUT],
        }
    }
}

/// Holds at no time.
const NEVER: Condition = Condition::NowIn {
    start: None,
    end: Some(0),
};

/// When the campaign admits, by the store's clock. A closed one never does.
pub(in crate::campaigns) fn window(campaign: &Campaign) -> Condition {
    match campaign.closed {
        true => NEVER,
        false => Condition::NowIn {
            start: campaign.starts_at,
            end: campaign.ends_at,
        },
    }
}
