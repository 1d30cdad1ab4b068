//! What is in `deploy/` for Kubernetes holds what a gateway needs. (Whether it fits Kubernetes' schemas is looked at by
//! `.github/workflows/release.yml`.)

use crate::build::root;
use tollgate_rules::config::Config;
use tollgate_rules::settings::Settings;
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
