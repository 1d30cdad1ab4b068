//! The coupon component: the rule `tollgate_core::campaigns::handle`.

tollgate_guest::handler!(Coupon, tollgate_guest::core::campaigns::handle);
