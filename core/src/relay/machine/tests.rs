//! Single steps of the machine, one rule each. What holds in any course of events is in `simulation`.

use super::*;
use crate::breaker;
use crate::relay::restore::{Polled, Restored};
use crate::retry::Schedule;

const NOW: u64 = 1_800_000_000_000;
const NONE: [u64; 0] = [];

fn message(sequence: u64, key: &str) -> Message {
    Message {
        topic: "t".into(),
        sequence,
        id: format!("m{sequence}"),
        key: key.into(),
        kind: "test".into(),
        content_type: "text/plain".into(),
        time: NOW,
        attributes: Vec::new(),
        payload: b"x".to_vec(),
    }
}

fn settings() -> Settings {
    Settings {
        topic: "t".into(),
        name: "s".into(),
        rate_per_second: 100_000,
        concurrency: 4,
        ordered: true,
        schedule: Schedule::Fixed(vec![1_000]),
        breaker: breaker::Settings::default(),
    }
}

fn started(settings: Settings, messages: Vec<Message>) -> (Machine, Vec<Action>) {
    let mut machine = Machine::new(settings);
    assert!(matches!(
        machine.handle(NOW, 0, Event::Tick)[..],
        [Action::Restore]
    ));
    let actions = machine.handle(NOW, 0, Event::Restored(Box::default()));
    assert!(matches!(actions[..], [Action::Load { after: 0, .. }]));
    let actions = machine.handle(NOW, 0, Event::Loaded(messages));
    (machine, actions)
}

fn sent(actions: &[Action]) -> Vec<u64> {
    let sequence = |action: &Action| match action {
        Action::Send { message, .. } => Some(message.sequence),
        _ => None,
    };
    actions.iter().filter_map(sequence).collect()
}

fn answered(sequence: u64, status: u16) -> Event {
    Event::Attempted {
        sequence,
        answer: Answer::Status {
            status,
            retry_after_ms: None,
        },
    }
}

#[test]
fn a_failing_message_holds_up_its_own_key_only() {
    let messages = vec![
        message(1, "a"),
        message(2, "a"),
        message(3, "b"),
        message(4, "b"),
        message(5, ""),
    ];
    let (mut machine, actions) = started(settings(), messages);
    assert_eq!(sent(&actions), [1, 3, 5]);
    let actions = machine.handle(NOW, 0, answered(1, 500));
    assert_eq!(sent(&actions), NONE);
    assert_eq!(sent(&machine.handle(NOW, 0, answered(3, 200))), [4]);
    assert_eq!(sent(&machine.handle(NOW + 999, 0, Event::Tick)), NONE);
    assert_eq!(sent(&machine.handle(NOW + 1_000, 0, Event::Tick)), [1]);
    let actions = machine.handle(NOW + 1_000, 0, answered(1, 500));
    assert!(actions.iter().any(|a| matches!(
        a,
        Action::Note(Note::Dead {
            sequence: 1,
            attempts: 2,
            ..
        })
    )));
    assert_eq!(sent(&actions), [2], "its key goes on once it is a dead letter");
}

#[test]
fn unordered_messages_of_a_key_go_side_by_side() {
    let messages = (1..=6).map(|n| message(n, "a")).collect();
    let (_, actions) = started(
        Settings {
            ordered: false,
            ..settings()
        },
        messages,
    );
    assert_eq!(sent(&actions), [1, 2, 3, 4]);
}

#[test]
fn gone_pauses_without_costing_an_attempt_and_resuming_goes_on() {
    let (mut machine, _) = started(settings(), vec![message(1, "a"), message(2, "b")]);
    let actions = machine.handle(NOW, 0, answered(1, 410));
    assert!(actions.iter().any(|a| matches!(a, Action::Note(Note::Paused))));
    let commit = actions.iter().find_map(|a| {
        if let Action::Persist(commit) = a {
            Some(commit)
        } else {
            None
        }
    });
    assert!(
        commit
            .expect("made durable")
            .mutations
            .iter()
            .any(|m| m.key() == "relay/t/s/control")
    );
    machine.handle(NOW, 0, Event::Persisted { version: 7 });
    let (paused, resumed) = (machine.control.clone(), Control::default());
    let polled = |control: Control, version| {
        Event::Polled(Polled {
            progress: Some(7),
            control: (control, version),
            redrives: 0,
        })
    };
    assert_eq!(
        sent(&machine.handle(NOW, 0, polled(resumed.clone(), 3))),
        NONE,
        "that was read before the pause"
    );
    assert_eq!(sent(&machine.handle(NOW, 0, polled(paused, 7))), NONE);
    let actions = machine.handle(NOW, 0, polled(resumed, 8));
    assert!(matches!(&actions[0], Action::Send { message, attempt: 1 } if message.sequence == 1));
}

#[test]
fn an_origin_that_is_down_costs_no_attempts_while_the_breaker_is_open() {
    let messages: Vec<_> = (1..=40).map(|n| message(n, &n.to_string())).collect();
    let (mut machine, actions) = started(
        Settings {
            concurrency: 1,
            ..settings()
        },
        messages,
    );
    let (mut next, mut attempts, mut until) = (sent(&actions), 0, None);
    while let Some(sequence) = next.pop() {
        attempts += 1;
        let answer = Answer::Connect("connection refused".into());
        let actions = machine.handle(NOW, 0, Event::Attempted { sequence, answer });
        next = sent(&actions);
        until = until.or(actions.iter().find_map(|a| match a {
            Action::Note(Note::Breaker(breaker::Change::Opened { until })) => Some(*until),
            _ => None,
        }));
    }
    assert_eq!(attempts, breaker::CONSECUTIVE_FAILURES);
    let until = until.expect("opened");
    assert_eq!(sent(&machine.handle(until - 1, 0, Event::Tick)), NONE);
    // The probe is a message that was not tried yet, not one that has failed before.
    assert_eq!(sent(&machine.handle(until, 0, Event::Tick)), [11]);
    assert_eq!(
        sent(&machine.handle(until + 60_000, 0, Event::Tick)),
        NONE,
        "one probe at a time"
    );
}

#[test]
fn failing_keys_fill_the_window_and_no_further() {
    let (mut machine, _) = started(settings(), Vec::new());
    let mut loaded = 0;
    loop {
        let messages = (loaded + 1..=loaded + 256).map(|n| message(n, "stuck")).collect();
        let actions = machine.handle(NOW, 0, Event::Loaded(messages));
        loaded += 256;
        if !actions.iter().any(|a| matches!(a, Action::Load { .. })) {
            break;
        }
    }
    assert_eq!(machine.snapshot().window, WINDOW);
    let actions = machine.handle(NOW, 0, answered(1, 200));
    assert!(actions.iter().any(|a| matches!(
        a,
        Action::Load {
            after: 1_024,
            limit: 1
        }
    )));
}

#[test]
fn what_retention_has_removed_is_passed_over_and_told() {
    let (machine, actions) = started(settings(), vec![message(8, "a"), message(10, "b")]);
    let skipped: Vec<_> = actions
        .iter()
        .filter_map(|a| {
            if let Action::Note(note) = a {
                Some(note.clone())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(
        skipped,
        [
            Note::Skipped { start: 1, end: 7 },
            Note::Skipped { start: 9, end: 9 }
        ]
    );
    assert!(actions.iter().any(|a| matches!(a, Action::Persist(_))));
    assert_eq!(machine.snapshot().under_way, 2);
}

#[test]
fn a_removed_subscription_ends_without_writing_anything() {
    let (mut machine, _) = started(settings(), vec![message(1, "a"), message(2, "b")]);
    machine.handle(NOW, 0, answered(1, 200));
    machine.handle(NOW, 0, Event::Persisted { version: 3 });
    machine.handle(NOW + 100, 0, answered(2, 200));
    machine.handle(NOW + 100, 0, Event::PersistFailed);
    let actions = machine.handle(NOW + 100, 0, Event::Restored(Box::default()));
    assert!(matches!(actions[..], [Action::Halt]));
    assert!(machine.is_drained());
}

#[test]
fn stopping_sees_through_what_is_under_way_and_persists_it() {
    let (mut machine, _) = started(settings(), vec![message(1, "a"), message(2, "a")]);
    assert_eq!(sent(&machine.handle(NOW, 0, Event::Stop)), NONE);
    assert!(!machine.is_drained());
    let actions = machine.handle(NOW, 0, answered(1, 200));
    assert_eq!(sent(&actions), NONE);
    assert!(!machine.is_drained());
    assert!(actions.iter().any(|a| matches!(a, Action::Persist(_))));
    machine.handle(NOW, 0, Event::Persisted { version: 1 });
    assert!(machine.is_drained());
}

#[test]
fn attempts_survive_a_restart() {
    let mut machine = Machine::new(settings());
    machine.handle(NOW, 0, Event::Tick);
    let counter = Waiting {
        attempts: 1,
        next_at: NOW + 500,
        ..Waiting::default()
    };
    let restored = Restored {
        waiting: [(1, counter)].into(),
        ..Restored::default()
    };
    machine.handle(NOW, 0, Event::Restored(Box::new(restored)));
    assert_eq!(
        sent(&machine.handle(NOW, 0, Event::Loaded(vec![message(1, "a")]))),
        NONE
    );
    let actions = machine.handle(NOW + 500, 0, Event::Tick);
    assert!(matches!(actions[..], [Action::Send { attempt: 2, .. }, ..]));
}

/// Found by simulation: the clock stood ahead when the message failed, and was set back before the restart.
#[test]
fn a_clock_that_was_set_back_delays_no_message_for_longer_than_its_schedule() {
    let mut machine = Machine::new(settings());
    machine.handle(NOW, 0, Event::Tick);
    let waiting = |next_at| Waiting {
        attempts: 1,
        next_at,
        ..Waiting::default()
    };
    let ten_years = 10 * 365 * 86_400_000;
    let (ahead, soon) = (waiting(NOW + ten_years), waiting(NOW + 5));
    let again = Waiting {
        redriven: true,
        ..ahead.clone()
    };
    let restored = Restored {
        waiting: [(1, ahead), (2, soon)].into(),
        redriven: vec![(9, again, Some(message(9, "c")))],
        ..Restored::default()
    };
    machine.handle(NOW, 0, Event::Restored(Box::new(restored)));
    machine.handle(NOW, 0, Event::Loaded(vec![message(1, "a"), message(2, "b")]));
    let soon = machine.handle(NOW + 5, 0, Event::Tick);
    assert_eq!(sent(&soon), [2], "a time that can be is kept");
    let latest = NOW + settings().schedule.longest_wait_ms();
    assert_eq!(sent(&machine.handle(latest - 1, 0, Event::Tick)), NONE);
    assert_eq!(sent(&machine.handle(latest, 0, Event::Tick)), [1, 9]);
}
