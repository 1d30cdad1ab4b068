//! Settings that change while rules wait.

use super::*;

/// [`CONFIG`] with no limit and another topic.
fn other() -> Settings {
    let text = "[[forward]]\npath = \"/signup\"\ntopic = \"later\"\n";
    Settings::parse(text, "test").unwrap()
}

fn finish(gateway: &mut Gateway, task: u32) -> u16 {
    let mut step = gateway.machine.resume(task, Reply::Body(b"ann".to_vec()));
    while let Step::Waits(task, call) = step {
        let reply = gateway.reply(call);
        step = gateway.machine.resume(task, reply);
    }
    match step {
        Step::Done(response) => response.status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_waits_goes_on_under_the_settings_that_it_began_with() {
    let mut gateway = Gateway::new(true);
    let sign_up = request("POST", "/signup", &[("content-type", "text/plain")]);
    let start = |gateway: &mut Gateway| match gateway.start_with(&sign_up, true) {
        Step::Waits(task, Call::Body(_)) => task,
        other => panic!("{other:?}"),
    };
    let before = start(&mut gateway);
    gateway.machine.configure(other());
    let after = start(&mut gateway);
    assert_eq!(
        (finish(&mut gateway, after), finish(&mut gateway, before)),
        (202, 202)
    );
    for topic in ["signups", "later"] {
        let messages = block_on(gateway.node.store.read(topic, 0, 10, 0)).unwrap();
        assert_eq!(messages.len(), 1, "{topic}");
    }
}

#[test]
fn policies_that_stay_go_on_counting() {
    let mut gateway = Gateway::new(true);
    gateway.start(request("GET", "/hello", &[]));
    let wider = CONFIG.replace("capacity = 3", "capacity = 9");
    gateway
        .machine
        .configure(Settings::parse(&wider, "test").unwrap());
    assert_eq!(gateway.machine.decisions(), [1, 0, 0, 0]);
    gateway.start(request("GET", "/hello", &[]));
    gateway.machine.configure(other());
    assert!(gateway.machine.decisions().is_empty());
}
