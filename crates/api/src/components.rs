//! The components that answer requests.

/// A component that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// Short links and their management.
    Shortener,
    /// Campaigns and claims.
    Coupon,
    /// Messages, topics, subscriptions, and the `[[forward]]` routes.
    Forward,
    /// Keys, limits, health, and every path that nobody else owns.
    Admin,
}

impl Component {
    /// All of them.
    pub const ALL: [Component; 4] = [Self::Shortener, Self::Coupon, Self::Forward, Self::Admin];

    /// The name of its file and of its Spin component.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shortener => "shortener",
            Self::Coupon => "coupon",
            Self::Forward => "forward",
            Self::Admin => "admin",
        }
    }
}
