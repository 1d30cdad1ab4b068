//! The forward component: the rule `tollgate_core::forward::handle` behind both doors.

tollgate_guest::gate!(tollgate_guest::core::forward::handle);
