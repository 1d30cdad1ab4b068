//! The shortener component: the rule `tollgate_rules::links::handle`.

tollgate_guest::handler!(Shortener, tollgate_guest::rules::links::handle);
