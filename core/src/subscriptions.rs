//! Push subscriptions.
