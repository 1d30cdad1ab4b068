//! The coupon component: the rule `tollgate_core::campaigns::handle` behind both doors.

tollgate_guest::gate!(tollgate_guest::core::campaigns::handle);
