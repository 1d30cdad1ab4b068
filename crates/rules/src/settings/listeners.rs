//! Rules of the listeners beside `server.listen`, and of TLS. Whether files hold what they should is for the host to say.

use super::acme;
use super::checks::{Checked, at_most, ensure, file, within};
use crate::config::{CertificateFiles, Fault, MAX_CERTIFICATES, Path, Server};
use crate::own_address::Listen;
use tollgate_api::units::Span;
use url::Url;

/// The longest is the time that a first request has on any connection.
const HANDSHAKE_BOUNDS: (Span, Span) = (Span::from_millis(100), Span::from_secs(15));
const HSTS_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(2 * 366 * 86_400));

/// Where the gateway listens besides `server.listen`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// `server.admin_listen`: the operators' own.
    pub admin: Option<Listen>,
    /// `server.tls.redirect_http`.
    pub redirect: Option<Listen>,
    /// `server.rls_listen`.
    pub rls: Option<Listen>,
}

/// `public`: `server.public_url`; `listen`: `server.listen`.
pub(super) fn compile(
    server: &Server,
    public: &Url,
    listen: &Listen,
    path: &Path,
) -> Result<Listeners, Fault> {
    let admin = another(
        server.admin_listen.as_deref(),
        &[listen],
        &path.key("admin_listen"),
    )?;
    let mut redirect = None;
    if let Some(tls) = &server.tls {
        let path = path.key("tls");
        match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => files(cert, key, &path)?,
            (None, None) => ensure(
                tls.acme.is_some(),
                path.key("cert"),
                "is needed, with key, unless acme is set",
            )?,
            (Some(_), None) => ensure(false, path.key("key"), "is needed with cert")?,
            (None, Some(_)) => ensure(false, path.key("cert"), "is needed with key")?,
        }
        within(
            tls.handshake_timeout,
            HANDSHAKE_BOUNDS,
            path.key("handshake_timeout"),
        )?;
        if let Some(hsts) = tls.hsts {
            within(hsts, HSTS_BOUNDS, path.key("hsts"))?;
        }
        let taken: Vec<&Listen> = [Some(listen), admin.as_ref()].into_iter().flatten().collect();
        redirect = another(tls.redirect_http.as_deref(), &taken, &path.key("redirect_http"))?;
        if let Some(acme) = &tls.acme {
            acme::check(acme, redirect.is_some(), &path.key("acme"))?;
        }
        let more = path.key("more");
        // With the first one.
        at_most(tls.more.len(), MAX_CERTIFICATES - 1, &more)?;
        for (index, CertificateFiles { cert, key }) in tls.more.iter().enumerate() {
            files(cert, key, &more.index(index))?;
        }
    }
    ensure(
        server.tls.is_none() || public.scheme() == "https",
        path.key("public_url"),
        "must begin with https://, since [server.tls] is set: short URLs begin with it",
    )?;
    if let Some(tls) = &server.admin_tls {
        let path = path.key("admin_tls");
        files(&tls.cert, &tls.key, &path)?;
        if let Some(client_ca) = &tls.client_ca {
            file(client_ca, path.key("client_ca"))?;
        }
        ensure(admin.is_some(), path, "needs server.admin_listen")?;
    }
    ensure(
        !server.proxy_protocol || !server.trusted_proxies.is_empty(),
        path.key("proxy_protocol"),
        "needs server.trusted_proxies: from others the header is refused",
    )?;
    let taken: Vec<&Listen> = [Some(listen), admin.as_ref(), redirect.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let rls = another(server.rls_listen.as_deref(), &taken, &path.key("rls_listen"))?;
    Ok(Listeners { admin, redirect, rls })
}

fn another(text: Option<&str>, taken: &[&Listen], path: &Path) -> Result<Option<Listen>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let listen = text.parse::<Listen>();
    let listen = listen.map_err(|error| Fault::new(path.clone(), error.to_string()))?;
    // Port 0 is another one each time.
    let is_taken = listen.port() != 0 && taken.contains(&&listen);
    ensure(
        !is_taken,
        path.clone(),
        "must differ from the other addresses to listen on",
    )?;
    Ok(Some(listen))
}

fn files(cert: &str, key: &str, path: &Path) -> Checked {
    file(cert, path.key("cert"))?;
    file(key, path.key("key"))
}

#[cfg(test)]
mod tests {
    use crate::own_address::Listen;
    use crate::settings::Settings;

    const TLS: &str =
        "[server]\npublic_url = \"https://go.example\"\n[server.tls]\ncert = \"a.pem\"\nkey = \"b.pem\"\n";

    fn fault(text: &str) -> String {
        Settings::parse(text, "t").map_or_else(|error| error.to_string(), |_| "sound".into())
    }

    #[test]
    fn sound_listeners_are_compiled() {
        let text = TLS.replace("[server]\n", "[server]\nadmin_listen = \"127.0.0.1:9000\"\n")
            + "redirect_http = \"0.0.0.0:80\"\nhsts = \"365d\"\n[[server.tls.more]]\ncert = \"c\"\nkey = \"d\"\n";
        let settings = Settings::parse(&text, "t").unwrap();
        let listen = |text: &str| Some(text.parse::<Listen>().unwrap());
        assert_eq!(settings.listeners.admin, listen("127.0.0.1:9000"));
        assert_eq!(settings.listeners.redirect, listen("0.0.0.0:80"));
        let shown = settings.config.to_toml();
        assert_eq!(
            Settings::parse(&shown, "t").unwrap().config,
            settings.config,
            "{shown}"
        );
        for own in [
            "http://127.0.0.1:9000/",
            "http://127.0.0.1/",
            "https://go.example/x",
        ] {
            assert!(settings.own.lead_back(&own.parse().unwrap()), "{own}");
        }
        assert!(!settings.own.lead_back(&"http://127.0.0.1:9001/".parse().unwrap()));
    }

    #[test]
    fn each_fault_names_its_setting() {
        let admin =
            "[server]\nadmin_listen = \"127.0.0.1:9000\"\n[server.admin_tls]\ncert = \"\"\nkey = \"k\"\n";
        for (text, key) in [
            (TLS.replace("https", "http"), "server.public_url"),
            (TLS.replace("a.pem", ""), "server.tls.cert"),
            (TLS.replace("b.pem", "b/"), "server.tls.key"),
            (
                format!("{TLS}handshake_timeout = \"16s\"\n"),
                "server.tls.handshake_timeout",
            ),
            (
                format!("{TLS}handshake_timeout = \"10ms\"\n"),
                "server.tls.handshake_timeout",
            ),
            (format!("{TLS}hsts = \"1000d\"\n"), "server.tls.hsts"),
            (
                format!("{TLS}redirect_http = \"127.0.0.1:3000\"\n"),
                "server.tls.redirect_http",
            ),
            (
                format!("{TLS}redirect_http = \"80\"\n"),
                "server.tls.redirect_http",
            ),
            (
                format!("{TLS}[[server.tls.more]]\ncert = \"c\"\nkey = \"\"\n"),
                "server.tls.more[0].key",
            ),
            (admin.to_owned(), "server.admin_tls.cert"),
            (
                admin
                    .replace("admin_listen = \"127.0.0.1:9000\"\n", "")
                    .replace("\"\"", "\"c\""),
                "server.admin_tls",
            ),
            (
                "[server]\nadmin_listen = \"127.0.0.1:3000\"\n".into(),
                "server.admin_listen",
            ),
            (
                "[server]\nproxy_protocol = true\n".into(),
                "server.proxy_protocol",
            ),
        ] {
            let told = fault(&text);
            assert!(told.contains(key), "{key}: {told}\n{text}");
        }
    }
}
