//! The templates of mails, over messages: Jinja's syntax, without includes, macros or any access to the world.

use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use tollgate_store::commit::Message;

use super::Subscription;
use crate::view::MessageView;

/// The longest template, bytes.
pub const MAX_TEMPLATE: usize = 64 << 10;
/// The longest text that one makes, bytes.
pub const MAX_MADE: usize = 256 << 10;
/// The longest subject, characters.
pub const MAX_SUBJECT: usize = 200;
/// Instructions of one template: more than any mail needs, and few enough to be over at once.
const FUEL: u64 = 100_000;
/// How deep expressions may nest.
const MAX_DEPTH: usize = 64;

/// The names of the settings that are templates.
const TO: &str = "to";
const SUBJECT: &str = "subject";
const TEXT: &str = "text";
const HTML: &str = "html";

/// The templates of one subscription.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    has_html: bool,
}

/// What they make of a message.
#[derive(Debug)]
pub struct Made {
    /// Whom it is for: one address, if the template is a good one.
    pub to: String,
    /// May hold anything, also line ends.
    pub subject: String,
    /// Plain.
    pub text: String,
    /// What comes of the message is escaped in it.
    pub html: Option<String>,
}

impl Templates {
    /// # Errors
    /// The setting, and what is wrong with it.
    pub fn of(settings: &Subscription) -> Result<Self, (&'static str, String)> {
        let mut environment = Environment::new();
        // A field that is not there is a fault, not a gap in a mail.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| match name {
            HTML => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_DEPTH);
        let all = [
            (TO, &settings.to),
            (SUBJECT, &settings.subject),
            (TEXT, &settings.text),
            (HTML, &settings.html),
        ];
        for (name, source) in all {
            let Some(source) = source else { continue };
            let added = environment.add_template_owned(name, source.clone());
            added.map_err(|error| (name, told(&error)))?;
        }
        Ok(Self {
            environment,
            has_html: settings.html.is_some(),
        })
    }

    /// # Errors
    /// Which template fails for this message, and why.
    pub fn fill(&self, message: &Message) -> Result<Made, String> {
        // As `GET …/messages` shows it.
        let view = serde_json::to_string(&MessageView::new(message));
        let view = view.map_err(|error| error.to_string())?;
        let view: serde_json::Value = serde_json::from_str(&view).map_err(|error| error.to_string())?;
        Ok(Made {
            to: self.made(TO, &view)?,
            subject: self.made(SUBJECT, &view)?,
            text: self.made(TEXT, &view)?,
            html: self.has_html.then(|| self.made(HTML, &view)).transpose()?,
        })
    }

    fn made(&self, name: &str, view: &serde_json::Value) -> Result<String, String> {
        let template = self.environment.get_template(name);
        let mut made = Bounded(Vec::new());
        let filled = template.and_then(|template| template.render_captured_to(view, &mut made).map(drop));
        filled.map_err(|error| format!("{name}: {}", told(&error)))?;
        String::from_utf8(made.0).map_err(|error| error.to_string())
    }
}

/// What is wrong, and on which line; without the template or the message.
fn told(error: &Error) -> String {
    let detail = error
        .detail()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    match error.line() {
        Some(line) => format!("{}{detail} (line {line})", error.kind()),
        None => format!("{}{detail}", error.kind()),
    }
}

/// Takes so many bytes and no more.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_MADE {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(text: &str, html: Option<&str>) -> Result<Templates, (&'static str, String)> {
        let mut settings = Subscription::new("s", "smtp://mail.example");
        settings.to = Some("{{ data.email }}".to_owned());
        settings.subject = Some("Welcome {{ data.name | default('you') }}".to_owned());
        settings.text = Some(text.to_owned());
        settings.html = html.map(str::to_owned);
        Templates::of(&settings)
    }

    fn message(data: &str) -> Message {
        Message {
            id: "m1".into(),
            topic: "t".into(),
            sequence: 7,
            key: "k".into(),
            kind: "x.y".into(),
            content_type: "application/json".into(),
            payload: data.as_bytes().to_vec(),
            ..Message::default()
        }
    }

    #[test]
    fn a_mail_is_made_of_what_the_message_has() {
        let text = "{{ id }} {{ topic }} {{ sequence }} {{ key }} {{ type }}{% for n in data.n %} {{ n }}{% endfor %}";
        let all = templates(text, Some("<b>{{ data.name }}</b>")).unwrap();
        let made = all
            .fill(&message(r#"{"email":"a@b.c","name":"<i>&","n":[1,2]}"#))
            .unwrap();
        assert_eq!(made.to, "a@b.c");
        assert_eq!(made.subject, "Welcome <i>&");
        assert_eq!(made.text, "m1 t 7 k x.y 1 2");
        let html = made.html.unwrap();
        assert!(html.starts_with("<b>&lt;i&gt;&amp;"), "{html}");
        let made = templates("x", None)
            .unwrap()
            .fill(&message(r#"{"email":"a@b.c"}"#))
            .unwrap();
        assert_eq!((made.subject.as_str(), made.html), ("Welcome you", None));
    }

    #[test]
    fn what_is_missing_or_without_end_is_a_fault_that_names_its_template() {
        let fault = |text: &str, data: &str| templates(text, None).unwrap().fill(&message(data)).unwrap_err();
        assert!(fault("x", "{}").starts_with("to: "));
        assert!(fault("x", "no json").starts_with("to: "));
        let good = r#"{"email":"a@b.c"}"#;
        assert!(fault("{{ data.x }}", good).starts_with("text: undefined value"));
        for endless in [
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "{% for a in range(999) %}{{ 'x' * 100000 }}{% endfor %}",
            "{{ 'x' * 1000000 }}",
        ] {
            assert!(fault(endless, good).starts_with("text: "), "{endless}");
        }
        for broken in [
            "{{ x",
            "{% if %}",
            "{% include 'x' %}",
            "{% for %}",
            "{{ x | nothing }}",
        ] {
            let refused = templates(broken, None).map(|all| all.fill(&message(good)).map(drop));
            assert!(!matches!(refused, Ok(Ok(()))), "{broken}");
        }
        assert_eq!(templates("\n{{ x", None).unwrap_err().0, "text");
    }
}
