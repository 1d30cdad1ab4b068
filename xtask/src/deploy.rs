//! What is in `deploy/` for Kubernetes and systemd holds what a gateway needs. (Whether it fits Kubernetes' schemas is looked at by
//! `.github/workflows/release.yml`.)

use crate::build::root;
use tollgate_api::calls::{Call, find_call};
use tollgate_api::components::Component;
use tollgate_rules::config::Config;
use tollgate_rules::settings::Settings;
use tollgate_rules::tick::MAX_BUDGET;
use yaml_rust2::{Yaml, YamlLoader};

fn read(path: &str) -> Vec<Yaml> {
    let text = std::fs::read_to_string(root().join(path)).expect("it is there");
    YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn of_kind<'a>(manifests: &'a [Yaml], kind: &str) -> &'a Yaml {
    let mut found = manifests.iter().filter(|one| one["kind"].as_str() == Some(kind));
    found.next().unwrap_or_else(|| panic!("there is no {kind}"))
}

/// They can be served, from outside the container too.
fn check_settings(text: &str) {
    let config = Config::read(text, "tollgate.toml").unwrap();
    assert!(config.server.listen.starts_with("0.0.0.0:"));
    assert!(!config.limits.is_empty());
    Settings::compile(config).unwrap();
}

#[test]
fn the_manifests_run_one_gateway_as_nobody_on_a_volume() {
    let manifests = read("deploy/kubernetes/tollgate.yaml");
    check_settings(
        of_kind(&manifests, "ConfigMap")["data"]["tollgate.toml"]
            .as_str()
            .unwrap(),
    );
    let set = of_kind(&manifests, "StatefulSet");
    // The embedded store is one process.
    assert_eq!(set["spec"]["replicas"].as_i64(), Some(1));
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
    let gateway = &pod["containers"][0];
    let security = &gateway["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(security["capabilities"]["drop"][0].as_str(), Some("ALL"));
    for (probe, path) in [
        ("startupProbe", "/health/ready"),
        ("readinessProbe", "/health/ready"),
        ("livenessProbe", "/health/live"),
    ] {
        assert_eq!(gateway[probe]["httpGet"]["path"].as_str(), Some(path), "{probe}");
        assert_eq!(
            gateway[probe]["httpGet"]["port"].as_str(),
            Some("http"),
            "{probe}"
        );
    }
    assert!(!gateway["resources"]["limits"]["memory"].is_badvalue());
    let mounts = gateway["volumeMounts"].as_vec().unwrap();
    let data = mounts
        .iter()
        .find(|mount| mount["name"].as_str() == Some("data"))
        .unwrap();
    let environment = gateway["env"].as_vec().unwrap();
    let told = environment
        .iter()
        .find(|one| one["name"].as_str() == Some("TOLLGATE_DATA"))
        .unwrap();
    assert_eq!(data["mountPath"], told["value"]);
    // Kubernetes never changes what is mounted by subPath.
    assert!(mounts.iter().all(|mount| mount["subPath"].is_badvalue()));
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"].as_str(), Some("data"));
    // Settings and selectors meet.
    let service = of_kind(&manifests, "Service");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        gateway["ports"][0]["name"]
    );
}

#[test]
fn the_chart_starts_from_settings_that_can_be_served() {
    let (values, chart) = (
        read("deploy/helm/tollgate/values.yaml"),
        read("deploy/helm/tollgate/Chart.yaml"),
    );
    check_settings(values[0]["settings"].as_str().unwrap());
    assert_eq!(chart[0]["appVersion"].as_str(), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_unit_takes_no_privilege_and_may_map_code() {
    let unit = std::fs::read_to_string(root().join("deploy/systemd/tollgate.service")).unwrap();
    let has = |line: &str| unit.lines().any(|one| one == line);
    for line in [
        "Type=notify-reload",
        "DynamicUser=yes",
        "StateDirectory=tollgate",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
    ] {
        assert!(has(line), "{line}");
    }
    // WebAssembly is compiled to code that is mapped executable.
    assert!(
        !unit
            .lines()
            .any(|line| line.starts_with("MemoryDenyWriteExecute="))
    );
}

/// What schedulers are told to ask is a call of the table, within its bounds, and they wait for its answer.
fn check_tick(method: &str, url: &str, waits: u64) {
    let (_, target) = url.split_once("/api/").unwrap_or_else(|| panic!("{url}"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = format!("/api/{path}");
    let (call, _) = find_call(Component::Admin, method, &path).unwrap_or_else(|_| panic!("{method} {path}"));
    assert!(matches!(call, Call::Tick | Call::TickByGet), "{method} {path}");
    let settings = Settings::default();
    assert_eq!(
        settings.component(&path),
        Component::Admin,
        "Spin routes it there"
    );
    let budget = query.strip_prefix("budget=").unwrap_or_else(|| panic!("{query}"));
    let budget: u64 = budget.parse().unwrap();
    assert!((1..=MAX_BUDGET).contains(&budget));
    // Attempts that are under way when the budget is spent are waited for.
    assert!(waits >= 2 * budget, "it gives up after {waits} s");
}

/// The value that follows an option.
fn after<'a>(arguments: &[&'a str], option: &str) -> &'a str {
    let at = arguments.iter().position(|one| *one == option);
    let at = at.unwrap_or_else(|| panic!("{option} in {arguments:?}"));
    arguments[at + 1]
}

#[test]
fn the_timer_asks_for_a_tick_and_shows_no_key() {
    let read = |name: &str| std::fs::read_to_string(root().join("deploy/systemd").join(name)).unwrap();
    let (service, timer) = (read("tollgate-tick.service"), read("tollgate-tick.timer"));
    let value = |unit: &str, name: &str| {
        let found = unit
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let command = value(&service, "ExecStart");
    let arguments: Vec<&str> = command.split(' ').collect();
    assert_eq!(arguments[0], "/usr/bin/curl");
    let waits = after(&arguments, "--max-time").parse().unwrap();
    check_tick(
        after(&arguments, "--request"),
        arguments[arguments.len() - 1],
        waits,
    );
    // The key is in a file of root's, not in the list of processes.
    let credential = value(&service, "LoadCredential");
    let (name, file) = credential.split_once(':').unwrap();
    assert_eq!(
        after(&arguments, "--config"),
        format!("${{CREDENTIALS_DIRECTORY}}/{name}")
    );
    assert!(file.starts_with("/etc/tollgate/") && !command.contains("Bearer"));
    for line in ["Type=oneshot", "DynamicUser=yes", "NoNewPrivileges=yes"] {
        assert!(service.lines().any(|one| one == line), "{line}");
    }
    // A timer without `Unit=` starts the service of its name, and only when that has ended.
    assert_eq!(value(&timer, "OnUnitInactiveSec"), "40s");
    assert_eq!(value(&timer, "WantedBy"), "timers.target");
}

#[test]
fn the_spin_app_of_kubernetes_has_a_store_for_all_its_replicas() {
    let manifests = read("deploy/spinkube/tollgate.yaml");
    let (app, executor) = (
        of_kind(&manifests, "SpinApp"),
        of_kind(&manifests, "SpinAppExecutor"),
    );
    assert_eq!(app["spec"]["executor"], executor["metadata"]["name"]);
    let image = executor["spec"]["deploymentConfig"]["spinImage"]
        .as_str()
        .unwrap();
    assert!(
        image.starts_with("ghcr.io/spinframework/spin:v4.")
            && executor["spec"]["createDeployment"].as_bool() == Some(true)
    );
    // Spin is told to read one, whether there is one or not.
    let runtime = of_kind(&manifests, "Secret");
    assert_eq!(
        app["spec"]["runtimeConfig"]["loadFromSecret"],
        runtime["metadata"]["name"]
    );
    let settings = runtime["stringData"]["runtime-config.toml"].as_str().unwrap();
    assert!(settings.contains("\nblock_networks = [\"private\""));
    for (probe, path) in [("readiness", "/health/ready"), ("liveness", "/health/live")] {
        assert_eq!(
            app["spec"]["checks"][probe]["httpGet"]["path"].as_str(),
            Some(path),
            "{probe}"
        );
    }
    assert!(
        app["spec"]["replicas"].as_i64() > Some(1)
            && !app["spec"]["resources"]["limits"]["memory"].is_badvalue()
    );
    let manifest = std::fs::read_to_string(root().join("spin.toml")).unwrap();
    let given: Vec<&str> = app["spec"]["variables"]
        .as_vec()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    for name in &given {
        assert!(manifest.contains(&format!("\n{name} = {{ default")), "{name}");
    }
    for needed in [
        "tollgate_admin_key",
        "tollgate_postgres",
        "tollgate_postgres_host",
    ] {
        assert!(given.contains(&needed), "{needed}");
    }
}

#[test]
fn the_cron_job_asks_for_a_tick_one_at_a_time() {
    let manifests = read("deploy/kubernetes/tollgate-tick.yaml");
    let job = of_kind(&manifests, "CronJob");
    assert_eq!(job["spec"]["schedule"].as_str(), Some("* * * * *"));
    assert_eq!(job["spec"]["concurrencyPolicy"].as_str(), Some("Forbid"));
    let template = &job["spec"]["jobTemplate"]["spec"];
    let pod = &template["template"]["spec"];
    assert_eq!(pod["restartPolicy"].as_str(), Some("Never"));
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let tick = &pod["containers"][0];
    let arguments: Vec<&str> = tick["args"]
        .as_vec()
        .unwrap()
        .iter()
        .filter_map(Yaml::as_str)
        .collect();
    let waits: u64 = after(&arguments, "--max-time").parse().unwrap();
    check_tick(
        after(&arguments, "--request"),
        arguments[arguments.len() - 1],
        waits,
    );
    assert!(template["activeDeadlineSeconds"].as_i64() > i64::try_from(waits).ok());
    // The key comes from a secret that is mounted.
    let mount = &tick["volumeMounts"][0];
    let header = format!("@{}/header", mount["mountPath"].as_str().unwrap());
    assert_eq!(after(&arguments, "--header"), header);
    let volume = &pod["volumes"][0];
    assert_eq!(volume["name"], mount["name"]);
    assert!(volume["secret"]["secretName"].as_str().is_some());
}

#[test]
fn the_lines_for_cron_in_the_manifest_ask_for_a_tick() {
    let manifest = std::fs::read_to_string(root().join("spin.toml")).unwrap();
    let url = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.strip_prefix("GET "))
        .next()
        .expect("the lines for cron name it");
    let (url, _) = url.split_once("&secret=").expect("a bare GET needs the secret");
    check_tick("GET", url, 60);
}
