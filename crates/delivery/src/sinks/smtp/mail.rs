//! Mails, made by templates over messages. What a message says is text of a mail, never more: a header is one line, and a recipient one
//! address.

use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tollgate_store::commit::Message;
use url::{Host, Url};

use crate::subscription::templates::{MAX_SUBJECT, Templates};
use crate::subscription::{Payload, Subscription};
use crate::webhook::reference;

/// What is said of a recipient that is none, or several.
const NO_RECIPIENT: &str = "to: the template made no address of one recipient";

/// Makes the mails of one subscription.
pub(super) struct Mails {
    templates: Templates,
    from: Mailbox,
    payload: Payload,
    source: String,
}

/// A mail on its way.
pub(super) struct Mail {
    pub envelope: Envelope,
    pub bytes: Vec<u8>,
}

impl Mails {
    pub fn of_settings(settings: &Subscription, source: String) -> Result<Self, String> {
        let from = settings.from.as_deref().unwrap_or_default();
        Ok(Self {
            templates: Templates::of(settings).map_err(|(setting, fault)| format!("{setting}: {fault}"))?,
            from: from.parse().map_err(|_| "from: is not the address of a sender")?,
            payload: settings.payload,
            source,
        })
    }

    /// The host that mails come from: that of the gateway's public URL.
    pub fn host(&self) -> ClientId {
        let url = Url::parse(&self.source).ok();
        match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => ClientId::Domain(name.to_owned()),
            Some(Host::Ipv4(address)) => ClientId::Ipv4(address),
            Some(Host::Ipv6(address)) => ClientId::Ipv6(address),
            None => ClientId::Domain("localhost".to_owned()),
        }
    }

    /// # Errors
    /// Which template fails, or makes no mail of this message. Another attempt would end the same way.
    pub fn of(&self, message: &Message) -> Result<Mail, String> {
        let told;
        let message = match self.payload {
            Payload::Full => message,
            Payload::Reference => {
                told = reference(message, &self.source);
                &told
            }
        };
        let made = self.templates.fill(message)?;
        let to = made.to.trim();
        let to: Mailbox = match to.contains(char::is_control) {
            true => Err(NO_RECIPIENT),
            false => to.parse().map_err(|_| NO_RECIPIENT),
        }?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]);
        // The same for each attempt: who gets one twice can tell.
        let id = utf8_percent_encode(&message.id, NON_ALPHANUMERIC);
        let host = self.host().to_string();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(one_line(&made.subject))
            .message_id(Some(format!("<{id}@{host}>")))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(message.time))
            // RFC 3834: no automatic answers to it.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        let text = ends(&made.text);
        let mail = match made.html {
            Some(html) => mail.multipart(MultiPart::alternative_plain_html(text, ends(&html))),
            None => mail.singlepart(SinglePart::plain(text)),
        };
        let mail = mail.map_err(|error| error.to_string())?;
        Ok(Mail {
            envelope: envelope.map_err(|error| error.to_string())?,
            bytes: mail.formatted(),
        })
    }
}

/// No line ends, no controls, and no longer than a header should be.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_SUBJECT).collect::<String>().trim().to_owned()
}

/// A text whose lines end in one way. To some servers a `\r` alone ends one, and so a dot behind it the mail: what follows would be commands.
fn ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_mail_ends_but_with_both() {
        let mut settings = Subscription::new("s", "smtp://mail.example");
        settings.from = Some("a@example.com".to_owned());
        settings.to = Some("b@example.com".to_owned());
        settings.subject = Some("s".to_owned());
        settings.text = Some("{{ data }}".to_owned());
        settings.html = Some("{{ data }}".to_owned());
        let mails = Mails::of_settings(&settings, "https://go.example".to_owned()).unwrap();
        let message = Message {
            id: "m1".into(),
            topic: "t".into(),
            content_type: "text/plain".into(),
            payload: b"a\r.\r\nMAIL FROM:<x@y.z>\n.\r.\nb\r\r.\r\n".to_vec(),
            ..Message::default()
        };
        let mail = mails.of(&message).unwrap();
        let text = String::from_utf8(mail.bytes).unwrap();
        assert!(text.contains("a\r\n.\r\nMAIL FROM"), "{text:?}");
        let rest = text.replace("\r\n", "");
        assert!(!rest.contains('\r') && !rest.contains('\n'), "{text:?}");
    }
}
