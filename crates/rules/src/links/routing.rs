//! Links that lead to more than one place: by rules about the visitor and the time, the first that holds; and by weights, where a
//! client is led to the same target each time.
//!
//! Which target that is comes from a hash of the link's id and of the client, as limits name it. The id is known to nobody but the
//! owner, so that no visitor can choose; and the targets get their share of many clients, to within chance.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::asks::{self, Asked, Device, Os};
use crate::identity::ClientId;
use crate::settings::Settings;
use crate::target::target;
use tollgate_api::http::Request;
use tollgate_api::problem::Problem;
use tollgate_api::time;

/// The most rules of a link.
pub(super) const MAX_RULES: usize = 10;
/// The most weighted targets of a link.
pub(super) const MAX_TARGETS: usize = 10;
/// The largest weight.
pub(super) const MAX_WEIGHT: u32 = 10_000;
/// The longest language tag, in bytes (RFC 5646, section 4.4.1).
const MAX_LANGUAGE: usize = 35;

/// What has to hold; all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkCondition")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct When {
    /// What the visitor holds in hands, or sits at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// The system of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    os: Option<Os>,
    /// The language that the browser asks for first: `de` is also `de-AT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"), length(max = 35))
    )]
    language: Option<String>,
    /// The country, as ISO 3166-1 has them: `KR`. A trusted proxy tells it (`[clients] country_header`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[A-Z]{2}$")))]
    country: Option<String>,
    /// From this time on.
    #[serde(
        default,
        with = "time::rfc3339_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    after: Option<u64>,
    /// Until just before this time.
    #[serde(
        default,
        with = "time::rfc3339_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    before: Option<u64>,
}

/// A rule of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkRule")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rule {
    /// What has to hold: at least one thing.
    pub(super) when: When,
    /// Where the link leads then.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    pub(super) url: String,
}

/// One of the places that a link leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkTarget")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Weighted {
    /// The place.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    pub(super) url: String,
    /// Its share of the clients, among those of the others.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_WEIGHT)))]
    pub(super) weight: u32,
}

/// Rules as they are kept.
///
/// # Errors
/// The field that breaks a rule.
pub(super) fn rules(settings: &Settings, mut sent: Vec<Rule>) -> Result<Vec<Rule>, Problem> {
    if sent.len() > MAX_RULES {
        return Err(Problem::field(
            "#/rules",
            format!("must hold at most {MAX_RULES} rules"),
        ));
    }
    for (index, rule) in sent.iter_mut().enumerate() {
        let pointer = format!("#/rules/{index}");
        rule.when.check(&format!("{pointer}/when"))?;
        rule.url = target(&settings.own, &rule.url, &format!("{pointer}/url"))?;
    }
    Ok(sent)
}

/// Targets as they are kept.
///
/// # Errors
/// The field that breaks a rule.
pub(super) fn targets(settings: &Settings, mut sent: Vec<Weighted>) -> Result<Vec<Weighted>, Problem> {
    if sent.len() > MAX_TARGETS {
        return Err(Problem::field(
            "#/targets",
            format!("must hold at most {MAX_TARGETS} targets"),
        ));
    }
    for (index, one) in sent.iter_mut().enumerate() {
        let pointer = format!("#/targets/{index}");
        if !(1..=MAX_WEIGHT).contains(&one.weight) {
            return Err(Problem::field(
                format!("{pointer}/weight"),
                format!("must be from 1 to {MAX_WEIGHT}"),
            ));
        }
        one.url = target(&settings.own, &one.url, &format!("{pointer}/url"))?;
    }
    Ok(sent)
}

impl When {
    fn check(&mut self, pointer: &str) -> Result<(), Problem> {
        if *self == Self::default() {
            return Err(Problem::field(
                pointer,
                "must hold device, os, language, country, after or before",
            ));
        }
        let of = |field: &str| format!("{pointer}/{field}");
        if let Some(language) = &mut self.language {
            if !is_language(language) {
                return Err(Problem::field(
                    of("language"),
                    "must be a language tag, e.g. de or de-AT",
                ));
            }
            language.make_ascii_lowercase();
        }
        if let Some(country) = &self.country
            && !asks::is_country(country)
        {
            return Err(Problem::field(
                of("country"),
                "must be a country of ISO 3166-1, e.g. KR",
            ));
        }
        if let (Some(after), Some(before)) = (self.after, self.before)
            && after >= before
        {
            return Err(Problem::field(of("before"), "must be later than after"));
        }
        Ok(())
    }

    fn holds(&self, asked: &Asked<'_>, now: u64) -> bool {
        self.after.is_none_or(|after| after <= now)
            && self.before.is_none_or(|before| now < before)
            && self.device.is_none_or(|device| asked.device() == Some(device))
            && self.os.is_none_or(|os| asked.os() == Some(os))
            && self
                .country
                .as_deref()
                .is_none_or(|country| asked.country() == Some(country))
            && self
                .language
                .as_ref()
                .is_none_or(|wanted| asked.language().is_some_and(|asked| speaks(asked, wanted)))
    }
}

/// Whether a language is the wanted one, or a kind of it (RFC 4647, section 3.3.1), in any case.
fn speaks(asked: &str, wanted: &str) -> bool {
    let Some((start, rest)) = asked.split_at_checked(wanted.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(wanted) && (rest.is_empty() || rest.starts_with('-'))
}

fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    let within = |part: &str, least: usize| (least..=8).contains(&part.len());
    text.len() <= MAX_LANGUAGE
        && within(first, 2)
        && first.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| within(part, 1) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Where this request is led: by the first rule that holds, else by the weights. `None`: to the link's own URL.
pub(super) fn choose<'a>(
    settings: &Settings,
    request: &Request,
    now: u64,
    id: &str,
    (rules, targets): (&'a [Rule], &'a [Weighted]),
) -> Option<&'a str> {
    let asked = Asked::new(settings, request);
    let rule = rules.iter().find(|rule| rule.when.holds(&asked, now));
    match rule {
        Some(rule) => Some(&rule.url),
        None if targets.is_empty() => None,
        None => {
            let client = ClientId::without_key(&settings.config, &settings.proxies, request);
            weighted(id, client.as_str(), targets)
        }
    }
}

fn weighted<'a>(id: &str, client: &str, targets: &'a [Weighted]) -> Option<&'a str> {
    let total: u64 = targets.iter().map(|one| u64::from(one.weight)).sum();
    let mut hash = SipHasher13::new();
    for part in [id, "/", client] {
        hash.write(part.as_bytes());
    }
    // 64 bits: no share is off by more than one client in 10^14.
    let mut place = hash.finish().checked_rem(total)?;
    let found = targets
        .iter()
        .find(|one| match place.checked_sub(one.weight.into()) {
            Some(rest) => {
                place = rest;
                false
            }
            None => true,
        });
    found.map(|one| &*one.url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of(weights: &[u32]) -> Vec<Weighted> {
        let one = |(index, weight): (usize, &u32)| Weighted {
            url: index.to_string(),
            weight: *weight,
        };
        weights.iter().enumerate().map(one).collect()
    }

    #[test]
    fn many_clients_are_led_by_the_weights_and_one_always_to_the_same() {
        let targets = of(&[1, 3, 6]);
        let mut led: BTreeMap<&str, u32> = BTreeMap::new();
        const CLIENTS: u32 = 20_000;
        for client in 0..CLIENTS {
            let client = format!("ip:{client}");
            let to = weighted("01jd", &client, &targets).unwrap();
            assert_eq!(weighted("01jd", &client, &targets), Some(to));
            *led.entry(to).or_default() += 1;
        }
        // Four standard deviations of a binomial share.
        for (to, share) in [("0", 0.1), ("1", 0.3), ("2", 0.6)] {
            let (mean, count) = (share * f64::from(CLIENTS), f64::from(led[to]));
            let deviation = (mean * (1.0 - share)).sqrt();
            assert!((count - mean).abs() < 4.0 * deviation, "{to}: {count} of {mean}");
        }
        let elsewhere = (0..1_000).filter(|client| {
            let client = format!("ip:{client}");
            weighted("01jd", &client, &targets) != weighted("01je", &client, &targets)
        });
        assert!(elsewhere.count() > 300, "another link leads clients elsewhere");
    }

    proptest! {
        #[test]
        fn every_client_is_led_somewhere(weights in proptest::collection::vec(1..=MAX_WEIGHT, 1..=MAX_TARGETS), client in ".*") {
            prop_assert!(weighted("x", &client, &of(&weights)).is_some());
        }
    }

    #[test]
    fn a_language_is_also_a_kind_of_it() {
        for (asked, wanted, expected) in [
            ("de", "de", true),
            ("de-at", "de", true),
            ("de", "de-at", false),
            ("den", "de", false),
            ("de-at", "de-at", true),
            ("De-AT", "de-at", true),
            ("DE", "de", true),
            ("d", "de", false),
            ("é", "d", false),
        ] {
            assert_eq!(speaks(asked, wanted), expected, "{asked} {wanted}");
        }
        for good in ["de", "de-AT", "zh-Hant-TW", "kok"] {
            assert!(is_language(good), "{good}");
        }
        for bad in ["", "d", "d3", "de-", "de_AT", "-de", "deutschland", "*"] {
            assert!(!is_language(bad), "{bad}");
        }
    }
}
