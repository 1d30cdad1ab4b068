//! Who is logged in. A session holds its API key's text in the memory of this process and nowhere else, and ends with it; whatever
//! it asks for is asked for with that key, so a key that was deleted or has expired opens nothing.

use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tollgate_api::problem::{Kind, Problem};
use zeroize::Zeroizing;

/// Sessions at once.
pub const MAX_SESSIONS: usize = 256;
/// Those of one key; beyond it, its least recently used one ends.
pub const MAX_OF_A_KEY: usize = 16;
/// How long a session lasts without being used.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long it lasts at all.
pub const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Seconds after which who found no place may try again.
const RETRY_SECONDS: u64 = 60;

/// Of a token: what is looked for, so that no comparison tells anything of it.
type Digest256 = [u8; 32];

/// All sessions.
#[derive(Default)]
pub struct Sessions {
    all: Mutex<HashMap<Digest256, Arc<Session>>>,
    /// How many there are, so that it costs nothing where there is none.
    count: AtomicUsize,
}

/// Somebody who is logged in.
pub struct Session {
    key: Zeroizing<String>,
    key_id: String,
    secure: bool,
    began: Instant,
    used: Mutex<Instant>,
    ended: AtomicBool,
    /// Event streams that it has open.
    pub streams: AtomicUsize,
}

impl Sessions {
    /// Whether nobody is logged in.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// A new session of the key with this text and id; its token. `secure`: its cookie is for TLS only.
    ///
    /// # Errors
    /// 503 where there are as many as there may be.
    pub fn begin(&self, key: &str, key_id: &str, secure: bool) -> Result<String, Problem> {
        let unavailable = |why: &str| Problem::new(Kind::Unavailable, why).with_retry_after(RETRY_SECONDS);
        let mut random = Zeroizing::new([0; TOKEN_BYTES]);
        if getrandom::fill(&mut *random).is_err() {
            return Err(unavailable("The system gives no random numbers."));
        }
        let mut token = String::with_capacity(2 * TOKEN_BYTES);
        for byte in random.iter() {
            // Writing to a text does not fail.
            let _ = write!(token, "{byte:02x}");
        }
        let now = Instant::now();
        let mut all = self.live(now);
        let own = || all.iter().filter(|(_, session)| session.key_id == key_id);
        if own().count() >= MAX_OF_A_KEY
            && let Some((oldest, session)) = own().min_by_key(|(_, session)| session.last_used())
        {
            session.ended.store(true, Ordering::Relaxed);
            let oldest = *oldest;
            all.remove(&oldest);
        }
        if all.len() >= MAX_SESSIONS {
            return Err(unavailable("As many are logged in at the dashboard as may be."));
        }
        let session = Session {
            key: Zeroizing::new(key.to_owned()),
            key_id: key_id.to_owned(),
            secure,
            began: now,
            used: Mutex::new(now),
            ended: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        };
        all.insert(digest(&token), Arc::new(session));
        self.count.store(all.len(), Ordering::Relaxed);
        Ok(token)
    }

    /// The session of this token, which is used by that; `secure`: whether it came in the cookie that is for TLS only.
    pub fn find(&self, token: &str, secure: bool) -> Option<Arc<Session>> {
        if self.is_empty() || token.len() != 2 * TOKEN_BYTES {
            return None;
        }
        let now = Instant::now();
        let all = self.live(now);
        let session = all
            .get(&digest(token))
            .filter(|session| session.secure == secure)?;
        session.touch(now);
        Some(Arc::clone(session))
    }

    /// Ends it.
    pub fn end(&self, session: &Arc<Session>) {
        session.ended.store(true, Ordering::Relaxed);
        drop(self.live(Instant::now()));
    }

    /// Those that have not ended; the others are forgotten.
    fn live(&self, now: Instant) -> MutexGuard<'_, HashMap<Digest256, Arc<Session>>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| !session.is_over(now));
        self.count.store(all.len(), Ordering::Relaxed);
        all
    }
}

impl Session {
    /// The text of its API key.
    pub fn key_text(&self) -> &str {
        &self.key
    }

    /// What it sends in `Authorization`.
    pub fn credential(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", *self.key));
        let mut value = HeaderValue::try_from(&*text).unwrap_or(HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }

    /// Whether its cookie is for TLS only.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// It is used.
    pub fn touch(&self, now: Instant) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended: by hand, idle, or after its longest time.
    pub fn is_over(&self, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        self.ended.load(Ordering::Relaxed) || since(self.began) >= LONGEST || since(self.last_used()) >= IDLE
    }
}

fn digest(token: &str) -> Digest256 {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_token_and_its_own_cookie_until_it_ends() {
        let sessions = Sessions::default();
        assert!(sessions.is_empty());
        let token = sessions.begin("tg_a_key", "a", true).unwrap();
        let session = sessions.find(&token, true).unwrap();
        assert_eq!((session.key_text(), session.key_id.as_str()), ("tg_a_key", "a"));
        assert!(session.credential().is_sensitive());
        assert!(
            sessions.find(&token, false).is_none(),
            "a cookie that any page could have set"
        );
        assert!(
            sessions
                .find(&token.replace(|c: char| c.is_ascii_digit(), "a"), true)
                .is_none()
        );
        assert!(sessions.find("", true).is_none() && sessions.find(&token[1..], true).is_none());
        let other = sessions.begin("tg_a_key", "a", true).unwrap();
        assert_ne!(token, other);
        sessions.end(&session);
        assert!(sessions.find(&token, true).is_none() && sessions.find(&other, true).is_some());
    }

    #[test]
    fn sessions_end_when_nobody_uses_them_and_after_their_longest_time() {
        let sessions = Sessions::default();
        let token = sessions.begin("tg_a_key", "a", false).unwrap();
        let session = sessions.find(&token, false).unwrap();
        let (began, used) = (session.began, session.last_used());
        assert!(!session.is_over(used + IDLE - Duration::from_secs(1)));
        assert!(session.is_over(used + IDLE));
        for used in (0..)
            .map(|n| began + n * IDLE / 2)
            .take_while(|used| *used < began + LONGEST)
        {
            session.touch(used);
            assert!(!session.is_over(used));
        }
        assert!(session.is_over(began + LONGEST));
        assert!(sessions.live(began + LONGEST).is_empty() && sessions.is_empty());
    }

    #[test]
    fn a_key_that_logs_in_again_and_again_ends_its_own_oldest_sessions_only() {
        let sessions = Sessions::default();
        let other = sessions.begin("tg_b_key", "b", false).unwrap();
        let tokens: Vec<_> = (0..=MAX_OF_A_KEY)
            .map(|_| sessions.begin("tg_a_key", "a", false).unwrap())
            .collect();
        assert!(sessions.find(&tokens[0], false).is_none());
        assert!(
            tokens[1..]
                .iter()
                .all(|token| sessions.find(token, false).is_some())
        );
        assert!(sessions.find(&other, false).is_some());
    }

    #[test]
    fn there_are_so_many_sessions_and_no_more() {
        let sessions = Sessions::default();
        for n in 0..MAX_SESSIONS {
            sessions.begin("tg_key", &n.to_string(), false).unwrap();
        }
        let refused = sessions.begin("tg_key", "late", false).unwrap_err();
        assert_eq!(refused.into_response().status, 503);
        assert_eq!(sessions.count.load(Ordering::Relaxed), MAX_SESSIONS);
    }
}
