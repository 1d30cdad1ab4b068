//! `[users.jwt]`.

use super::checks::{at_most, ensure, file, is_trustworthy, within};
use crate::config::{Fault, JwtSettings, MAX_JWT_CHECKS, Path};
use crate::jwt::Jwt;
use tollgate_api::units::Span;

/// The longest issuer or audience, bytes.
const MAX_PARTY: usize = 512;
/// The longest name of a claim, bytes.
const MAX_CLAIM: usize = 64;
const LEEWAY_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(300));

/// A fault never repeats the secret.
pub(super) fn jwt(jwt: &JwtSettings, path: &Path) -> Result<Jwt, Fault> {
    for (name, text) in [("issuer", &jwt.issuer), ("audience", &jwt.audience)] {
        let is_sound = (1..=MAX_PARTY).contains(&text.len()) && !text.chars().any(char::is_control);
        ensure(is_sound, path.key(name), "must be 1 to 512 bytes of text")?;
    }
    if let Some(url) = jwt.url() {
        ensure(
            is_trustworthy(url),
            path.key("jwks"),
            "must be a file or an https URL (http on this machine only)",
        )?;
    } else if let Some(name) = jwt.file() {
        file(name, path.key("jwks"))?;
    }
    let is_name = (1..=MAX_CLAIM).contains(&jwt.claim.len()) && !jwt.claim.chars().any(char::is_control);
    ensure(is_name, path.key("claim"), "must be 1 to 64 bytes of text")?;
    within(jwt.leeway, LEEWAY_BOUNDS, path.key("leeway"))?;
    at_most(jwt.check.len(), MAX_JWT_CHECKS, &path.key("check"))?;
    Jwt::compile(jwt).map_err(|(field, index, rule)| {
        let field = path.key(field);
        Fault::new(index.map_or(field.clone(), |index| field.index(index)), rule)
    })
}
