//! The rules of a link's fields, the same for creation and change. Each breach names its field.

use super::record::Limits;
use crate::codes;
use crate::config::Config;
use crate::config::MAX_IDLE_SECONDS;
use tollgate_api::problem::Problem;
use tollgate_api::time;

/// The most tags of a link.
pub const MAX_TAGS: usize = 10;
/// The largest `maxVisits`: the largest whole number that JSON numbers hold exactly everywhere.
pub const MAX_VISITS: u64 = 1 << 53;
const MAX_TAG_CHARS: usize = 64;
const MAX_TITLE_CHARS: usize = 200;
const MAX_EXTERNAL_ID_CHARS: usize = 128;

pub(super) fn custom_code(config: &Config, code: &str) -> Result<(), Problem> {
    if !codes::is_code(code) {
        return Err(Problem::field(
            "#/code",
            "must be 3 to 64 of A-Z, a-z, 0-9, _ and -",
        ));
    }
    if codes::is_reserved(code, config) {
        return Err(Problem::field("#/code", "is reserved"));
    }
    Ok(())
}

pub(super) fn code_length(length: u64) -> Result<u8, Problem> {
    let bounds = crate::config::MIN_CODE_LENGTH..=crate::config::MAX_CODE_LENGTH;
    let length = u8::try_from(length).ok().filter(|length| bounds.contains(length));
    length.ok_or_else(|| Problem::field("#/codeLength", "must be from 4 to 32"))
}

pub(super) fn redirect(status: u64) -> Result<u16, Problem> {
    match status {
        301 => Ok(301),
        302 => Ok(302),
        307 => Ok(307),
        308 => Ok(308),
        _ => Err(Problem::field("#/redirect", "must be 301, 302, 307 or 308")),
    }
}

/// A time that is being set to when a link ends.
pub(super) fn future(at: u64, now: u64) -> Result<(), Problem> {
    if at <= now {
        Err(Problem::field("#/expiresAt", "must be in the future"))
    } else {
        Ok(())
    }
}

/// The rules of numbers, and of times among each other. `window` names the field that is at fault where the link would
/// end before it begins.
pub(super) fn limits(limits: &Limits, window: &str) -> Result<(), Problem> {
    if limits
        .expire_after_idle
        .is_some_and(|seconds| !(1..=MAX_IDLE_SECONDS).contains(&seconds))
    {
        return Err(Problem::field(
            "#/expireAfterIdle",
            format!("must be from 1 to {MAX_IDLE_SECONDS} seconds"),
        ));
    }
    if limits
        .max_visits
        .is_some_and(|most| !(1..=MAX_VISITS).contains(&most))
    {
        return Err(Problem::field("#/maxVisits", "must be from 1 to 2^53"));
    }
    if let (Some(from), Some(end)) = (limits.valid_from, limits.expires_at)
        && from >= end
    {
        return Err(Problem::field(window, "validFrom must be before expiresAt"));
    }
    Ok(())
}

/// The bounds of `notifyBefore`, in seconds.
pub(super) fn notify_before(seconds: u64) -> Result<(), Problem> {
    match (1..=MAX_IDLE_SECONDS).contains(&seconds) {
        true => Ok(()),
        false => Err(Problem::field(
            "#/notifyBefore",
            format!("must be from 1 to {MAX_IDLE_SECONDS} seconds"),
        )),
    }
}

/// Whether a link may tell of itself: its owner has a key, and there is a topic to tell it to.
pub(super) fn may_tell(
    config: &Config,
    anonymous: bool,
    (notify, events): (bool, bool),
) -> Result<(), Problem> {
    let why = match config.events.topic {
        _ if anonymous => "needs an API key",
        None => "needs a topic: [events] topic of the settings names none",
        Some(_) => return Ok(()),
    };
    match (notify, events) {
        (true, _) => Err(Problem::field("#/notifyBefore", why)),
        (_, true) => Err(Problem::field("#/events", why)),
        _ => Ok(()),
    }
}

/// Tags without repetitions, in the order they were sent.
pub(super) fn tags(sent: Vec<String>) -> Result<Vec<String>, Problem> {
    if sent.len() > MAX_TAGS {
        return Err(Problem::field("#/tags", "must hold at most 10 tags"));
    }
    let mut tags: Vec<String> = Vec::with_capacity(sent.len());
    for (index, tag) in sent.into_iter().enumerate() {
        text(&tag, 1, MAX_TAG_CHARS, &format!("#/tags/{index}"))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

pub(super) fn title(title: &str) -> Result<(), Problem> {
    text(title, 0, MAX_TITLE_CHARS, "#/title")
}

pub(super) fn external_id(id: &str) -> Result<(), Problem> {
    text(id, 1, MAX_EXTERNAL_ID_CHARS, "#/externalId")
}

pub(super) fn text(text: &str, least: usize, most: usize, pointer: &str) -> Result<(), Problem> {
    let within = (least..=most).contains(&text.chars().count());
    if within && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::field(
        pointer,
        format!("must be {least} to {most} characters, none of them a control character"),
    ))
}

/// `now` moved by whole seconds, within the times that can be written.
pub(super) fn later(now: u64, seconds: u64, pointer: &str) -> Result<u64, Problem> {
    let at = seconds.checked_mul(1_000).and_then(|ms| now.checked_add(ms));
    at.filter(|at| *at <= time::MAX_TIME)
        .ok_or_else(|| Problem::field(pointer, "must lead to a time before the year 10000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_bounds() {
        let with = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            super::limits(&limits, "#/validFrom").map_err(|problem| problem.errors[0].pointer.clone())
        };
        assert_eq!(with(|l| l.max_visits = Some(0)), Err("#/maxVisits".into()));
        assert_eq!(
            with(|l| l.max_visits = Some(MAX_VISITS + 1)),
            Err("#/maxVisits".into())
        );
        assert_eq!(with(|l| l.max_visits = Some(MAX_VISITS)), Ok(()));
        assert_eq!(
            with(|l| l.expire_after_idle = Some(0)),
            Err("#/expireAfterIdle".into())
        );
        assert_eq!(
            with(|l| (l.valid_from, l.expires_at) = (Some(5), Some(5))),
            Err("#/validFrom".into())
        );
        assert!(later(0, u64::MAX, "#/seconds").is_err() && later(5, 1, "#/seconds") == Ok(1_005));
    }

    #[test]
    fn tags_are_bounded_and_not_repeated() {
        let strings = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert_eq!(tags(strings(&["a", "b", "a"])), Ok(strings(&["a", "b"])));
        assert_eq!(
            tags(strings(&["a", ""])).unwrap_err().errors[0].pointer,
            "#/tags/1"
        );
        assert_eq!(tags(strings(&["t"; 11])).unwrap_err().errors[0].pointer, "#/tags");
        assert!(tags(strings(&[&"ü".repeat(64)])).is_ok() && tags(strings(&[&"ü".repeat(65)])).is_err());
    }
}
