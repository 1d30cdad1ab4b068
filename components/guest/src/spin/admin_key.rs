//! The admin key. Under Spin nothing runs before the first request, and whatever a component prints stays in files that
//! others may read. So no key is made here: it is the one in the variable `tollgate_admin_key`.

use super::notice;
use crate::port::Port;
use spin_sdk::variables::{self, Error};
use std::cell::Cell;
use tollgate_api::problem::{Kind, Problem};
use tollgate_rules::keys::{self, AdminKeyError};
use tollgate_rules::world::World;

/// The Spin variable.
const VARIABLE: &str = "tollgate_admin_key";

/// The state of the admin key, after a look at the variable and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminKey {
    /// The store has an admin key: this one, or one of earlier days.
    Present,
    /// There is none, and never was.
    Missing,
    /// The variable holds a text that cannot be a key; why.
    Invalid(&'static str),
}

thread_local! {
    static KNOWN: Cell<Option<AdminKey>> = const { Cell::new(None) };
}

/// Installs the key in the variable; once per instance. `None`: the variable or the store could not be read, and it is left
/// to the next request.
pub async fn check(world: &World<'_, Port>) -> Option<AdminKey> {
    if let Some(known) = KNOWN.get() {
        return Some(known);
    }
    let given = match variables::get(VARIABLE).await {
        Ok(given) => given,
        Err(Error::Undefined(_) | Error::InvalidName(_)) => String::new(),
        Err(_) => return None,
    };
    let found = match given.trim() {
        "" => match keys::has_admin(world.store).await.ok()? {
            true => AdminKey::Present,
            false => AdminKey::Missing,
        },
        key => match keys::install_admin(world.store, key, world.now).await {
            Ok(()) => AdminKey::Present,
            Err(AdminKeyError::Store(_)) => return None,
            Err(AdminKeyError::Malformed) => AdminKey::Invalid(
                "the variable tollgate_admin_key: an admin key is 16 to 256 visible ASCII characters; tg_… only if \
                 Tollgate made it",
            ),
        },
    };
    KNOWN.set(Some(found));
    Some(found)
}

/// The answer to a call that needs a key, where no key can exist yet.
pub async fn missing(world: &World<'_, Port>) -> Problem {
    let how = "start with `spin up --variable tollgate_admin_key=…` or set SPIN_VARIABLE_TOLLGATE_ADMIN_KEY (16 to 256 \
               visible ASCII characters)";
    notice::tell_at(
        world.now,
        &format!("there is no admin key, so no call that needs an API key is answered: {how}"),
    )
    .await;
    Problem::new(
        Kind::Unavailable,
        format!("This gateway has no admin key yet: {how}."),
    )
    .with_retry_after(notice::OPERATOR_SECONDS)
}
