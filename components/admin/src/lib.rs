//! The admin component: the rule `tollgate_rules::admin::handle`.

tollgate_guest::handler!(Admin, tollgate_guest::rules::admin::handle);
