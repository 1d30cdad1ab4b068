//! Rules of `[server.tls] acme`.

use super::checks::{Checked, at_most, ensure, file};
use crate::config::{Acme, AcmeChallenge, MAX_DOMAINS, Path};

/// The longest name of a host (RFC 1035, section 2.3.4).
const MAX_DOMAIN: usize = 253;
/// The longest part of one between dots (as above).
const MAX_LABEL: usize = 63;
/// The longest address of e-mail (RFC 5321, section 4.5.3.1).
const MAX_CONTACT: usize = 254;
/// The longest identifier of an external account.
const MAX_ACCOUNT_ID: usize = 256;

/// `redirects`: whether `redirect_http` is set.
pub(super) fn check(acme: &Acme, redirects: bool, path: &Path) -> Checked {
    let domains = path.key("domains");
    ensure(
        !acme.domains.is_empty(),
        domains.clone(),
        "must name at least one host",
    )?;
    at_most(acme.domains.len(), MAX_DOMAINS, &domains)?;
    for (index, domain) in acme.domains.iter().enumerate() {
        ensure(
            is_host_name(domain),
            domains.index(index),
            "must be a whole name in lower case, e.g. go.example.com: no address, and no *, which these challenges cannot prove",
        )?;
        ensure(
            !acme.domains.iter().take(index).any(|other| other == domain),
            domains.index(index),
            "must not be named twice",
        )?;
    }
    if let Some(contact) = &acme.contact {
        let address = contact.strip_prefix("mailto:").unwrap_or(contact);
        let plain = |c: char| c.is_ascii_graphic() && !",?;<>\"".contains(c);
        let is_address = address.len() <= MAX_CONTACT
            && address.chars().all(plain)
            && address
                .split_once('@')
                .is_some_and(|(name, host)| !name.is_empty() && is_host_name(&host.to_ascii_lowercase()));
        ensure(
            is_address,
            path.key("contact"),
            "must be one address of e-mail, e.g. ops@example.com",
        )?;
    }
    let directory = url::Url::parse(&acme.directory);
    let is_sound = directory.is_ok_and(|url| {
        url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none()
    });
    ensure(
        is_sound,
        path.key("directory"),
        "must be the https:// URL of an ACME directory",
    )?;
    if let Some(directory_ca) = &acme.directory_ca {
        file(directory_ca, path.key("directory_ca"))?;
    }
    ensure(
        acme.challenge != AcmeChallenge::Http01 || redirects,
        path.key("challenge"),
        "http-01 needs redirect_http, which answers it and has to be reached at port 80",
    )?;
    if let Some(account) = &acme.external_account {
        let path = path.key("external_account");
        ensure(
            (1..=MAX_ACCOUNT_ID).contains(&account.id.len()),
            path.key("id"),
            "must be the identifier that the authority gave",
        )?;
        ensure(
            account.key().is_some(),
            path.key("key"),
            "must be the key that the authority gave, in base64url",
        )?;
    }
    Ok(())
}

/// A name of a host in lower case, of two labels at least: one that an authority may be asked for.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let last = name.rsplit('.').next().unwrap_or("");
    name.len() <= MAX_DOMAIN
        && name.contains('.')
        && name.split('.').all(label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn fault(tls: &str, acme: &str) -> String {
        let text = format!(
            "[server]\npublic_url = \"https://go.example\"\n[server.tls]\n{tls}\nacme = {{ {acme} }}\n"
        );
        Settings::parse(&text, "t").map_or_else(|error| error.to_string(), |_| "sound".into())
    }

    #[test]
    fn sound_orders_are_taken() {
        for (tls, acme) in [
            ("", "domains = [\"go.example\"]"),
            (
                "cert = \"a\"\nkey = \"b\"",
                "domains = [\"go.example\", \"xn--bcher-kva.example\"], contact = \"Ops@example.com\"",
            ),
            (
                "redirect_http = \"0.0.0.0:80\"",
                "domains = [\"go.example\"], challenge = \"http-01\", directory = \"https://ca.internal:9000/acme/directory\", \
                 directory_ca = \"ca.pem\", external_account = { id = \"kid-1\", key = \"zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4\" }",
            ),
        ] {
            assert_eq!(fault(tls, acme), "sound", "{tls} {acme}");
        }
    }

    #[test]
    fn each_fault_names_its_setting() {
        for (tls, acme, key) in [
            ("", "domains = []", "acme.domains"),
            ("", "domains = [\"*.example.com\"]", "acme.domains[0]"),
            ("", "domains = [\"a.example\", \"192.0.2.1\"]", "acme.domains[1]"),
            ("", "domains = [\"a.example\", \"a.example\"]", "acme.domains[1]"),
            ("", "domains = [\"localhost\"]", "acme.domains[0]"),
            ("", "domains = [\"Go.example\"]", "acme.domains[0]"),
            ("", "domains = [\"https://go.example\"]", "acme.domains[0]"),
            ("", "domains = [\"-a.example\"]", "acme.domains[0]"),
            ("", "domains = [\"a.example\"], contact = \"ops\"", "acme.contact"),
            (
                "",
                "domains = [\"a.example\"], contact = \"a@b.example,c@d.example\"",
                "acme.contact",
            ),
            (
                "",
                "domains = [\"a.example\"], directory = \"http://a.example/\"",
                "acme.directory",
            ),
            (
                "",
                "domains = [\"a.example\"], directory_ca = \"\"",
                "acme.directory_ca",
            ),
            (
                "",
                "domains = [\"a.example\"], challenge = \"http-01\"",
                "acme.challenge",
            ),
            (
                "",
                "domains = [\"a.example\"], challenge = \"dns-01\"",
                "acme.challenge",
            ),
            (
                "",
                "domains = [\"a.example\"], external_account = { id = \"x\", key = \"§\" }",
                "acme.external_account.key",
            ),
            ("cert = \"a\"", "domains = [\"a.example\"]", "server.tls.key"),
        ] {
            let told = fault(tls, acme);
            assert!(told.contains(key), "{key}: {told}\n{acme}");
        }
    }

    #[test]
    fn its_key_is_not_shown_and_rules_need_it_not() {
        let text = "[server]\npublic_url = \"https://go.example\"\n[server.tls]\nacme = { domains = [\"go.example\"], \
                    external_account = { id = \"kid\", key = \"c2VjcmV0c2VjcmV0\" } }\n";
        let settings = Settings::parse(text, "t").unwrap();
        assert!(!settings.config.to_toml().contains("c2VjcmV0"));
        let bare = settings.config.without_secrets().to_toml();
        assert!(!bare.contains("kid") && bare.contains("go.example"), "{bare}");
        Settings::parse(&bare, "t").unwrap();
    }
}
