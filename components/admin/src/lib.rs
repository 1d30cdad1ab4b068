//! The admin component: the rule `tollgate_core::admin::handle`.

tollgate_guest::handler!(Admin, tollgate_guest::core::admin::handle);
