//! The forward component: the rule `tollgate_core::forward::handle` behind both doors.

tollgate_guest::gate!(Forward, tollgate_guest::core::forward::handle);
