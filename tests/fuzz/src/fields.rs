//! Structured and other fields of HTTP. What the limiter writes is RFC 9651, and what we read of it agrees
//! with a parser that is not ours. The wait that an origin asks for in `Retry-After` is bounded.

use std::cell::RefCell;

use arbitrary::Unstructured;
use futures::executor::block_on;
use sfv::{BareItem, Item, List, ListEntry, Parser};
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::query::Query;
use tollgate_api::time;
use tollgate_api::units::Span;
use tollgate_delivery::retry::{MAX_RETRY_AFTER_MS, MAX_WAIT_MS, MIN_WAIT_MS, Schedule, retry_after_ms};
use tollgate_delivery::subscription::Retry;
use tollgate_rules::config::{Clicks, Config, Limit, Links, OnFailure, Per, Shared};
use tollgate_rules::idempotency::{self, MAX_KEY};
use tollgate_rules::limiter::{self, Verdict};
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_store::bucket::{Bucket, Level, State, TakeError, take_all};
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::ports::Buckets;

/// What a structured field's integer can hold (RFC 9651, section 3.3.1).
const MAX_INTEGER: i64 = 999_999_999_999_999;
const MAX_LIMITS: usize = 4;

/// Texts for the fields that are read, numbers and names for those that are written.
pub fn fields(data: &[u8]) {
    let _ = case(&mut Unstructured::new(data));
}

fn case(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let count = input.int_in_range(0..=MAX_LIMITS)?;
    let limits: Vec<Limit> = (0..count).map(|_| limit(input)).collect::<Result<_, _>>()?;
    let times: [u32; 4] = input.arbitrary()?;
    let random: u64 = input.arbitrary()?;
    let text = input.bytes(input.len())?;
    idempotency_key(text);
    let lossy = String::from_utf8_lossy(text);
    retry_after(&lossy, random, &times);
    query(&lossy);
    if let Some(ms) = time::parse(&lossy) {
        assert!(ms <= time::MAX_TIME);
        assert_eq!(time::parse(&time::format(ms)), Some(ms), "{lossy}");
    }
    rate_limits(limits, &times);
    Ok(())
}

/// What an interval may be, nanoseconds: a millisecond to 30 days.
const INTERVALS: (u64, u64) = (1_000_000, 30 * 86_400_000_000_000);

fn limit(input: &mut Unstructured<'_>) -> arbitrary::Result<Limit> {
    let number = |input: &mut Unstructured<'_>| -> arbitrary::Result<u64> {
        // Small ones mostly: the others are out of bounds.
        let bits: u32 = input.int_in_range(0..=63)?;
        Ok(input.arbitrary::<u64>()? >> bits)
    };
    let characters = input.int_in_range(0..=12_usize)?;
    let name = (0..characters).map(|_| input.int_in_range(b'!'..=b'~').map(char::from));
    Ok(Limit {
        name: name.collect::<Result<_, _>>()?,
        path: "/...".into(),
        methods: vec!["*".into()],
        per: vec![Per::All],
        capacity: number(input)?,
        refill: number(input)?,
        interval: Span(number(input)?.clamp(INTERVALS.0, INTERVALS.1)),
        cost: number(input)?,
        shadow: input.ratio(1, 4)?,
        on_store_failure: OnFailure::Deny,
        shared: Shared::Local,
        domain: None,
        descriptor: Vec::new(),
    })
}

/// Buckets of one clock, as every engine has them.
struct Table {
    now: RefCell<u64>,
    states: RefCell<std::collections::HashMap<String, State>>,
}

impl Buckets for Table {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let mut table = self.states.borrow_mut();
        let mut states: Vec<Option<State>> = buckets.iter().map(|b| table.get(&b.key).copied()).collect();
        let levels = take_all(&mut states, &buckets, *self.now.borrow())?;
        for (bucket, state) in buckets.into_iter().zip(states) {
            if let Some(state) = state {
                table.insert(bucket.key, state);
            }
        }
        Ok(levels)
    }
}

fn request(path: &str, query: Option<&str>, headers: Vec<Header>) -> Request {
    Request {
        method: "POST".into(),
        path: path.into(),
        query: query.map(str::to_owned),
        headers,
        body: Vec::new(),
        peer: "203.0.113.9".into(),
    }
}

/// What stands in the `RateLimit` fields of answers, at any moments.
fn rate_limits(limits: Vec<Limit>, times: &[u32]) {
    let config = Config {
        limits,
        links: Links {
            clicks: Clicks::Off,
            ..Links::default()
        },
        ..Config::default()
    };
    let Ok(settings) = Settings::compile(config) else {
        return;
    };
    let enforced: Vec<&Limit> = settings
        .config
        .limits
        .iter()
        .filter(|limit| !limit.shadow)
        .collect();
    let table = Table {
        now: RefCell::new(1),
        states: RefCell::default(),
    };
    let store = InMemoryStore::new();
    let world = World {
        store: &store,
        settings: &settings,
        now: START,
        fresh: &|| [7; 16],
    };
    for pass in times {
        // Fractions of a second mostly, at times years.
        *table.now.borrow_mut() += u64::from(*pass) << (pass % 24);
        let verdict = block_on(limiter::check(
            &world,
            &table,
            &request("/api/links", None, Vec::new()),
        ));
        let (headers, refused) = match verdict {
            Verdict::Admit(headers) => (headers, false),
            Verdict::Answer(Response { status, headers, .. }) => {
                assert_eq!(status, 429);
                (headers, true)
            }
        };
        let text = |name: &str| {
            let found = headers.iter().find(|header| header.name == name);
            found.map(|header| std::str::from_utf8(&header.value).unwrap())
        };
        let retry = text("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
        assert_eq!(retry.is_some_and(|seconds| seconds >= 1), refused);
        let (quotas, levels) = (text("ratelimit-policy"), text("ratelimit"));
        assert_eq!(
            (quotas.is_some(), levels.is_some()),
            (!enforced.is_empty(), !enforced.is_empty())
        );
        let (Some(quotas), Some(levels)) = (quotas, levels) else {
            continue;
        };
        let quotas = members(quotas, ["q", "w"]);
        let levels = members(levels, ["r", "t"]);
        let charged = enforced.iter().map(|limit| limit.name.as_str());
        assert!(charged.clone().eq(quotas.iter().map(|(name, _)| name.as_str())));
        assert!(charged.eq(levels.iter().map(|(name, _)| name.as_str())));
        for ((_, [quota, window]), (_, [rest, reset])) in quotas.iter().zip(&levels) {
            assert!(
                rest <= quota && *window >= 1 && *reset <= MAX_INTEGER,
                "{rest} of {quota}"
            );
            assert!(reset <= window, "full again after {reset} s, of {window}");
        }
    }
}

/// A list of strings, each with these two integers, as a parser of RFC 9651 reads it.
fn members(field: &str, keys: [&str; 2]) -> Vec<(String, [i64; 2])> {
    let list: List = Parser::new(field)
        .parse()
        .unwrap_or_else(|error| panic!("{field}: {error}"));
    let member = |entry: &ListEntry| {
        let ListEntry::Item(item) = entry else {
            panic!("{field}: an inner list")
        };
        assert_eq!(item.params.len(), 2, "{field}");
        let name = item.bare_item.as_string().expect("a string").as_str().to_owned();
        let number = |key: &str| {
            let value = item.params.get(key).and_then(BareItem::as_integer);
            let value = i64::from(value.unwrap_or_else(|| panic!("{field}: no {key}")));
            assert!((0..=MAX_INTEGER).contains(&value), "{field}");
            value
        };
        (name, keys.map(number))
    };
    list.iter().map(member).collect()
}

/// Our parser takes a text in two cases only. Either the other parser reads a string of 1 to 128 characters
/// there, without parameters. Or the text is a word, which stands for the string that holds it.
fn idempotency_key(text: &[u8]) {
    // A door hands fields over without spaces at their ends.
    let value = text.trim_ascii();
    if http::HeaderValue::from_bytes(value).is_err() {
        return;
    }
    let sent = |value: &[u8]| {
        let header = Header {
            name: "idempotency-key".into(),
            value: value.to_vec(),
        };
        request("/signup", None, vec![header])
    };
    let ours = idempotency::key(&sent(value));
    let item: Result<Item, _> = Parser::new(value).parse();
    let theirs = item.ok().filter(|item| item.params.is_empty());
    let theirs = theirs.and_then(|item| Some(item.bare_item.as_string()?.as_str().to_owned()));
    let word = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\,;".contains(byte);
    let is_word = !value.is_empty() && value.iter().all(word);
    let theirs = theirs.or_else(|| is_word.then(|| String::from_utf8_lossy(value).into_owned()));
    let Some(theirs) = theirs.filter(|key| (1..=MAX_KEY).contains(&key.len())) else {
        assert_eq!(
            ours.unwrap_err().kind.status(),
            400,
            "{:?}",
            String::from_utf8_lossy(value)
        );
        return;
    };
    let ours = ours.expect("a string is a key").expect("the header is there");
    // The same key, however it was escaped.
    let plain = format!("\"{}\"", theirs.replace('\\', "\\\\").replace('"', "\\\""));
    let plain = sent(plain.as_bytes());
    let again = idempotency::key(&plain)
        .expect("a string is a key")
        .expect("the header is there");
    let id = |key: &idempotency::Key| {
        key.idempotence("call", &["ann"], &plain, 200, &[], &Default::default())
            .id
    };
    assert_eq!(id(&ours), id(&again));
}

/// Whatever an origin asks for, a wait is bounded and the attempts end.
fn retry_after(text: &str, random: u64, times: &[u32]) {
    let asked = retry_after_ms(text, START);
    let digits = text.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = digits.parse::<u64>().unwrap_or(u64::MAX);
        assert_eq!(asked, Some(seconds.saturating_mul(1_000)));
    } else {
        // A date; the year 9999 at the latest.
        assert!(asked.is_none_or(|ms| ms <= time::MAX_TIME), "{text}: {asked:?}");
    }
    let [initial, cap, factor, attempts] = [0, 1, 2, 3].map(|index| times.get(index).copied().unwrap_or(0));
    let schedule = Schedule::from_config(&Retry {
        initial: Span::from_millis(u64::from(initial)),
        factor: f64::from(factor) / 1_000.0,
        cap: Span::from_millis(u64::from(cap)),
        max_attempts: attempts,
        finals: Vec::new(),
        schedule: random
            .is_multiple_of(3)
            .then(|| times.iter().map(|ms| Span::from_millis(u64::from(*ms))).collect()),
    });
    let most = schedule.max_attempts();
    assert!((1..=tollgate_delivery::retry::MAX_ATTEMPTS).contains(&most));
    for failed in [1, 2, most / 2, most.saturating_sub(1), most, u32::MAX] {
        let wait = schedule.wait_ms(failed, random, asked);
        assert_eq!(wait.is_none(), failed >= most);
        let Some(wait) = wait else { continue };
        assert!(
            (MIN_WAIT_MS..=MAX_WAIT_MS.max(MAX_RETRY_AFTER_MS)).contains(&wait),
            "{wait}"
        );
        assert!(wait >= asked.unwrap_or(0).min(MAX_RETRY_AFTER_MS) && wait <= schedule.longest_wait_ms());
    }
}

/// A query is read, or its fault is named: never a field twice, never a number out of bounds.
fn query(text: &str) {
    let request = request("/api/links", Some(text), Vec::new());
    match Query::of(&request, &["limit", "cursor", "tag"]) {
        Ok(query) => match query.number("limit", 1..=500, 100) {
            Ok(limit) => {
                assert!((1..=500).contains(&limit));
                assert!(query.text("limit").is_some() || limit == 100);
            }
            Err(problem) => assert_eq!(problem.errors[0].pointer, "query:limit"),
        },
        Err(problem) => {
            assert!(problem.errors[0].pointer.starts_with("query:"));
            assert!(problem.detail.len() < 1_000);
        }
    }
}
