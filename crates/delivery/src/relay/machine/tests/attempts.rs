//! What is written down of attempts, and the pause after long failure.

use super::*;
use crate::relay::attempt::{Attempt, KEPT_MESSAGES, MIN_FAILURES};
use crate::relay::record::Control;

/// What a commit writes below this part of a subscription's keys.
fn set_below(actions: &[Action], part: &str) -> Vec<serde_json::Value> {
    let mut found = Vec::new();
    for action in actions {
        let Action::Persist(commit) = action else { continue };
        for mutation in &commit.mutations {
            if let tollgate_store::commit::Mutation::Set { key, value, .. } = mutation
                && key.contains(part)
                && let [tollgate_store::commit::Part::Bytes(value)] = &value[..]
            {
                found.push(serde_json::from_slice(value).unwrap());
            }
        }
    }
    found
}

fn answered_with(sequence: u64, delivered: Delivered, status: u16) -> Event {
    Event::Attempted {
        sequence,
        delivered,
        answered: Answered {
            ms: 7,
            status: Some(status),
            text: "said".into(),
        },
    }
}

#[test]
fn each_attempt_is_written_down_in_the_commit_of_what_became_of_it() {
    let (mut machine, actions) = started(settings(), vec![message(1, "a"), message(2, "")]);
    assert_eq!(sent(&actions), [1, 2]);
    let refused = Delivered::refused(Blame::Origin, "the origin answered 500");
    let actions = machine.handle(NOW + 50, 0, answered_with(1, refused, 500));
    let attempts = set_below(&actions, "/attempt/");
    assert_eq!(attempts.len(), 1, "{actions:?}");
    let attempt: Attempt = serde_json::from_value(attempts[0].clone()).unwrap();
    assert_eq!(
        (attempt.sequence, attempt.number, attempt.at, attempt.ms),
        (1, 1, NOW + 43, 7)
    );
    assert_eq!(attempt.error.as_deref(), Some("the origin answered 500"));
    assert_eq!(set_below(&actions, "/retry/").len(), 1);
    assert_eq!(set_below(&actions, "/health").len(), 1);
    // The one that waits for this commit goes with the next.
    machine.handle(NOW + 50, 0, answered_with(2, Delivered::Accepted, 204));
    let actions = machine.handle(NOW + 100, 0, Event::Persisted { version: 1 });
    let attempts = set_below(&actions, "/attempt/");
    assert_eq!(attempts.len(), 1, "{actions:?}");
    assert_eq!(
        (&attempts[0]["sequence"], &attempts[0]["status"]),
        (&2.into(), &204.into())
    );
    assert_eq!(attempts[0].get("error"), None);
}

#[test]
fn a_message_and_the_one_that_takes_its_place_fit_into_one_commit() {
    let far = 1 + KEPT_MESSAGES;
    let (mut machine, actions) = started(settings(), vec![message(1, ""), message(far, "")]);
    assert_eq!(sent(&actions), [1, far]);
    let refused = Delivered::refused(Blame::Message, "no");
    machine.handle(NOW, 0, answered_with(1, refused, 400));
    let actions = machine.handle(NOW, 0, answered_with(far, Delivered::Accepted, 200));
    let actions = if set_below(&actions, "/attempt/").is_empty() {
        machine.handle(NOW + 100, 0, Event::Persisted { version: 1 })
    } else {
        actions
    };
    for action in &actions {
        if let Action::Persist(commit) = action {
            tollgate_store::plan::validate(commit).unwrap();
        }
    }
}

#[test]
fn nothing_but_failure_for_long_pauses_and_a_resume_begins_anew() {
    let limit = 3_600_000;
    let settings = DeliveryPolicy {
        breaker: never_open(),
        pause_after_ms: Some(limit),
        concurrency: 64,
        schedule: Schedule::Fixed(vec![1; 100]),
        ..settings()
    };
    let messages = (1..=MIN_FAILURES + 2)
        .map(|sequence| message(sequence, ""))
        .collect();
    let (mut machine, actions) = started(settings, messages);
    assert_eq!(sent(&actions).len() as u64, MIN_FAILURES + 2);
    let refused = || Delivered::refused(Blame::Message, "no");
    let paused = |actions: &[Action]| {
        actions
            .iter()
            .any(|a| matches!(a, Action::Note(Note::Paused(PauseReason::Failing))))
    };
    for sequence in 1..MIN_FAILURES {
        let actions = machine.handle(NOW, 0, attempted(sequence, refused()));
        assert!(!paused(&actions));
    }
    let actions = machine.handle(NOW + limit - 1, 0, attempted(MIN_FAILURES, refused()));
    assert!(!paused(&actions), "not long enough");
    let actions = machine.handle(NOW + limit, 0, attempted(MIN_FAILURES + 1, refused()));
    assert!(paused(&actions));
    assert!(sent(&actions).is_empty());
    assert_eq!(machine.snapshot().pause_reason, Some(PauseReason::Failing));
    // Somebody resumes it: what failed before does not count.
    machine.handle(NOW + limit, 0, Event::Persisted { version: 1 });
    machine.handle(NOW + limit, 0, Event::Persisted { version: 2 });
    let resumed = Polled {
        progress: Some(2),
        control: (Control::resumed(NOW + limit + 1), 9),
        ..Polled::default()
    };
    let actions = machine.handle(NOW + limit + 5_000, 0, Event::Polled(resumed));
    assert!(!machine.snapshot().paused, "{actions:?}");
    assert!(!sent(&actions).is_empty(), "{actions:?}");
    let actions = machine.handle(NOW + limit + 5_001, 0, attempted(MIN_FAILURES + 2, refused()));
    assert!(!paused(&actions));
}
