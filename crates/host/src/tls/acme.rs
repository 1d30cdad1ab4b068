//! The certificate that is ordered from an ACME directory (RFC 8555), and renewed. It is kept in a file, which is read like those
//! that the settings name. What fails here changes nothing of what is served: it is logged, and tried again later.

mod client;
mod kept;

use super::Tls;
use super::challenges::{ACME_TLS, Answers};
use super::sources::Order;
use anyhow::{Context as _, Result, anyhow};
use client::Client;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, ExternalAccountKey, Identifier,
    KeyAuthorization, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use kept::{Kept, KeptAccount};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tollgate_rules::config::{Acme, AcmeChallenge};

/// How long it may be before it is looked whether a certificate is to be renewed: a clock may jump, a machine sleep.
const LOOK: Duration = Duration::from_secs(3_600);
/// How long an order may take in all.
const ORDER: Duration = Duration::from_secs(600);
/// How long the authority may take to judge our proofs, or to issue.
const JUDGED: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(180));
/// The pause after an order that failed, doubled with each one more. Let's Encrypt refuses a name for an hour after five that failed
/// within one.
const PAUSE: Duration = Duration::from_secs(180);
/// The longest.
const MAX_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// Of the reason that an authority gives, in characters.
const MAX_REASON: usize = 300;
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Orders and renews, for as long as it is polled. Other settings are taken up at once, and a reload tries again at once.
pub async fn run(tls: Arc<Tls>) {
    let mut failures = 0;
    loop {
        let order = tls.sources.load().order.clone();
        let pause = match &order {
            None => LOOK,
            Some(order) => look(&tls, order, &mut failures).await,
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = tls.changed.notified() => failures = 0,
        }
    }
}

/// Orders a certificate if it is time. Returns how long there is nothing to do.
async fn look(tls: &Arc<Tls>, order: &Order, failures: &mut u32) -> Duration {
    let left = good_for(order).await;
    if !left.is_zero() {
        *failures = 0;
        return left.min(LOOK);
    }
    let domains = order.acme.domains.join(", ");
    tracing::info!(
        domains,
        directory = order.acme.directory,
        "a certificate is ordered"
    );
    let ordered = timeout(ORDER, fill(tls, order)).await;
    tls.challenges.clear();
    let done = match ordered {
        Ok(Ok(())) if good_for(order).await.is_zero() => Err(anyhow!(
            "the certificate that was issued would have to be renewed at once: is the clock of this machine right?"
        )),
        Ok(done) => done,
        Err(_) => Err(anyhow!("it was not issued in time")),
    };
    tls.ordered(done.is_ok());
    match done {
        Ok(()) => {
            tracing::info!(domains, "the certificate was issued");
            *failures = 0;
            Duration::ZERO
        }
        Err(error) => {
            let pause = pause(*failures);
            *failures = failures.saturating_add(1);
            let error = format!("{error:#}");
            let again_seconds = pause.as_secs();
            tracing::warn!(
                error,
                domains,
                again_seconds,
                "no certificate was issued: what there is stays in force"
            );
            pause
        }
    }
}

/// The pause after this many failures before, and one more; up to a quarter shorter, so that many gateways do not ask at once.
fn pause(failures: u32) -> Duration {
    let pause = PAUSE
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(MAX_PAUSE);
    pause - pause.mul_f64(fastrand::f64() / 4.0)
}

async fn good_for(order: &Order) -> Duration {
    let order = order.clone();
    let good_for = blocking(move || Ok(Kept::at(&order.file).is_good_for(&order.acme))).await;
    good_for.unwrap_or(LOOK)
}

/// Beside the runtime: a disk may let us wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Orders a certificate, proves that its names are ours, and keeps it.
async fn fill(tls: &Arc<Tls>, order: &Order) -> Result<()> {
    let (kept, acme) = (Kept::at(&order.file), &order.acme);
    let room = kept.clone();
    blocking(move || room.make_room()).await?;
    let names: Vec<_> = acme.domains.iter().cloned().map(Identifier::Dns).collect();
    let wanted = NewOrder::new(&names);
    let account = account(&kept, acme).await?;
    let mut filled = match account.new_order(&wanted).await {
        // Authorities forget accounts, those of tests at every start.
        Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => {
            kept.forget_account();
            let account = self::account(&kept, acme).await?;
            account.new_order(&wanted).await
        }
        filled => filled,
    }
    .context("the order was refused")?;
    let mut answers = Answers::default();
    let mut authorizations = filled.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization.challenge(kind(acme.challenge));
        let mut challenge =
            challenge.with_context(|| format!("{name}: the authority does not offer this challenge"))?;
        let proof = challenge.key_authorization();
        answer(acme.challenge, name, &challenge.token, &proof, &mut answers)?;
        // With those before: each may still be looked at.
        tls.challenges.set(answers.clone());
        challenge.set_ready().await?;
    }
    if filled.state().status != OrderStatus::Ready {
        let judged = filled.poll_ready(&JUDGED).await;
        if !matches!(judged, Ok(OrderStatus::Ready)) {
            let why = refusal(&mut filled).await;
            return Err(match (why, judged) {
                (Some(why), _) => anyhow!(why),
                (None, Err(error)) => error.into(),
                (None, Ok(_)) => anyhow!("the authority says no reason"),
            })
            .context("the names were not proved");
        }
    }
    let key = zeroize::Zeroizing::new(filled.finalize().await.context("it is not issued")?);
    let chain = filled
        .poll_certificate(&JUDGED)
        .await
        .context("it is not issued")?;
    let (acme, tls) = (acme.clone(), Arc::clone(tls));
    blocking(move || {
        kept.set_certificate(&acme, &chain, &key)?;
        tls.look(None);
        Ok(())
    })
    .await
}

fn kind(challenge: AcmeChallenge) -> ChallengeType {
    match challenge {
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        AcmeChallenge::Http01 => ChallengeType::Http01,
    }
}

/// Adds the answer to one name's challenge.
fn answer(
    by: AcmeChallenge,
    name: String,
    token: &str,
    proof: &KeyAuthorization,
    answers: &mut Answers,
) -> Result<()> {
    match by {
        AcmeChallenge::Http01 => {
            answers.texts.insert(token.to_owned(), proof.as_str().to_owned());
        }
        AcmeChallenge::TlsAlpn01 => {
            let config = handshake(&name, proof.digest().as_ref())?;
            answers.handshakes.insert(name, Arc::new(config));
        }
    }
    Ok(())
}

/// The handshake that proves a name: a certificate signed with itself that holds the digest (RFC 8737, section 3).
fn handshake(name: &str, digest: &[u8]) -> Result<ServerConfig> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let provider = default_provider();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = provider.key_provider.load_private_key(key)?;
    // Not looked at, as others are: its critical extension is known to authorities alone.
    let pair = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Ok(config)
}

/// Why the first of the names that were not proved was not.
async fn refusal(order: &mut instant_acme::Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let name = authorization.identifier().to_string();
        let state = authorization.refresh().await.ok()?;
        let mut failed = state
            .challenges
            .iter()
            .filter(|one| one.status == ChallengeStatus::Invalid);
        let problem = failed.find_map(|challenge| challenge.error.clone());
        if let Some(problem) = problem {
            let reason: String = problem.to_string().chars().take(MAX_REASON).collect();
            return Some(format!("{name}: {reason}"));
        }
    }
    None
}

/// The account that is kept, or a new one.
async fn account(kept: &Kept, acme: &Acme) -> Result<Account> {
    let client = Client::new(acme.directory_ca.as_deref().map(Path::new)).context("directory_ca")?;
    let builder = Account::builder_with_http(Box::new(client));
    let contact = acme.contact.as_deref().map(|contact| {
        let address = contact.strip_prefix("mailto:").unwrap_or(contact);
        format!("mailto:{address}")
    });
    let contacts: Vec<&str> = contact.as_deref().into_iter().collect();
    let keep = |credentials| KeptAccount {
        directory: acme.directory.clone(),
        contact: acme.contact.clone(),
        external_account: acme.external_account.as_ref().map(|account| account.id.clone()),
        credentials,
    };
    if let Some(found) = kept.account().filter(|found| found.is_of(acme)) {
        let is_other_contact = found.contact != acme.contact;
        let credentials = serde_json::to_value(&found.credentials)?;
        let account = builder.from_credentials(found.credentials).await?;
        if is_other_contact {
            account
                .update_contacts(&contacts)
                .await
                .context("the contact was not taken")?;
            kept.set_account(&keep(serde_json::from_value(credentials)?))?;
        }
        return Ok(account);
    }
    let external = acme.external_account.as_ref().map(|account| {
        let key = account.key().context("external_account.key")?;
        Ok::<_, anyhow::Error>(ExternalAccountKey::new(account.id.clone(), &key))
    });
    let external = external.transpose()?;
    let wanted = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let made = builder
        .create(&wanted, acme.directory.clone(), external.as_ref())
        .await;
    let (account, credentials) = made.context("no account was made")?;
    kept.set_account(&keep(credentials))?;
    tracing::info!(account = account.id(), "an ACME account was made");
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_what_authorities_bear() {
        let (mut within_the_hour, mut at) = (1, Duration::ZERO);
        for failures in 0..100 {
            let pause = pause(failures);
            assert!(
                pause <= MAX_PAUSE && pause >= PAUSE.mul_f64(0.7),
                "{failures}: {pause:?}"
            );
            at += pause;
            within_the_hour += u32::from(at < LOOK);
        }
        assert!(within_the_hour <= 5, "{within_the_hour}");
        assert!(pause(u32::MAX) >= MAX_PAUSE / 2);
    }
}
