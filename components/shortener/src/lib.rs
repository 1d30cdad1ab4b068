//! The shortener component: the rule `tollgate_core::links::handle`.

tollgate_guest::handler!(Shortener, tollgate_guest::core::links::handle);
