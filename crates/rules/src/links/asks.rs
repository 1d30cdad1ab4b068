//! What a request tells of the person behind it, as far as rules of links ask for it: device, system, language, country. Short lists
//! of words; what is told is believed, since a false word gains nothing.

use std::cell::OnceCell;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::agent::{self, Agent};
use crate::settings::Settings;
use tollgate_api::accept;
use tollgate_api::http::{COUNTRY, Request};

/// How much of an `Accept-Language` is looked at, in bytes.
const MAX_LOOKED_AT: usize = 512;

/// What somebody holds in hands, or sits at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Device"))]
#[serde(rename_all = "lowercase")]
pub(super) enum Device {
    /// A telephone.
    Mobile,
    /// A tablet. An iPad calls itself a Macintosh unless it is told not to, and counts as a desktop then.
    Tablet,
    /// Anything else that calls itself a browser.
    Desktop,
}

/// The system of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "OperatingSystem")
)]
#[serde(rename_all = "lowercase")]
pub(super) enum Os {
    /// Also other systems made of it.
    Android,
    /// Of iPhones, and of iPads that do not call themselves a Macintosh.
    Ios,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
    /// `ChromeOS`.
    Chromeos,
    /// Any Linux but those above.
    Linux,
}

/// The visitor that several rules look at: what a header tells is read when the first of them asks for it.
pub(super) struct Asked<'a> {
    settings: &'a Settings,
    request: &'a Request,
    agent: OnceCell<Agent>,
    language: OnceCell<Option<&'a str>>,
    country: OnceCell<Option<String>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(settings: &'a Settings, request: &'a Request) -> Self {
        Self {
            settings,
            request,
            agent: OnceCell::new(),
            language: OnceCell::new(),
            country: OnceCell::new(),
        }
    }

    fn agent(&self) -> Agent {
        *self.agent.get_or_init(|| agent::of(self.request))
    }

    /// The device, if the request names a browser.
    pub(super) fn device(&self) -> Option<Device> {
        match self.agent().device {
            Some("mobile") => Some(Device::Mobile),
            Some("tablet") => Some(Device::Tablet),
            Some(_) => Some(Device::Desktop),
            None => {
                let sent = self.request.header("user-agent")?;
                (sent.starts_with("Mozilla/") || sent.starts_with("Opera/")).then_some(Device::Desktop)
            }
        }
    }

    /// The system that the request names.
    pub(super) fn os(&self) -> Option<Os> {
        match self.agent().os? {
            "android" => Some(Os::Android),
            "ios" => Some(Os::Ios),
            "macos" => Some(Os::Macos),
            "windows" => Some(Os::Windows),
            "chromeos" => Some(Os::Chromeos),
            "linux" => Some(Os::Linux),
            _ => None,
        }
    }

    /// See [`language`].
    pub(super) fn language(&self) -> Option<&'a str> {
        *self.language.get_or_init(|| language(self.request))
    }

    /// See [`country`].
    pub(super) fn country(&self) -> Option<&str> {
        let found = || country(self.settings, self.request);
        self.country.get_or_init(found).as_deref()
    }
}

/// The language that is asked for first (RFC 9110, section 12.5.4), as it is written: `de-AT`.
pub(super) fn language(request: &Request) -> Option<&str> {
    let asked = request.header("accept-language")?;
    let end = asked.floor_char_boundary(MAX_LOOKED_AT);
    let is_tag = |tag: &str| tag.starts_with(|c: char| c.is_ascii_alphabetic());
    accept::best(&asked[..end], |tag| is_tag(tag).then_some(tag))
}

/// The country (ISO 3166-1 alpha-2, upper case): what a trusted proxy tells in the header of the settings, else what the adapter has
/// found in the operator's file.
pub(super) fn country(settings: &Settings, request: &Request) -> Option<String> {
    told(settings, request).or_else(|| request.header(COUNTRY).map(str::to_owned))
}

fn told(settings: &Settings, request: &Request) -> Option<String> {
    let name = settings.config.clients.country_header.as_deref()?;
    let peer: IpAddr = request.peer.parse().ok()?;
    if !settings.proxies.trust(peer) {
        return None;
    }
    let told = request.single(name).ok()??;
    let told = str::from_utf8(told).ok()?.to_ascii_uppercase();
    is_country(&told).then_some(told)
}

/// Whether this is written as a country.
pub(super) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;
    use serde_json::Value;

    fn with(name: &str, value: &str) -> Request {
        request("GET", "/abc", &[(name, value)], &Value::Null)
    }

    #[test]
    fn agents_tell_their_device_and_system() {
        let settings = Settings::parse("", "t").unwrap();
        for (agent, expected_device, expected_os) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
                Some(Device::Mobile),
                Some(Os::Ios),
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
                Some(Device::Tablet),
                Some(Os::Ios),
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
                Some(Device::Mobile),
                Some(Os::Android),
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                Some(Device::Tablet),
                Some(Os::Android),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
                Some(Device::Desktop),
                Some(Os::Macos),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                Some(Device::Desktop),
                Some(Os::Windows),
            ),
            (
                "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                Some(Device::Desktop),
                Some(Os::Chromeos),
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                Some(Device::Desktop),
                Some(Os::Linux),
            ),
            (
                "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0",
                Some(Device::Mobile),
                Some(Os::Android),
            ),
            ("curl/8.14.1", None, None),
            ("", None, None),
        ] {
            let request = with("user-agent", agent);
            let asked = Asked::new(&settings, &request);
            assert_eq!(
                (asked.device(), asked.os()),
                (expected_device, expected_os),
                "{agent}"
            );
        }
        assert_eq!(Asked::new(&settings, &with("accept", "*/*")).device(), None);
    }

    #[test]
    fn the_language_that_is_asked_for_first_counts() {
        for (asked, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some("de-AT")),
            ("en;q=0.5, ko;q=0.9", Some("ko")),
            ("*", None),
            ("*, fr;q=0.1", Some("fr")),
            ("de;q=0", None),
            ("en;q=9.9, de;q=0.3", Some("de")),
            ("en;q=0.1234, de;q=x, fr ; q=0.2", Some("fr")),
            ("", None),
            (";;,,q=1", Some("q=1")),
        ] {
            let request = with("accept-language", asked);
            assert_eq!(language(&request), expected, "{asked}");
        }
        let long = format!("{}de", "x".repeat(510));
        let request = with("accept-language", &long);
        assert_eq!(language(&request).unwrap().len(), 512);
    }

    #[test]
    fn a_country_is_believed_from_trusted_proxies_alone() {
        let text =
            "[server]\ntrusted_proxies = [\"192.0.2.0/24\"]\n[clients]\ncountry_header = \"cf-ipcountry\"\n";
        let trusting = Settings::parse(text, "t").unwrap();
        let alone = Settings::parse("[clients]\ncountry_header = \"cf-ipcountry\"\n", "t").unwrap();
        let told =
            |settings: &Settings, country: &str| self::country(settings, &with("cf-ipcountry", country));
        assert_eq!(told(&trusting, "kr").as_deref(), Some("KR"));
        for bad in ["", "KOR", "K", "T1", "\u{e9}\u{e9}"] {
            assert_eq!(told(&trusting, bad), None, "{bad}");
        }
        assert_eq!(told(&alone, "KR"), None);
        assert_eq!(told(&Settings::default(), "KR"), None);
    }
}
