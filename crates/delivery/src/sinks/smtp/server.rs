//! A mail server, and the dialogue with it.

mod begin;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use tollgate_api::secret::SecretText;

use super::mail::Mail;
use crate::sinks::reach::Reach;
use crate::subscription::{Place, Security, Subscription};
use begin::Begun;

/// For how long a connection is kept for the next mail.
const IDLE: Duration = Duration::from_secs(20);
/// The most mails over one connection: many servers end it after 100.
const MAILS: u32 = 50;

/// One server of a subscription.
pub(super) struct Server {
    reach: Arc<Reach>,
    place: Place,
    login: Option<Credentials>,
    allow_private: bool,
    timeout: Duration,
    /// What it is greeted with.
    name: ClientId,
    /// Connections that wait for the next mail; never more than deliveries that were under way at once.
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
    mails: u32,
}

/// What became of a mail.
pub(super) enum Ended {
    /// The server has it.
    Taken { code: u16, text: String },
    /// It has not, and says so.
    Refused { code: u16, text: String },
    /// Nobody has it.
    Unreached(String),
    /// Its answer was lost.
    Unknown(String),
}

impl Server {
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(
        reach: &Arc<Reach>,
        settings: &Subscription,
        url: &str,
        password: &Option<SecretText>,
        timeout: Duration,
        name: ClientId,
    ) -> Result<Self, String> {
        let place = Place::parse(settings.kind, url).map_err(|fault| fault.into_owned())?;
        let password = password.as_ref().map(|password| password.expose().to_owned());
        let login = password.map(|password| Credentials::new(place.user.clone(), password));
        Ok(Self {
            reach: Arc::clone(reach),
            place,
            login,
            allow_private: settings.allow_private_addresses,
            timeout,
            name,
            idle: RefCell::default(),
        })
    }

    /// Sends a mail, in bounded time.
    pub async fn send(&self, mail: &Mail) -> Ended {
        // Whether the server may have the mail.
        let is_sent = Cell::new(false);
        match tokio::time::timeout(self.timeout, self.attempt(mail, &is_sent)).await {
            Ok(ended) => ended,
            Err(_) if is_sent.get() => {
                Ended::Unknown("the mail server did not say in time whether it has the mail".to_owned())
            }
            Err(_) => Ended::Unreached("the mail server did not answer in time".to_owned()),
        }
    }

    async fn attempt(&self, mail: &Mail, is_sent: &Cell<bool>) -> Ended {
        let (mut connection, mails) = match self.connection().await {
            Ok(found) => found,
            Err(why) => return Ended::Unreached(why),
        };
        match hand_over(&mut connection, mail, is_sent).await {
            Ok(response) => {
                if mails + 1 < MAILS {
                    self.idle.borrow_mut().push(Idle {
                        connection,
                        since: Instant::now(),
                        mails: mails + 1,
                    });
                }
                let (code, text) = told(response.code().into(), response.message());
                Ended::Taken { code, text }
            }
            // The connection is dropped: what it waits for is not known any more.
            Err(error) => match error.status() {
                Some(code) => {
                    let text = std::error::Error::source(&error).map(ToString::to_string);
                    let (code, text) = told(code.into(), text.as_deref().into_iter());
                    Ended::Refused { code, text }
                }
                None if is_sent.get() => Ended::Unknown(error.to_string()),
                None => Ended::Unreached(error.to_string()),
            },
        }
    }

    /// One that waited and still answers, or a new one; and how many mails it has carried.
    async fn connection(&self) -> Result<(AsyncSmtpConnection, u32), String> {
        loop {
            let Some(mut idle) = self.idle.borrow_mut().pop() else {
                break;
            };
            if idle.since.elapsed() < IDLE && idle.connection.test_connected().await {
                return Ok((idle.connection, idle.mails));
            }
        }
        let wire = self.reach.connect(&self.place, self.allow_private).await;
        let wire = wire.map_err(|error| error.to_string())?;
        let begun = match self.place.security {
            Security::Tls => Begun::encrypted(wire),
            Security::Plain => begin::begin(&self.reach, wire, &self.place.host, &self.name).await?,
        };
        let is_encrypted = begun.is_encrypted();
        let opened = AsyncSmtpConnection::connect_with_transport(Box::new(begun), &self.name).await;
        let mut connection = opened.map_err(|error| describe(&error))?;
        if let Some(login) = &self.login {
            if !is_encrypted {
                return Err("the mail server offers no TLS, and gets no password without".to_owned());
            }
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let done = connection.auth(&mechanisms, login).await;
            done.map_err(|error| format!("login: {}", describe(&error)))?;
        }
        Ok((connection, 0))
    }
}

/// RFC 5321, section 3.3.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    mail: &Mail,
    is_sent: &Cell<bool>,
) -> Result<Response, Error> {
    let mut parameters = Vec::new();
    let addresses = mail.envelope.to().iter().chain(mail.envelope.from());
    let mut texts = addresses.map(AsRef::<str>::as_ref);
    if texts.any(|address| !address.is_ascii())
        && connection.server_info().supports_feature(Extension::SmtpUtfEight)
    {
        parameters.push(MailParameter::SmtpUtfEight);
    }
    let from = MailFrom::new(mail.envelope.from().cloned(), parameters);
    connection.command(from).await?;
    for to in mail.envelope.to() {
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    }
    connection.command(Data).await?;
    is_sent.set(true);
    connection.message(&mail.bytes).await
}

fn told<'a>(code: u16, lines: impl Iterator<Item = &'a str>) -> (u16, String) {
    (code, lines.collect::<Vec<_>>().join(" "))
}

/// For people. What a server says of a login holds no password.
fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
