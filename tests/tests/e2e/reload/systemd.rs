//! What a service manager and the gateway tell each other: `sd_notify(3)` with `Type=notify-reload`, and socket activation.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use super::*;
use crate::harness::{Program, address};

const SOON: Duration = Duration::from_secs(60);

/// The next message, each variable of it on a line.
async fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4_096];
    eventually("a message", async || {
        let read = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..read]).trim_end().to_owned())
    })
    .await
}

pub async fn a_service_manager_is_told_of_reloads(host: Host) {
    // The name of a socket is short.
    let directory = tempfile::tempdir().expect("the directory is ours");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("it is ours");
    socket.set_nonblocking(true).expect("it can");
    let serve = Serve {
        environment: vec![("NOTIFY_SOCKET", path)],
        ..Serve::with_key(ADMIN_KEY)
    };
    let gateway = Gateway::start_as(host, serve, ON_SIGHUP).await;
    assert_eq!(next(&socket).await, "READY=1");
    let file = File::of(&gateway, ON_SIGHUP);
    for text in [ON_SIGHUP, "[links]\nredirect = 300\n"] {
        file.write(text);
        gateway.signal(Signal::HUP);
        let told = next(&socket).await;
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(
            time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0)),
            "{told}"
        );
        assert_eq!(next(&socket).await, "READY=1", "also where it was refused");
    }
    gateway.says(REFUSED).await;
    assert!(gateway.stop().await.success());
    assert_eq!(next(&socket).await, "STOPPING=1");
}

pub async fn sockets_may_be_opened_by_a_service_manager(_: Host) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let [public, admin] = [(); 2].map(|()| {
        let socket = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).expect("it is ours");
        socket
    });
    let settings = "[server]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\n";
    fs::write(directory.path().join("tollgate.toml"), settings).expect("it is ours");
    // Not sh: dash takes numbers of one digit only.
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!(
            "exec 3<&{} 4<&{}; LISTEN_PID=$$ exec \"$0\" serve",
            admin.as_raw_fd(),
            public.as_raw_fd()
        ))
        .arg(binary())
        .current_dir(directory.path())
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "admin:tollgate.socket")
        .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
        .env_remove("TOLLGATE_LISTEN")
        .env_remove("TOLLGATE_DATA");
    let mut program = Program::start(command, directory.path());
    let base = program.line(address, SOON).await.expect("it starts");
    assert_eq!(
        base,
        format!("http://{}", public.local_addr().expect("it has one"))
    );
    let admin = admin.local_addr().expect("it has one");
    for (url, status) in [
        (format!("{base}/health/ready"), 200),
        (format!("{base}/metrics"), 404),
        (format!("http://{admin}/metrics"), 401),
    ] {
        let answer = reqwest::get(&url).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{url}");
    }
}
