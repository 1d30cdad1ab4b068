//! Delivery by mail: a mail for each message, made by the subscription's templates; over the second server where the first cannot be
//! reached or defers.

mod mail;
mod server;

use std::sync::Arc;
use std::time::Instant;

use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use super::reach::Reach;
use super::{Report, Sink};
use crate::relay::attempt::Answered;
use crate::relay::{Blame, Delivered};
use crate::subscription::Subscription;
use crate::webhook::judge;
use mail::Mails;
use server::{Ended, Server};

/// The mails of one subscription.
pub(crate) struct SmtpSink {
    mails: Mails,
    first: Server,
    second: Option<Server>,
}

impl Sink for SmtpSink {
    async fn deliver(&self, message: Arc<Message>, _: Option<Traceparent>) -> Report {
        let began = Instant::now();
        let mail = match self.mails.of(&message) {
            Ok(mail) => mail,
            // It would be no other mail the next time.
            Err(why) => {
                let delivered = Delivered::Refused {
                    why,
                    blame: Blame::Message,
                    is_final: true,
                    retry_after_ms: None,
                };
                let answered = Answered::default();
                return Report { delivered, answered };
            }
        };
        let mut ended = self.first.send(&mail).await;
        if let Some(second) = &self.second
            && may_pass_on(&ended)
        {
            ended = second.send(&mail).await;
        }
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        if let Ended::Taken { code, text } | Ended::Refused { code, text } = &ended {
            answered.status = Some(*code);
            answered.text = super::excerpt(text);
        }
        let delivered = judged(ended);
        Report { delivered, answered }
    }

    /// The rules of the settings allow no batch.
    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        match messages {
            [(message, _)] => self.deliver(Arc::clone(message), None).await,
            _ => Report {
                delivered: Delivered::refused(Blame::Message, "batch: a mail is for one message"),
                answered: Answered::default(),
            },
        }
    }
}

impl SmtpSink {
    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(reach: &Arc<Reach>, settings: &Subscription, source: String) -> Result<Self, String> {
        let mails = Mails::of_settings(settings, source)?;
        // Both have their time within that of an attempt.
        let timeout =
            std::time::Duration::from(settings.timeout) / if settings.fallback_url.is_some() { 2 } else { 1 };
        let server = |url: &str, password| Server::new(reach, settings, url, password, timeout, mails.host());
        let first = server(&settings.url, &settings.password).map_err(|fault| format!("url: {fault}"))?;
        let second = settings.fallback_url.as_ref();
        let second = second.map(|url| server(url, &settings.fallback_password));
        let second = second
            .transpose()
            .map_err(|fault| format!("fallback_url: {fault}"))?;
        Ok(Self { mails, first, second })
    }
}

/// Nobody has the mail, and another server might take it.
fn may_pass_on(ended: &Ended) -> bool {
    match ended {
        Ended::Unreached(_) => true,
        Ended::Refused { code, .. } => *code < 500 || is_of_the_server(*code),
        Ended::Taken { .. } | Ended::Unknown(_) => false,
    }
}

/// Codes that say nothing of the mail (RFC 5321, section 4.2.3; RFC 7504; RFC 4954, section 6): it shuts down, it takes no mail, it
/// wants another order of commands or a login.
fn is_of_the_server(code: u16) -> bool {
    matches!(code, 421 | 432 | 454 | 503 | 521 | 530 | 534 | 535 | 538)
}

fn judged(ended: Ended) -> Delivered {
    match ended {
        Ended::Taken { .. } => Delivered::Accepted,
        Ended::Unreached(why) => judge::unreachable(why),
        Ended::Unknown(why) => judge::disconnected(why),
        Ended::Refused { code, text } => {
            let of_the_server = is_of_the_server(code);
            Delivered::Refused {
                why: format!("the mail server answered {code} {text}"),
                blame: if of_the_server {
                    Blame::Origin
                } else {
                    Blame::Message
                },
                is_final: code >= 500 && !of_the_server,
                retry_after_ms: None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferral_is_tried_again_a_refusal_is_final_and_a_server_in_trouble_is_neither() {
        let of = |code: u16| match judged(Ended::Refused {
            code,
            text: String::new(),
        }) {
            Delivered::Refused { blame, is_final, .. } => (blame, is_final),
            _ => unreachable!("it was refused"),
        };
        for code in [450, 451, 452] {
            assert_eq!(of(code), (Blame::Message, false), "{code}");
        }
        for code in [550, 552, 554] {
            assert_eq!(of(code), (Blame::Message, true), "{code}");
        }
        for code in [421, 454, 521, 530, 535] {
            assert_eq!(of(code), (Blame::Origin, false), "{code}");
        }
        assert!(!may_pass_on(&Ended::Unknown(String::new())), "it may be there");
        assert!(may_pass_on(&Ended::Refused {
            code: 451,
            text: String::new()
        }));
        assert!(!may_pass_on(&Ended::Refused {
            code: 550,
            text: String::new()
        }));
    }
}
