//! The forward component: the rule `tollgate_core::forward::handle`.

tollgate_guest::handler!(Forward, tollgate_guest::core::forward::handle);
