//! What a service manager is told, where one started us (`Type=notify-reload` of systemd; see `sd_notify(3)`). It may not listen;
//! nobody waits for it.

use sd_notify::NotifyState;

/// Requests are answered; or a reload is over.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the system's clock cannot be read"),
    }
}

/// The gateway drains, and ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told of a change");
    }
}
