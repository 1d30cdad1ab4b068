//! A start with as little as may be: memory, time, rights, and places to write to.

use std::os::unix::fs::chown;

use super::*;
use crate::harness::Program;

/// The most resident memory of a gateway that nobody has asked anything yet, with a worker for each of four cores.
const IDLE_MEMORY: u64 = 64 << 20;
const NOBODY: u32 = 65_534;

/// Everything read-only but `$1`, then `nobody` without rights, without `HOME`, somewhere it cannot write.
const CONFINED: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
while read -r _ _ _ _ at _; do
    at=$(printf %b "$at")
    [ "$at" = "$1" ] || mount -o remount,bind,ro "$at" 2>/dev/null || true
done < /proc/self/mountinfo
cd /
for at in / /tmp /var/tmp /dev/shm; do
    if touch "$at/here" 2>/dev/null; then echo "$at can be written" >&2; exit 1; fi
done
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
    env -i TOLLGATE_ADMIN_KEY="$2" "$3" serve --listen 127.0.0.1:0 --data "$1"
"#;

pub async fn an_idle_gateway_is_small(host: Host) {
    let gateway = Gateway::start(
        host,
        "[server]\npublic_url = \"http://short.test\"\nworkers = 4\n",
    )
    .await;
    let memory = gateway.memory();
    assert!(memory <= IDLE_MEMORY, "{} KiB", memory >> 10);
}

pub async fn nobody_runs_it_where_all_else_is_read_only(_: Host) {
    // Where nobody may look: not below a home.
    let directory = tempfile::tempdir().expect("the directory is ours");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let (data, program) = (directory.path().join("data"), directory.path().join("tollgate"));
    fs::create_dir(&data).expect("it is ours");
    fs::copy(binary(), &program).expect("there is room");
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command
    };
    let can = chown(&data, Some(NOBODY), Some(NOBODY)).is_ok()
        && inside(
            "mount --make-rprivate / && mount --bind /tmp /tmp && setpriv --reuid=65534 --clear-groups true",
        )
        .output()
        .is_ok_and(|output| output.status.success());
    if !can {
        eprintln!(
            "skipped: this user may not unshare mounts and become another, or unshare and setpriv are not here"
        );
        return;
    }
    let mut command = inside(CONFINED);
    command.arg(&data).arg(ADMIN_KEY).arg(&program);
    let mut program = Program::start(command, directory.path());
    let base = program
        .line(address, END)
        .await
        .unwrap_or_else(|why| panic!("{why}"));
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).expect("it runs");
    assert!(
        status.contains("\nUid:\t65534\t65534\t65534\t65534\n"),
        "{status}"
    );
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("nothing in it can fail");
    let link = client
        .post(format!("{base}/api/links"))
        .header("authorization", format!("Bearer {ADMIN_KEY}"))
        .header("content-type", "application/json")
        .body(r#"{"url":"https://example.com/","code":"hello"}"#);
    assert_eq!(link.send().await.expect("an answer").status().as_u16(), 201);
    let moved = client
        .get(format!("{base}/hello"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(moved.status().as_u16(), 302);
    program.signal(Signal::TERM);
    let status = program.exit(END).await.expect("it ends");
    assert!(status.success(), "{}", program.tail());
    for complaint in ["Permission denied", "Read-only file system", "panicked"] {
        assert!(!program.stderr().contains(complaint), "{}", program.tail());
    }
    let mut made: Vec<_> = fs::read_dir(&data)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("plain names"))
        .collect();
    made.sort();
    assert!(
        made.iter().all(|name| name.starts_with("tollgate.db")),
        "{made:?}"
    );
}
