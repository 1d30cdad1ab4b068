//! Delivering a topic's messages to their receivers. The decisions are pure: [`relay`], a state machine for each subscription,
//! with [`retry`], [`breaker`] and what it keeps in the store. The rules use them too. What carries them out on tokio is `driver`,
//! over `sinks`, with the feature of that name. Components are built without; Spin's carry them out in `drain`.

pub mod attributes;
pub mod breaker;
#[cfg(feature = "driver")]
mod clock;
#[cfg(feature = "drain")]
pub mod drain;
#[cfg(feature = "driver")]
pub mod driver;
pub mod groups;
pub mod lease;
pub mod relay;
pub mod retry;
#[cfg(feature = "driver")]
mod sinks;
pub mod start;
pub mod subscription;
pub mod subscriptions;
pub mod view;
pub mod webhook;
