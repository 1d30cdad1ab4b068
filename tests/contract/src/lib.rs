//! The contract of the ports, written once and run against every engine: each case is one sentence of
//! `wit/edge.wit`. An engine gives a [`StoreHarness`] (or [`BucketsHarness`]) and expands [`store_contract!`] (or
//! [`buckets_contract!`]) in one of its test files, so that each case becomes a test of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "all of this crate is test code"
)]

use std::future::Future;

use tollgate_store::ports::{Buckets, Store};

pub mod appends;
pub mod buckets;
pub mod concurrency;
pub mod conditions;
pub mod counters;
pub mod deferred;
pub mod entries;
pub mod limits;
pub mod planner;
pub mod postgres;
pub mod reading;
pub mod redis;
pub mod repetition;
pub mod shapes;
pub mod templates;
pub mod upkeep;

/// Makes stores to test.
pub trait StoreHarness {
    /// What is tested.
    type Store: Store;
    /// Whether a `read` that finds nothing waits for the first message.
    const WAITS: bool = true;
    /// Whether one process holds the whole store. If not, several instances share it: commits that are asked for at once
    /// happen in any order, and `settle` knows of its own instance's submissions only.
    const ALONE: bool = true;
    /// A store with nothing in it.
    fn fresh(&self) -> impl Future<Output = Self::Store>;
    /// Lets at least `ms` milliseconds of the store's time pass: sets its clock, or sleeps.
    fn pass(&self, store: &Self::Store, ms: u64) -> impl Future<Output = ()>;
}

/// Makes buckets to test.
pub trait BucketsHarness {
    /// What is tested.
    type Buckets: Buckets;
    /// Buckets that were never taken from.
    fn fresh(&self) -> impl Future<Output = Self::Buckets>;
    /// Lets at least `ms` milliseconds of the buckets' time pass.
    fn pass(&self, buckets: &Self::Buckets, ms: u64) -> impl Future<Output = ()>;
}

/// Makes each case of the store's contract a test. `$harness` is an expression that gives a [`StoreHarness`], `$run` a
/// function that runs a future to its end, e.g. `futures::executor::block_on`.
#[macro_export]
macro_rules! store_contract {
    ($harness:expr, $run:path) => {
        $crate::cases! { $harness, $run;
            appends::sequences_are_dense_from_one_in_each_topic,
            appends::several_appends_of_one_commit_follow_each_other,
            appends::a_refused_commit_leaves_no_gap,
            appends::a_message_holds_what_was_appended,
            appends::topics_are_listed_by_name,
            appends::a_topic_tells_its_extent,
            appends::a_deleted_topic_shows_nothing_of_before_and_goes_on,
            appends::a_topic_is_as_heavy_as_its_messages,
            concurrency::a_stock_of_n_admits_exactly_n,
            concurrency::one_key_is_created_once,
            concurrency::concurrent_additions_all_count,
            concurrency::concurrent_appends_are_dense,
            concurrency::one_id_is_carried_out_once,
            concurrency::one_id_is_carried_out_once_whatever_its_partition,
            concurrency::several_keys_are_read_at_one_moment,
            conditions::absent_holds_only_without_an_entry,
            conditions::a_version_must_match_exactly,
            conditions::a_recreated_key_has_another_version,
            conditions::a_window_includes_its_start_and_excludes_its_end,
            conditions::a_window_with_a_missing_side_is_open,
            conditions::the_first_condition_that_fails_is_named,
            conditions::conditions_come_before_mutations,
            conditions::conditions_see_the_state_before_the_commit,
            conditions::a_refused_commit_changes_nothing,
            conditions::a_commit_of_conditions_alone_is_decided,
            counters::a_missing_counter_is_zero,
            counters::bounds_are_inclusive,
            counters::the_first_add_out_of_bounds_is_named,
            counters::overflow_is_refused,
            counters::an_entry_that_is_no_integer_is_invalid,
            counters::extremes_are_exact,
            counters::an_add_keeps_the_expiry,
            counters::an_expired_counter_is_zero_and_lasts,
            entries::a_set_entry_is_read_back,
            entries::all_entries_of_a_commit_have_its_version,
            entries::versions_grow,
            entries::a_delete_removes_or_does_nothing,
            entries::get_answers_in_the_order_of_the_keys,
            entries::an_entry_ceases_to_exist_when_it_expires,
            entries::an_entry_that_has_expired_already_is_absent,
            entries::a_set_replaces_the_expiry,
            entries::an_expired_entry_counts_as_absent_in_conditions,
            entries::values_are_any_bytes,
            entries::keys_are_any_text,
            limits::a_key_mutated_twice_is_invalid,
            limits::too_many_steps_are_invalid,
            limits::a_full_commit_is_taken,
            limits::too_many_bytes_are_invalid,
            limits::empty_and_overlong_names_are_invalid,
            limits::a_sum_must_point_to_an_add,
            limits::a_sequence_must_point_to_an_append,
            limits::an_invalid_commit_changes_nothing,
            limits::too_many_keys_of_a_get_are_invalid,
            reading::a_scan_is_in_byte_order_and_stays_in_its_prefix,
            reading::a_scan_goes_on_after_a_key,
            reading::a_scan_covers_all_partitions,
            reading::a_scan_is_bounded_by_its_limit,
            reading::a_scan_is_bounded_by_bytes,
            reading::a_scan_takes_the_prefix_literally,
            reading::a_scan_leaves_expired_entries_out,
            reading::a_read_goes_on_after_a_sequence,
            reading::a_read_is_bounded_by_bytes,
            reading::a_read_of_an_unknown_topic_is_empty,
            reading::a_read_waits_for_the_first_message,
            reading::a_read_waits_no_longer_than_it_may,
            reading::pages_have_at_least_one_and_at_most_a_thousand_items,
            repetition::a_repeated_commit_is_answered_and_not_repeated,
            repetition::another_fingerprint_is_a_conflict,
            repetition::a_refused_commit_may_be_tried_again,
            repetition::repetition_comes_before_conditions,
            repetition::an_id_is_forgotten_after_its_time,
            repetition::an_id_without_time_is_forgotten_at_once,
            repetition::the_answer_may_hold_numbers,
            deferred::a_deferred_commit_is_carried_out,
            deferred::deferred_additions_sum_up,
            deferred::a_deferred_commit_with_conditions_does_nothing,
            deferred::a_commit_knows_what_was_deferred_before_it_was_settled,
            templates::a_sum_is_filled_in,
            templates::a_sum_of_a_later_mutation_is_filled_in,
            templates::a_sequence_is_filled_in,
            templates::the_time_is_filled_in,
            templates::an_empty_template_is_an_empty_value,
            templates::a_claim_is_one_commit,
        }
    };
}

/// Makes each case of the buckets' contract a test; see [`store_contract!`].
#[macro_export]
macro_rules! buckets_contract {
    ($harness:expr, $run:path) => {
        $crate::cases! { $harness, $run;
            buckets::a_bucket_never_seen_is_full,
            buckets::a_full_bucket_admits_its_capacity_and_no_more,
            buckets::every_cost_is_taken_or_none,
            buckets::a_cost_of_zero_reads_the_level,
            buckets::a_bucket_is_filled_by_a_take_under_terms_of_its_own,
            buckets::a_bucket_refills_continuously_up_to_its_capacity,
            buckets::a_refusal_says_when_to_come_again,
            buckets::buckets_out_of_bounds_are_invalid,
            buckets::more_than_sixteen_buckets_are_invalid,
            buckets::concurrent_takers_share_one_bucket,
        }
    };
}

/// Makes each case of the store's upkeep a test, of a store that is trimmed when it is asked to; see [`store_contract!`].
#[macro_export]
macro_rules! upkeep_contract {
    ($harness:expr, $run:path) => {
        $crate::cases! { $harness, $run;
            upkeep::what_lives_is_not_expired,
            upkeep::messages_of_a_deleted_topic_are_removed_whoever_needs_them,
            upkeep::messages_go_by_age,
            upkeep::messages_go_by_bytes,
            upkeep::messages_that_are_needed_stay,
            upkeep::beyond_a_bound_even_those_go_that_are_needed,
            upkeep::an_entry_goes_with_its_message,
            upkeep::a_trimmed_topic_is_as_heavy_as_what_is_left,
            upkeep::a_large_part_goes_in_bounded_steps,
            upkeep::trims_at_once_remove_each_message_once,
            upkeep::topics_are_trimmed_in_turn,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($harness:expr, $run:path; $($module:ident::$case:ident),* $(,)?) => {
        $(#[test]
        fn $case() {
            $run($crate::$module::$case(&$harness));
        })*
    };
}
