//! A store in memory: what it does not keep, and where it ends. Cases of other subjects run on it too, and
//! show that it does what the store on disk does.

use serde_json::json;

use crate::harness::{Gateway, Host, eventually};

pub async fn nothing_outlives_the_process_and_no_database_is_made(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.link("kept").await;
    gateway.get("/kept").send().await.expect(302);
    gateway.says("the store is in memory").await;
    let files = std::fs::read_dir(gateway.directory().join("data"));
    let names = files.into_iter().flatten().flatten().map(|file| file.file_name());
    let databases: Vec<_> = names
        .filter(|name| name.to_string_lossy().contains("tollgate.db"))
        .collect();
    assert!(databases.is_empty(), "{databases:?}");
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    gateway.get("/kept").send().await.problem(404, "not-found");
}

pub async fn a_full_store_refuses_what_needs_room_and_is_told(host: Host) {
    let gateway = Gateway::start(host, "[store]\nengine = \"memory\"\nmax_bytes = \"1MiB\"\n").await;
    gateway.link("before").await;
    let body = json!({ "text": "x".repeat(50_000) });
    let post = async || gateway.post("/signup").client("c").json(&body).send().await;
    let mut taken = 0;
    loop {
        let answer = post().await;
        if answer.status != 202 {
            answer.problem(503, "unavailable");
            answer.header("retry-after");
            break;
        }
        taken += 1;
        assert!(taken < 40, "it is never full");
    }
    // Work of the start may still write the little that fits, and while it does the store has room.
    let ready = eventually("a refusal is what was written last", async || {
        post().await.problem(503, "unavailable");
        let ready = gateway.get("/health/ready").send().await;
        (ready.status != 200).then_some(ready)
    });
    let why = ready.await.problem(503, "unavailable")["detail"].to_string();
    assert!(why.contains("full"), "{why}");
    assert_eq!(gateway.messages("signup").await.len(), taken);
    gateway.get("/before").send().await.expect(302);
}
