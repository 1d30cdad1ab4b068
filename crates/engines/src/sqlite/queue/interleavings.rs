//! The queue under many schedules. A wait never times out here: a thread that is not woken waits for ever,
//! and is found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use crate::reply::Reply;
use std::sync::Arc;

use shuttle::sync::Mutex;
use shuttle::thread;
use tokio::sync::oneshot;

use super::*;
use crate::sync::explore;

const PATIENCE: Duration = Duration::from_secs(3_600);
const PRODUCERS: usize = 3;
const JOBS: usize = 2;

fn job(name: String) -> Job {
    Job {
        asked: Asked::Commit(Box::new(Commit {
            partition: name,
            ..Commit::default()
        })),
        bytes: 1,
        reply: Some(Reply::Alone(oneshot::channel().0)),
    }
}

/// What came out: the names of commits in order, and the clicks.
fn count(group: Vec<Job>, names: &mut Vec<String>, clicks: &mut i64) {
    for job in group {
        let Asked::Commit(commit) = job.asked else {
            panic!("nothing was packed")
        };
        match commit.mutations.first() {
            Some(Mutation::Add { delta, .. }) => *clicks += delta,
            _ => names.push(commit.partition),
        }
    }
}

/// Threads that each push some jobs; what was accepted is in the list.
fn producers(queue: &Arc<Queue>, accepted: &Arc<Mutex<(Vec<String>, i64)>>) -> Vec<thread::JoinHandle<()>> {
    let start = |producer: usize| {
        let (queue, accepted) = (Arc::clone(queue), Arc::clone(accepted));
        thread::spawn(move || {
            for n in 0..JOBS {
                if producer == 0 {
                    if queue.push(click("visits", 1)).is_ok() {
                        accepted.lock().unwrap().1 += 1;
                    }
                    continue;
                }
                let name = format!("{producer}-{n}");
                if queue.push(job(name.clone())).is_ok() {
                    accepted.lock().unwrap().0.push(name);
                }
            }
        })
    };
    (0..=PRODUCERS).map(start).collect()
}

#[test]
fn what_was_accepted_is_taken_once_in_its_producers_order_and_nobody_sleeps_on_it() {
    explore(|| {
        let queue = Arc::new(Queue::new(5, 100, 2));
        let accepted = Arc::new(Mutex::new((Vec::new(), 0)));
        let writer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let (mut names, mut clicks) = (Vec::new(), 0);
                loop {
                    match queue.take(PATIENCE) {
                        Next::Group(group) => {
                            assert!(group.len() <= 3, "a group of 2 and the clicks");
                            count(group, &mut names, &mut clicks);
                        }
                        Next::Idle => {}
                        Next::Closed => return (names, clicks),
                    }
                }
            })
        };
        for producer in producers(&queue, &accepted) {
            producer.join().unwrap();
        }
        queue.close();
        assert_eq!(queue.push(click("visits", 1)), Err(Refused::Closed));
        let (taken, clicks) = writer.join().unwrap();
        let (mut expected, expected_clicks) = accepted.lock().unwrap().clone();
        assert_eq!(clicks, expected_clicks);
        for producer in 1..=PRODUCERS {
            let own = taken
                .iter()
                .filter(|name| name.starts_with(&format!("{producer}-")));
            assert!(own.is_sorted(), "{taken:?}");
        }
        let mut taken = taken;
        taken.sort();
        expected.sort();
        assert_eq!(taken, expected);
        assert_eq!(queue.waiting(), 0);
    });
}

#[test]
fn a_commit_wakes_the_writer_though_nothing_else_comes() {
    explore(|| {
        let queue = Arc::new(Queue::new(5, 100, 2));
        let pushing = Arc::clone(&queue);
        let producer = thread::spawn(move || {
            assert_eq!(pushing.push(click("visits", 1)), Ok(()));
            assert_eq!(pushing.push(job("one".into())), Ok(()));
        });
        let (mut names, mut clicks) = (Vec::new(), 0);
        while names.is_empty() {
            if let Next::Group(group) = queue.take(PATIENCE) {
                count(group, &mut names, &mut clicks);
            }
        }
        producer.join().unwrap();
        assert_eq!((names.len(), clicks), (1, 1));
    });
}

#[test]
fn a_writer_that_gives_up_gives_back_all_that_it_did_not_take() {
    explore(|| {
        let queue = Arc::new(Queue::new(100, 100, 1));
        let accepted = Arc::new(Mutex::new((Vec::new(), 0)));
        let writer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let (mut names, mut clicks) = (Vec::new(), 0);
                if let Next::Group(group) = queue.take(PATIENCE) {
                    count(group, &mut names, &mut clicks);
                }
                count(queue.abandon(), &mut names, &mut clicks);
                (names.len(), clicks)
            })
        };
        for producer in producers(&queue, &accepted) {
            producer.join().unwrap();
        }
        queue.close();
        let expected = accepted.lock().unwrap();
        assert_eq!(writer.join().unwrap(), (expected.0.len(), expected.1));
    });
}
