//! Single steps of the machine, one rule each. What holds in any course of events is in `simulation`.

use super::*;
use crate::breaker;
use crate::relay::attempt::Answered;
use crate::relay::record::PauseReason;
use crate::relay::restore::{Found, Polled, Restored};
use crate::relay::{Batching, Blame, Delivered, MAX_HELD, WINDOW};
use crate::retry::Schedule;

mod attempts;

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

fn settings() -> DeliveryPolicy {
    DeliveryPolicy {
        topic: "t".into(),
        name: "s".into(),
        keys: Keys::new("t", "s"),
        rate_per_second: 100_000.0,
        concurrency: 4,
        ordered: true,
        filter: None,
        batch: None,
        schedule: Schedule::Fixed(vec![1_000]),
        window: WINDOW,
        held: MAX_HELD,
        breaker: breaker::Thresholds::default(),
        pause_after_ms: None,
    }
}

fn started(settings: DeliveryPolicy, messages: Vec<Message>) -> (Machine, Vec<Action>) {
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

fn attempted(sequence: u64, delivered: Delivered) -> Event {
    Event::Attempted {
        sequence,
        delivered,
        answered: Answered::default(),
    }
}

fn failed() -> Delivered {
    Delivered::refused(Blame::Origin, "the origin answered 500")
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
    let actions = machine.handle(NOW, 0, attempted(1, failed()));
    assert_eq!(sent(&actions), NONE);
    assert_eq!(
        sent(&machine.handle(NOW, 0, attempted(3, Delivered::Accepted))),
        [4]
    );
    assert_eq!(sent(&machine.handle(NOW + 999, 0, Event::Tick)), NONE);
    assert_eq!(sent(&machine.handle(NOW + 1_000, 0, Event::Tick)), [1]);
    let actions = machine.handle(NOW + 1_000, 0, attempted(1, failed()));
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
        DeliveryPolicy {
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
    let actions = machine.handle(NOW, 0, attempted(1, Delivered::Unwanted));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Note(Note::Paused(PauseReason::Gone))))
    );
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
            ..Polled::default()
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
        DeliveryPolicy {
            concurrency: 1,
            ..settings()
        },
        messages,
    );
    let (mut next, mut attempts, mut until) = (sent(&actions), 0, None);
    while let Some(sequence) = next.pop() {
        attempts += 1;
        let actions = machine.handle(NOW, 0, attempted(sequence, failed()));
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

/// What becomes of a few messages in twelve hours in which every attempt ends so: sequences of dead letters, and those of attempts.
fn outage(delivered: &Delivered, batch: Option<Batching>) -> (Vec<u64>, Vec<u64>) {
    let schedule = Schedule::Exponential {
        initial_ms: 1_000,
        factor: 2.0,
        cap_ms: 3_600_000,
        max_attempts: 12,
    };
    let messages = (1..=4).map(|n| message(n, &n.to_string())).collect();
    let (mut machine, mut actions) = started(
        DeliveryPolicy {
            schedule,
            batch,
            ..settings()
        },
        messages,
    );
    let (mut now, mut dead, mut attempts) = (NOW, Vec::new(), Vec::new());
    while now < NOW + 12 * 3_600_000 {
        let (mut events, mut wake) = (Vec::new(), now + 60_000);
        for action in actions {
            match action {
                Action::Send { message, .. } => {
                    attempts.push(message.sequence);
                    events.push(attempted(message.sequence, delivered.clone()));
                }
                Action::SendBatch { number, messages } => {
                    attempts.extend(messages.iter().map(|(message, _)| message.sequence));
                    events.push(Event::BatchAttempted {
                        number,
                        delivered: delivered.clone(),
                        answered: Answered::default(),
                    });
                }
                Action::Persist(_) => events.push(Event::Persisted { version: 1 }),
                Action::Note(Note::Dead { sequence, .. }) => dead.push(sequence),
                Action::Wake { at } => wake = at.min(wake),
                _ => {}
            }
        }
        if events.is_empty() {
            now = wake;
            events.push(Event::Tick);
        }
        let step = |event| machine.handle(now, 7, event);
        actions = events.into_iter().flat_map(step).collect();
    }
    (dead, attempts)
}

#[test]
fn an_outage_makes_no_dead_letters_once_the_breaker_has_opened() {
    let unreachable = Delivered::refused(Blame::Unreachable, "connection refused");
    let batching = Batching {
        most: 3,
        interval_ms: 200,
    };
    for batch in [None, Some(batching)] {
        let (dead, attempts) = outage(&unreachable, batch);
        assert_eq!(dead, NONE, "{batch:?}");
        // It is looked whether the receiver is back, and by which message makes no difference.
        let looks = attempts.len();
        assert!(
            (720..=1_500).contains(&looks),
            "each half to whole minute: {looks}"
        );
        // One that answers costs attempts: it may be the message that it fails at.
        let (mut dead, _) = outage(&failed(), batch);
        dead.sort_unstable();
        assert_eq!(dead, [1, 2, 3, 4], "{batch:?}");
    }
}

#[test]
fn an_unreachable_receiver_costs_attempts_while_the_breaker_is_closed() {
    let (mut machine, _) = started(settings(), vec![message(1, "a")]);
    let unreachable = || Delivered::refused(Blame::Unreachable, "connection refused");
    machine.handle(NOW, 0, attempted(1, unreachable()));
    assert_eq!(sent(&machine.handle(NOW + 1_000, 0, Event::Tick)), [1]);
    let actions = machine.handle(NOW + 1_000, 0, attempted(1, unreachable()));
    let died = |action: &Action| matches!(action, Action::Note(Note::Dead { attempts: 2, .. }));
    assert!(actions.iter().any(died), "{actions:?}");
}

/// Ends every attempt as `outcome` says, makes everything durable, and reads what is asked for,
/// until nothing is left to do at this time. `topic` holds the messages from 1 on.
fn settle(
    machine: &mut Machine,
    mut now: u64,
    topic: &[Message],
    outcome: impl Fn(u64) -> Delivered,
) -> Vec<u64> {
    let (mut order, mut version, end) = (Vec::new(), machine.version.unwrap_or(0), now + 500);
    let (mut events, mut wake) = (std::collections::VecDeque::from([Event::Tick]), u64::MAX);
    loop {
        let Some(event) = events.pop_front() else {
            if wake > end {
                return order;
            }
            (now, wake) = (wake, u64::MAX);
            events.push_back(Event::Tick);
            continue;
        };
        for action in machine.handle(now, 0, event) {
            match action {
                Action::Load { after, limit } => {
                    let after = usize::try_from(after).unwrap();
                    let next: Vec<_> = topic.iter().skip(after).take(limit as usize).cloned().collect();
                    if !next.is_empty() {
                        events.push_back(Event::Loaded(next));
                    }
                }
                Action::Send { message, .. } => {
                    order.push(message.sequence);
                    events.push_back(attempted(message.sequence, outcome(message.sequence)));
                }
                Action::Fetch { sequences } => {
                    let found = |sequence: u64| Found {
                        sequence,
                        message: topic.get(usize::try_from(sequence).unwrap() - 1).cloned(),
                        last_error: Some("the origin answered 500".into()),
                    };
                    events.push_back(Event::Fetched(sequences.into_iter().map(found).collect()));
                }
                Action::Persist(commit) => {
                    tollgate_store::plan::validate(&commit).unwrap();
                    version += 1;
                    events.push_back(Event::Persisted { version });
                }
                Action::Wake { at } => wake = at,
                _ => {}
            }
        }
        assert!(machine.window.loaded() <= machine.settings.window + MAX_LOAD);
    }
}

/// Issue: 1,030 messages that the origin refused stopped everything behind them.
#[test]
fn refused_messages_take_no_place_from_others_however_many_they_are() {
    let topic: Vec<_> = (1..=3_005).map(|n| message(n, &format!("k{n}"))).collect();
    let settings = DeliveryPolicy {
        breaker: never_open(),
        ..settings()
    };
    let (mut machine, _) = started(settings, Vec::new());
    machine.loading = false;
    let order = settle(&mut machine, NOW, &topic, |n| {
        if n <= 3_000 { failed() } else { Delivered::Accepted }
    });
    assert_eq!(order.len(), 3_005, "all were tried once");
    assert_eq!(machine.snapshot().held, 3_000);
    assert_eq!(machine.durable.lag(1, 3_005), 3_000);
    assert!(
        machine.window.loaded() <= WINDOW / 2 + MAX_LOAD,
        "{:?}",
        machine.snapshot()
    );
    let again = settle(&mut machine, NOW + 2_000, &topic, |_| Delivered::Accepted);
    assert_eq!(
        again.iter().collect::<std::collections::BTreeSet<_>>().len(),
        3_000
    );
    assert_eq!(
        (machine.durable.watermark(), machine.durable.lag(1, 3_005)),
        (3_005, 0)
    );
}

fn never_open() -> breaker::Thresholds {
    breaker::Thresholds {
        consecutive_failures: u32::MAX,
        min_results: u32::MAX,
        ..breaker::Thresholds::default()
    }
}

#[test]
fn messages_behind_a_refused_one_hold_up_no_other_key_and_keep_their_order() {
    let key = |n: u64| {
        if n <= 1_500 {
            "stuck".to_owned()
        } else {
            format!("k{n}")
        }
    };
    let topic: Vec<_> = (1..=1_600).map(|n| message(n, &key(n))).collect();
    let (mut machine, _) = started(settings(), Vec::new());
    machine.loading = false;
    let order = settle(&mut machine, NOW, &topic, |n| {
        if n == 1 { failed() } else { Delivered::Accepted }
    });
    assert_eq!(order.len(), 101, "the first of the key, and all others");
    let order = settle(&mut machine, NOW + 2_000, &topic, |_| Delivered::Accepted);
    assert_eq!(order, (1..=1_500).collect::<Vec<_>>());
    assert_eq!(
        (machine.durable.watermark(), machine.durable.lag(1, 1_600)),
        (1_600, 0)
    );
}

#[test]
fn beyond_what_is_remembered_those_that_would_wait_longest_are_given_up() {
    let topic: Vec<_> = (1..=1_000).map(|n| message(n, &format!("k{n}"))).collect();
    let settings = DeliveryPolicy {
        held: 300,
        window: 64,
        breaker: never_open(),
        ..settings()
    };
    let (mut machine, _) = started(settings, Vec::new());
    machine.loading = false;
    let order = settle(&mut machine, NOW, &topic, |n| {
        if n <= 990 { failed() } else { Delivered::Accepted }
    });
    assert_eq!(order.len(), 1_000);
    assert!(machine.snapshot().held <= 300, "{:?}", machine.snapshot());
    assert_eq!(machine.durable.lag(1, 1_000), machine.snapshot().held as u64);
}

#[test]
fn a_final_refusal_makes_a_dead_letter_at_once() {
    let (mut machine, _) = started(settings(), vec![message(1, "a"), message(2, "a")]);
    let refused = Delivered::Refused {
        why: "the origin answered 422".into(),
        blame: Blame::Message,
        is_final: true,
        retry_after_ms: None,
    };
    let actions = machine.handle(NOW, 0, attempted(1, refused));
    assert!(actions.iter().any(|a| matches!(
        a,
        Action::Note(Note::Dead { sequence: 1, attempts: 1, error, .. }) if error == "the origin answered 422"
    )));
    assert_eq!(sent(&actions), [2]);
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
    machine.handle(NOW, 0, attempted(1, Delivered::Accepted));
    machine.handle(NOW, 0, Event::Persisted { version: 3 });
    machine.handle(NOW + 100, 0, attempted(2, Delivered::Accepted));
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
    let actions = machine.handle(NOW, 0, attempted(1, Delivered::Accepted));
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
        waiting: [(1, ahead), (2, soon), (9, again)].into(),
        ..Restored::default()
    };
    machine.handle(NOW, 0, Event::Restored(Box::new(restored)));
    machine.handle(NOW, 0, Event::Loaded(vec![message(1, "a"), message(2, "b")]));
    let soon = machine.handle(NOW + 5, 0, Event::Tick);
    assert_eq!(sent(&soon), [2], "a time that can be is kept");
    let latest = NOW + settings().schedule.longest_wait_ms();
    assert_eq!(sent(&machine.handle(latest - 1, 0, Event::Tick)), NONE);
    let actions = machine.handle(latest, 0, Event::Tick);
    assert_eq!(sent(&actions), [1]);
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Fetch { sequences } if *sequences == [9]))
    );
}

#[test]
fn a_wait_that_is_asked_for_counts_and_the_breaker_is_durable_until_it_is_reset() {
    for (retry_after_ms, waits) in [
        (None, breaker::OPEN_INITIAL_MS),
        (Some(3_600_000), breaker::OPEN_ASKED_MS),
    ] {
        let refused = Delivered::Refused {
            why: "the origin answered 503".into(),
            blame: Blame::Origin,
            is_final: false,
            retry_after_ms,
        };
        let messages: Vec<_> = (1..=40).map(|n| message(n, &n.to_string())).collect();
        let one = DeliveryPolicy {
            concurrency: 1,
            ..settings()
        };
        let (mut machine, actions) = started(one, messages);
        let (mut next, mut opened, mut persisted) = (sent(&actions), None, String::new());
        while let Some(sequence) = next.pop() {
            let actions = machine.handle(NOW, 0, attempted(sequence, refused.clone()));
            next = sent(&actions);
            for action in &actions {
                if let Action::Note(Note::Breaker(breaker::Change::Opened { until })) = action {
                    opened = Some(*until);
                }
            }
        }
        let until = opened.expect("opened");
        assert!(
            until <= NOW + waits && until >= NOW + waits / 2,
            "{retry_after_ms:?}: {}",
            until - NOW
        );
        machine.handle(NOW, 0, Event::Persisted { version: 1 });
        for action in machine.handle(NOW + PERSIST_INTERVAL_MS, 0, Event::Tick) {
            if let Action::Persist(commit) = action {
                persisted = format!(
                    "{:?}",
                    commit
                        .mutations
                        .iter()
                        .map(|m| m.key().to_owned())
                        .collect::<Vec<_>>()
                );
            }
        }
        assert!(persisted.contains("relay/t/s/breaker"), "{persisted}");
        let reset = Polled {
            progress: Some(1),
            resets: 1,
            ..Polled::default()
        };
        let actions = machine.handle(NOW + PERSIST_INTERVAL_MS, 0, Event::Polled(reset));
        assert!(
            actions
                .iter()
                .any(|a| matches!(a, Action::Note(Note::Breaker(breaker::Change::Closed))))
        );
        assert_eq!(sent(&actions).len(), 1);
    }
}

#[test]
fn a_start_that_is_withheld_costs_nothing() {
    let (mut machine, actions) = started(settings(), vec![message(1, "a"), message(2, "b")]);
    assert_eq!(sent(&actions), [1, 2]);
    let polled = Polled {
        control: (Control::paused(PauseReason::Requested, NOW), 9),
        ..Polled::default()
    };
    let withheld = Event::Withheld {
        sequence: 1,
        polled: Some(polled.clone()),
    };
    assert_eq!(sent(&machine.handle(NOW, 0, withheld)), NONE);
    let resumed = Polled {
        control: (Control::default(), 10),
        ..Polled::default()
    };
    let actions = machine.handle(NOW, 0, Event::Polled(resumed));
    assert!(matches!(&actions[0], Action::Send { message, attempt: 1 } if message.sequence == 1));
    assert_eq!(
        sent(&machine.handle(NOW, 0, Event::Superseded { sequence: 1 })),
        NONE
    );
    machine.handle(NOW, 0, attempted(2, Delivered::Accepted));
    machine.handle(NOW, 0, Event::Persisted { version: 1 });
    assert!(machine.is_drained());
}

#[test]
fn what_the_filter_does_not_pass_is_finished_and_takes_no_place() {
    let settings = DeliveryPolicy {
        filter: Some(crate::subscription::Filter {
            types: vec!["wanted".into()],
        }),
        ..settings()
    };
    let of_type = |sequence: u64, kind: &str| Message {
        kind: kind.into(),
        ..message(sequence, "k")
    };
    let messages = vec![
        of_type(1, "other"),
        of_type(2, "other"),
        of_type(3, "wanted"),
        of_type(4, "other"),
    ];
    let (mut machine, mut actions) = started(settings, messages);
    assert_eq!(sent(&actions), [3]);
    let persisted = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Persist(commit) => Some(format!("{:?}", String::from_utf8_lossy(&written(commit)))),
            _ => None,
        })
    };
    actions.extend(machine.handle(NOW + 20, 0, Event::Tick));
    let text = persisted(&actions).expect("passing over is durable");
    assert!(
        text.contains("\\\"watermark\\\":2,\\\"ranges\\\":[[4,4]]"),
        "{text}"
    );
    assert_eq!(machine.snapshot().window, 1);
    machine.handle(NOW + 20, 0, Event::Persisted { version: 1 });
    let actions = machine.handle(NOW + 40, 0, attempted(3, Delivered::Accepted));
    assert!(
        persisted(&actions)
            .expect("durable")
            .contains("\\\"watermark\\\":4")
    );
}

/// The value of the first mutation: the progress.
fn written(commit: &tollgate_store::commit::Commit) -> Vec<u8> {
    match &commit.mutations[0] {
        tollgate_store::commit::Mutation::Set { value, .. } => match &value[..] {
            [tollgate_store::commit::Part::Bytes(bytes)] => bytes.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_subscription_that_begins_later_passes_over_what_comes_before() {
    let mut machine = Machine::new(settings());
    machine.handle(NOW, 0, Event::Tick);
    let restored = Restored {
        begins_after: Some(7),
        ..Restored::default()
    };
    let actions = machine.handle(NOW, 0, Event::Restored(Box::new(restored)));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Load { after: 7, .. }))
    );
    let persisted = |action: &Action| {
        matches!(action, Action::Persist(commit)
        if String::from_utf8_lossy(&written(commit)).contains("\"watermark\":7"))
    };
    assert!(actions.iter().any(persisted), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Note(_))));
}

fn batching(most: usize, interval_ms: u64) -> DeliveryPolicy {
    DeliveryPolicy {
        batch: Some(crate::relay::Batching { most, interval_ms }),
        ..settings()
    }
}

/// The batches that are to be sent, by number.
fn batches(actions: &[Action]) -> Vec<(u64, Vec<u64>)> {
    let sequences = |messages: &[(Arc<Message>, u32)]| messages.iter().map(|(one, _)| one.sequence).collect();
    let batch = |action: &Action| match action {
        Action::SendBatch { number, messages } => Some((*number, sequences(messages))),
        _ => None,
    };
    actions.iter().filter_map(batch).collect()
}

fn batch_ended(number: u64, delivered: Delivered) -> Event {
    Event::BatchAttempted {
        number,
        delivered,
        answered: Answered::default(),
    }
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited_and_holds_one_message_of_a_key() {
    let messages = vec![
        message(1, "a"),
        message(2, "a"),
        message(3, "b"),
        message(4, ""),
        message(5, ""),
    ];
    let (mut machine, actions) = started(batching(3, 200), messages);
    assert_eq!(batches(&actions), [(0, vec![1, 3, 4])], "full");
    assert!(batches(&machine.handle(NOW + 199, 0, Event::Tick)).is_empty());
    let actions = machine.handle(NOW + 200, 0, Event::Tick);
    assert_eq!(batches(&actions), [(1, vec![5])], "it has waited");
    // The next of its key may go now, with whatever comes in time.
    machine.handle(NOW + 210, 0, batch_ended(0, Delivered::Accepted));
    let actions = machine.handle(NOW + 410, 0, Event::Tick);
    assert_eq!(batches(&actions), [(2, vec![2])]);
    assert_eq!(machine.snapshot().under_way, 2);
    machine.handle(NOW + 411, 0, batch_ended(1, Delivered::Accepted));
    machine.handle(NOW + 412, 0, batch_ended(2, Delivered::Accepted));
    assert_eq!((machine.snapshot().under_way, machine.snapshot().held), (0, 0));
}

#[test]
fn a_batch_that_the_origin_fails_to_take_is_tried_again_together_and_each_message_spends_an_attempt() {
    let messages = vec![message(1, "a"), message(2, "b")];
    let (mut machine, actions) = started(batching(2, 200), messages);
    assert_eq!(batches(&actions), [(0, vec![1, 2])]);
    let actions = machine.handle(NOW, 0, batch_ended(0, failed()));
    assert!(batches(&actions).is_empty());
    let actions = machine.handle(NOW + 1_000, 0, Event::Tick);
    assert_eq!(batches(&actions), [(1, vec![1, 2])]);
    // The schedule of these tests has two attempts.
    let actions = machine.handle(NOW + 1_001, 0, batch_ended(1, failed()));
    let dead = actions
        .iter()
        .filter(|action| matches!(action, Action::Note(Note::Dead { attempts: 2, .. })));
    assert_eq!(dead.count(), 2);
}

#[test]
fn one_bad_message_makes_no_other_of_its_batch_a_dead_letter() {
    let bad = || Delivered::Refused {
        why: "the origin answered 422".into(),
        blame: Blame::Message,
        is_final: true,
        retry_after_ms: None,
    };
    let messages = vec![message(1, "a"), message(2, "b"), message(3, "c")];
    let (mut machine, actions) = started(batching(3, 200), messages);
    assert_eq!(batches(&actions), [(0, vec![1, 2, 3])]);
    let actions = machine.handle(NOW, 0, batch_ended(0, bad()));
    let alone = [(1, vec![1]), (2, vec![2]), (3, vec![3])];
    assert_eq!(batches(&actions), alone, "each goes alone, at once");
    let mut actions = machine.handle(NOW, 0, batch_ended(1, Delivered::Accepted));
    actions.extend(machine.handle(NOW, 0, batch_ended(2, bad())));
    actions.extend(machine.handle(NOW, 0, batch_ended(3, Delivered::Accepted)));
    let died: Vec<(u64, u32)> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Note(Note::Dead {
                sequence, attempts, ..
            }) => Some((*sequence, *attempts)),
            _ => None,
        })
        .collect();
    assert_eq!(died, [(2, 1)]);
    assert_eq!(machine.snapshot().held, 0);
}

#[test]
fn a_batch_that_was_not_sent_costs_nothing_and_goes_again() {
    let (mut machine, actions) = started(batching(2, 200), vec![message(1, "a"), message(2, "b")]);
    assert_eq!(batches(&actions).len(), 1);
    let withheld = Event::BatchWithheld {
        number: 0,
        polled: None,
    };
    let actions = machine.handle(NOW, 0, withheld);
    let attempts = |action: &Action| match action {
        Action::SendBatch { messages, .. } => messages.iter().all(|(_, attempt)| *attempt == 1),
        _ => false,
    };
    assert!(actions.iter().any(attempts), "{actions:?}");
    machine.handle(NOW, 0, Event::Stop);
    machine.handle(NOW, 0, Event::BatchSuperseded { number: 1 });
    assert!(machine.is_drained());
}
