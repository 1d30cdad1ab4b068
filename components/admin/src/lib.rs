//! The admin component: the rule `tollgate_core::admin::handle` behind both doors.

tollgate_guest::gate!(Admin, tollgate_guest::core::admin::handle);
