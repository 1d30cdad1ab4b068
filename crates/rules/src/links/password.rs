//! Links that ask for a password: a form without a script, and a cookie for whoever knew it.
//!
//! Only a hash is stored: Argon2id with the parameters of OWASP's password storage cheat sheet. The cookie is signed with that hash as
//! its key, over the link's id and a time. So it opens this link alone, and no longer than the password is the same; there is no other secret
//! to keep. Nobody hashes on the threads of the crowd ([`super::Place`]).
//!
//! Attempts are counted before they are judged, in one entry per link (`attempts/<id>`), which ends by itself. It holds a bounded
//! number of clients, by address, since any other name can be made up. Who knew the password is forgotten.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::page::{self, Language};
use super::record::{MAX_RACES, link_key};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The most characters of a password.
pub(super) const MAX_CHARS: usize = 128;
/// What Argon2id takes: KiB of memory, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1_024, 2, 1);
const HASH_BYTES: usize = 32;
/// How long attempts are remembered, in milliseconds.
const WINDOW_MS: u64 = 600_000;
/// Wrong passwords of one address (IPv6 by /64) on one link, in that time.
const MAX_ATTEMPTS: u32 = 5;
/// Wrong passwords of all addresses on one link, in that time.
const MAX_ATTEMPTS_OF_ALL: u32 = 200;
/// The addresses that are told apart, per link; beyond them the first is forgotten.
const MAX_CLIENTS: usize = 64;
/// How long a cookie opens its link, in seconds.
const COOKIE_SECONDS: u64 = 3_600;
const COOKIE: &str = "tollgate-link";
/// The field of the form.
pub(super) const FIELD: &str = "password";

/// A password as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Password {
    /// Of Argon2id, in base64url.
    hash: String,
    /// In base64url.
    salt: String,
    /// KiB of memory.
    memory: u32,
    passes: u32,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// Hashes a password with this salt: some 20 ms, and 19 MiB.
    ///
    /// # Errors
    /// It breaks a rule: a problem that names the field.
    pub(super) fn new(text: &str, salt: [u8; 16]) -> Result<Self, Problem> {
        let chars = text.chars().count();
        if !(1..=MAX_CHARS).contains(&chars) || text.chars().any(char::is_control) {
            return Err(Problem::field(
                "#/password",
                format!("must be 1 to {MAX_CHARS} characters, none of them a control character"),
            ));
        }
        let (memory, passes, _) = COST;
        let hash = hashed(text, &salt, memory, passes);
        let hash = hash.ok_or_else(|| Problem::new(Kind::Internal, "The password could not be hashed."))?;
        Ok(Self {
            hash: URL_SAFE_NO_PAD.encode(hash),
            salt: URL_SAFE_NO_PAD.encode(salt),
            memory,
            passes,
        })
    }

    fn is(&self, text: &str) -> bool {
        if text.is_empty() || text.chars().count() > MAX_CHARS {
            return false;
        }
        let salt = URL_SAFE_NO_PAD.decode(&self.salt).unwrap_or_default();
        let hash = hashed(text, &salt, self.memory, self.passes);
        let hash = hash.map(|hash| URL_SAFE_NO_PAD.encode(hash));
        hash.is_some_and(|hash| hash.as_bytes().ct_eq(self.hash.as_bytes()).into())
    }

    /// What the cookie holds for this link until then, Unix seconds.
    fn signed(&self, id: &str, until: u64) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.hash.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(format!("{COOKIE}/{id}/{until}").as_bytes());
        format!("{until}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn is_open(&self, id: &str, request: &Request, now: u64) -> bool {
        let cookies = request.header_values("cookie").flat_map(|all| all.split(';'));
        let mut values = cookies.filter_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        values.any(|value| {
            let until = value
                .split('.')
                .next()
                .and_then(|until| until.parse::<u64>().ok());
            let now = now / 1_000;
            until.is_some_and(|until| {
                let in_time = now < until && until <= now.saturating_add(COOKIE_SECONDS);
                in_time && bool::from(self.signed(id, until).as_bytes().ct_eq(value.as_bytes()))
            })
        })
    }
}

fn hashed(text: &str, salt: &[u8], memory: u32, passes: u32) -> Option<[u8; HASH_BYTES]> {
    let params = Params::new(memory, passes, COST.2, Some(HASH_BYTES)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; HASH_BYTES];
    argon2.hash_password_into(text.as_bytes(), salt, &mut hash).ok()?;
    Some(hash)
}

/// What a link with a password does with a request.
pub(super) enum Gate {
    /// It goes on; with a cookie for the next time, if it came with the password.
    Open(Option<String>),
    /// This is the answer.
    Shut(Response),
}

/// Whether a request for the link has its cookie, or its password.
pub(super) async fn ask<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    (code, id): (&str, &str),
    password: &Password,
) -> Result<Gate, Problem> {
    let language = Language::of(request);
    let sent = match &*request.method {
        "POST" => field(request),
        _ => None,
    };
    let Some(sent) = sent else {
        return Ok(match password.is_open(id, request, world.now) {
            true => Gate::Open(None),
            false => Gate::Shut(form(200, language, None)),
        });
    };
    let client = client(world, request, password);
    if let Some(seconds) = charge(world, code, id, &client).await? {
        let page = form(429, language, Some(TOO_MANY));
        return Ok(Gate::Shut(page.with("retry-after", seconds.to_string())));
    }
    if !password.is(&sent) {
        return Ok(Gate::Shut(form(403, language, Some(WRONG))));
    }
    forgive(world, code, id, &client).await?;
    let until = (world.now / 1_000).saturating_add(COOKIE_SECONDS);
    Ok(Gate::Open(Some(cookie(
        world,
        request,
        &password.signed(id, until),
    ))))
}

/// The form's field, if it was sent.
pub(super) fn field(request: &Request) -> Option<String> {
    let mut fields = url::form_urlencoded::parse(&request.body);
    fields
        .find(|(name, _)| name == FIELD)
        .map(|(_, value)| value.into_owned())
}

/// For the address as it was written: that is what the browser compares.
fn cookie<S>(world: &World<'_, S>, request: &Request, value: &str) -> String {
    let public = &world.settings.public_url;
    // A proxy may serve short links below a path.
    let path = public
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    let below = path.map_or(String::new(), |(_, path)| format!("/{path}"));
    let path = request.path.trim_end_matches(['/', '+']);
    let secure = if public.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    format!("{COOKIE}={value}; Path={below}{path}; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}")
}

const ASK: [&str; 3] = [
    "This link asks for a password",
    "Dieser Link fragt nach einem Passwort",
    "이 링크는 비밀번호가 필요합니다",
];
const LABEL: [&str; 3] = ["Password", "Passwort", "비밀번호"];
const OPEN: [&str; 3] = ["Open the link", "Link öffnen", "링크 열기"];
const WRONG: [&str; 3] = [
    "This is not the password.",
    "Das ist nicht das Passwort.",
    "비밀번호가 올바르지 않습니다.",
];
const TOO_MANY: [&str; 3] = [
    "Too many wrong passwords. Try again later.",
    "Zu viele falsche Passwörter. Versuchen Sie es später noch einmal.",
    "잘못된 비밀번호를 너무 많이 입력했습니다. 나중에 다시 시도하세요.",
];

fn form(status: u16, language: Language, fault: Option<[&'static str; 3]>) -> Response {
    let [title, label, open] = [ASK, LABEL, OPEN].map(|text| language.say(text));
    let fault = fault.map_or(String::new(), |text| {
        format!("<p role=\"alert\">{}</p>\n", language.say(text))
    });
    let body = format!(
        "<h1>{title}</h1>\n{fault}<form method=\"post\"><p><label for=\"password\">{label}</label>\n\
         <input id=\"password\" name=\"{FIELD}\" type=\"password\" autocomplete=\"off\" maxlength=\"{MAX_CHARS}\" required autofocus>\n\
         <button>{open}</button></p></form>\n"
    );
    page::answer(status, language, title, &body, true)
}

/// The wrong passwords of late.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Attempts {
    /// Unix milliseconds.
    since: u64,
    all: u32,
    /// A pseudonym and a number each.
    clients: Vec<(String, u32)>,
}

/// The pseudonym of an address, that nobody can tell without the password's hash.
fn client<S>(world: &World<'_, S>, request: &Request, password: &Password) -> String {
    let address = world.settings.proxies.client_ip(request);
    let hash = Sha256::new().chain_update(&password.hash).chain_update(&*address);
    let mut pseudonym = URL_SAFE_NO_PAD.encode(hash.finalize());
    pseudonym.truncate(16);
    pseudonym
}

/// Counts an attempt; or says in how many seconds the next is allowed.
async fn charge<S: Store>(
    world: &World<'_, S>,
    code: &str,
    id: &str,
    client: &str,
) -> Result<Option<u64>, Problem> {
    change(world, code, id, |attempts| {
        if world.now.saturating_sub(attempts.since) >= WINDOW_MS || attempts.since > world.now {
            *attempts = Attempts {
                since: world.now,
                ..Attempts::default()
            };
        }
        let there = attempts.clients.iter_mut().find(|(one, _)| one == client);
        let of_client = there.as_ref().map_or(0, |(_, count)| *count);
        if of_client >= MAX_ATTEMPTS || attempts.all >= MAX_ATTEMPTS_OF_ALL {
            let end = attempts.since.saturating_add(WINDOW_MS);
            return Some(end.saturating_sub(world.now).div_ceil(1_000).max(1));
        }
        attempts.all += 1;
        match there {
            Some((_, count)) => *count += 1,
            None => {
                if attempts.clients.len() >= MAX_CLIENTS {
                    attempts.clients.remove(0);
                }
                attempts.clients.push((client.to_owned(), 1));
            }
        }
        None
    })
    .await
}

/// Forgets the attempts of a client who knew the password.
async fn forgive<S: Store>(world: &World<'_, S>, code: &str, id: &str, client: &str) -> Result<(), Problem> {
    let forget = |attempts: &mut Attempts| {
        if let Some(at) = attempts.clients.iter().position(|(one, _)| one == client) {
            let (_, count) = attempts.clients.remove(at);
            attempts.all = attempts.all.saturating_sub(count);
        }
        None
    };
    change(world, code, id, forget).await.map(drop)
}

/// Changes the attempts on a link, unless there is a reason not to.
async fn change<S: Store>(
    world: &World<'_, S>,
    code: &str,
    id: &str,
    change: impl Fn(&mut Attempts) -> Option<u64>,
) -> Result<Option<u64>, Problem> {
    let (partition, key) = (link_key(code), format!("attempts/{id}"));
    for _ in 0..MAX_RACES {
        let found = world.store.get(&partition, std::slice::from_ref(&key)).await?;
        let entry = found.into_iter().next().flatten();
        let mut attempts: Attempts = match &entry {
            Some(entry) => stored::decode("attempts on a link", entry)?,
            None => Attempts::default(),
        };
        if let Some(seconds) = change(&mut attempts) {
            return Ok(Some(seconds));
        }
        let condition = Condition::unchanged(key.clone(), entry.map(|entry| entry.version));
        let value = serde_json::to_vec(&attempts).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let commit = Commit {
            partition: partition.clone(),
            conditions: vec![condition],
            mutations: vec![Mutation::Set {
                key: key.clone(),
                value: literal(value),
                expires: Some(attempts.since.saturating_add(WINDOW_MS)),
            }],
            ..Commit::default()
        };
        if let Outcome::Committed(_) = world.store.commit(commit).await? {
            return Ok(None);
        }
    }
    Err(Problem::new(
        Kind::Unavailable,
        "Too many passwords are tried at once; try again.",
    )
    .with_retry_after(1))
}
