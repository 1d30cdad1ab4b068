//! The forward component: the rule `tollgate_rules::forward::handle_alone`.

tollgate_guest::handler!(Forward, tollgate_guest::rules::forward::handle_alone);
