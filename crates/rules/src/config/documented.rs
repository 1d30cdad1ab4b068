//! `docs/settings.md` has every setting that is read, with its default, and no other.

use std::collections::BTreeMap;

use super::Config;

const DOCUMENT: &str = include_str!("../../../../docs/settings.md");
/// No setting; the refusal of it names those that there are.
const UNKNOWN: &str = "no-such-setting";

/// The tables of the document: the head of each, where it is in a file (`@` stands for a setting of it), and where its
/// defaults are, if the file may leave all of them out.
const TABLES: &[(&str, &str)] = &[
    ("[server]", "[server]\n@"),
    ("[server.tls]", "[server.tls]\n@"),
    ("acme = { … }", "[server.tls]\nacme = { @ }"),
    ("[[server.tls.more]]", "[[server.tls.more]]\n@"),
    ("[server.admin_tls]", "[server.admin_tls]\n@"),
    ("[clients]", "[clients]\n@"),
    ("[users]", "[users]\n@"),
    ("[users.jwt]", "[users.jwt]\n@"),
    ("[receipts]", "[receipts]\n@"),
    ("[store]", "[store]\n@"),
    ("[limits_store]", "[limits_store]\n@"),
    ("[links]", "[links]\n@"),
    ("[[domains]]", "[[domains]]\n@"),
    ("[relay]", "[relay]\n@"),
    ("[metrics]", "[metrics]\n@"),
    ("[access_log]", "[access_log]\n@"),
    ("[log]", "[log]\n@"),
    ("[reload]", "[reload]\n@"),
    ("[events]", "[events]\n@"),
    ("[traces]", "[traces]\n@"),
    ("[[limits]]", "[[limits]]\n@"),
    ("[[quotas]]", "[[quotas]]\n@"),
    ("[[concurrency]]", "[[concurrency]]\n@"),
    ("[[access]]", "[[access]]\n@"),
    ("[[rooms]]", "[[rooms]]\n@"),
    ("[[challenges]]", "[[challenges]]\n@"),
    ("[[forward]]", "[[forward]]\n@"),
    ("[topics.<name>]", "[topics.t]\n@"),
    ("[[topics.<name>.subscriptions]]", "[[topics.t.subscriptions]]\n@"),
    ("retry = { … }", "[[topics.t.subscriptions]]\nretry = { @ }"),
    ("[[components]]", "[[components]]\n@"),
    ("[[origins]]", "[[origins]]\n@"),
    ("breaker = { … }", "[[origins]]\nbreaker = { @ }"),
    ("health = { … }", "[[origins]]\nhealth = { @ }"),
    ("[[proxy]]", "[[proxy]]\n@"),
    ("[[alerts]]", "[[alerts]]\n@"),
];

/// What a table holds besides what it needs, so that its defaults show.
const NEEDED: &[(&str, &str)] = &[
    ("[server.tls]", "cert = \"a\"\nkey = \"b\"\n"),
    ("acme = { … }", "domains = [\"a\"]"),
    ("[users.jwt]", "issuer = \"i\"\naudience = \"a\"\n"),
    ("[[limits]]", "name = \"n\"\ncapacity = 1\nrefill = 1\n"),
    ("[[quotas]]", "name = \"n\"\nlimit = 1\nwindow = \"day\"\n"),
    ("[[concurrency]]", "name = \"n\"\nmax = 1\n"),
    ("[[access]]", "name = \"n\"\naction = \"deny\"\n"),
    ("[[rooms]]", "name = \"n\"\npath = \"/p\"\nadmit_per_second = 1\n"),
    (
        "[[challenges]]",
        "name = \"n\"\npath = \"/p\"\nkind = \"altcha\"\n",
    ),
    ("[[domains]]", "host = \"h\"\n"),
    ("[[forward]]", "path = \"/p\"\ntopic = \"t\"\n"),
    ("[[topics.<name>.subscriptions]]", "name = \"n\"\nurl = \"u\"\n"),
    ("[[components]]", "name = \"n\"\npath = \"/p\"\nsource = \"s\"\n"),
    ("[[origins]]", "name = \"n\"\nurls = [\"u\"]\n"),
    ("[[proxy]]", "path = \"/p\"\norigin = \"o\"\n"),
    ("[[alerts]]", "name = \"n\"\nwhen = \"w\"\nurl = \"u\"\n"),
];

/// The rows of each table of the document: setting and default.
fn documented() -> BTreeMap<&'static str, Vec<(&'static str, &'static str)>> {
    let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut table = "";
    for line in DOCUMENT.lines() {
        if let Some(head) = line.strip_prefix("## ") {
            table = head.trim_matches('`');
            tables.insert(table, Vec::new());
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split(" | ");
            let name = cells.next().expect("a row has cells").trim_end_matches('`');
            let default = cells.next().expect("a row has a default");
            tables.entry(table).or_default().push((name, default));
        }
    }
    tables
}

/// The settings that this place of a file takes, by the refusal of one that it does not.
fn known(place: &str) -> Vec<String> {
    let text = place.replace('@', &format!("{UNKNOWN} = 1"));
    let error = Config::read(&text, "t").expect_err("there is no such setting");
    let message = error.message;
    let (unknown, expected) = message.split_once(", expected ").unwrap_or((&*message, ""));
    assert!(unknown.contains(UNKNOWN), "{place}: {message}");
    let names = expected.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn the_document_has_every_setting_and_no_other() {
    let documented = documented();
    let heads: Vec<_> = TABLES.iter().map(|(head, _)| *head).collect();
    let mut tables: Vec<_> = documented.keys().copied().collect();
    tables.sort_by_key(|table| heads.iter().position(|head| head == table));
    assert_eq!(tables, heads, "the heads of docs/settings.md");
    for (head, place) in TABLES {
        let rows: Vec<_> = documented[head]
            .iter()
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(
            rows,
            known(place),
            "docs/settings.md, {head}: its rows, in the order of the program"
        );
    }
    // Every table of a file has a head here.
    for name in known("@") {
        let is_there = |head: &&str| head.trim_matches(['[', ']']).split('.').next() == Some(&name);
        assert!(
            heads.iter().any(is_there),
            "docs/settings.md has nothing of [{name}]"
        );
    }
}

#[test]
fn the_defaults_of_the_document_are_those_in_force() {
    let mut compared = 0;
    for (head, place) in TABLES {
        let needed = NEEDED
            .iter()
            .find(|(table, _)| table == head)
            .map_or("", |(_, text)| text);
        let text = match *head {
            "retry = { … }" => {
                "[[topics.t.subscriptions]]\nname = \"n\"\nurl = \"u\"\nretry = {}".to_owned()
            }
            "breaker = { … }" => "[[origins]]\nname = \"n\"\nurls = []".to_owned(),
            "health = { … }" => {
                "[[origins]]\nname = \"n\"\nurls = []\nhealth = { path = \"/\" }".to_owned()
            }
            "[server.admin_tls]" | "[[server.tls.more]]" => continue, // all of them are needed, or have no default
            _ => place.replace('@', needed),
        };
        let config = Config::read(&text, "t").unwrap_or_else(|error| panic!("{head}: {error}"));
        let shown: toml::Table = toml::from_str(&config.to_toml()).expect("it is TOML");
        let path = head.trim_matches(['[', ']']).replace("<name>", "t");
        let path = path.replace("acme = { … }", "server.tls.acme");
        let path = path.replace("breaker = { … }", "origins.breaker");
        let path = path.replace("health = { … }", "origins.health");
        let path = path.replace("retry = { … }", "topics.t.subscriptions.retry");
        let table = path
            .split('.')
            .try_fold(toml::Value::Table(shown), |value, step| {
                let inner = value.get(step)?.clone();
                match inner {
                    toml::Value::Array(items) => items.first().cloned(),
                    other => Some(other),
                }
            });
        let table = table.unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
        for (name, default) in &documented()[head] {
            let Some(told) = default.strip_prefix('`').and_then(|text| text.strip_suffix('`')) else {
                continue;
            };
            let told: toml::Table = toml::from_str(&format!("v = {told}"))
                .unwrap_or_else(|error| panic!("{head} {name}: {error}"));
            let empty = [toml::Value::Array(Vec::new()), toml::Value::Boolean(false)];
            match table.get(name) {
                Some(value) => assert_eq!(value, &told["v"], "docs/settings.md, {head} {name}"),
                None => assert!(
                    empty.contains(&told["v"]),
                    "docs/settings.md, {head} {name} has no such default"
                ),
            }
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared}");
}
