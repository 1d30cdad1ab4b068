//! The shortener component: the rule `tollgate_core::links::handle` behind both doors.

tollgate_guest::gate!(Shortener, tollgate_guest::core::links::handle);
