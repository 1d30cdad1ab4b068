//! The coupon component: the rule `tollgate_core::campaigns::handle` behind both doors.

tollgate_guest::gate!(Coupon, tollgate_guest::core::campaigns::handle);
