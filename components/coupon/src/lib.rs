//! The coupon component: the rule `tollgate_rules::campaigns::handle`.

tollgate_guest::handler!(Coupon, tollgate_guest::rules::campaigns::handle);
