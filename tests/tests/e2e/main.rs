//! Tollgate, black box, over every host that is present. A case is written once, in the module of its subject, and
//! listed here; `host::…` runs it on the `tollgate` binary, `memory::…` on that with its store in memory, `spin::…` under
//! `spin up`, and `spin_postgres::…` and `spin_redis::…` on the same with its state in a Postgres, or in a Redis.
//!
//! `cargo xtask test` builds what the cases need. By hand: `cargo test --release -p tollgate-tests -- links`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

mod access_log;
mod alerts;
mod api_keys;
mod bad_input;
mod campaigns;
mod challenges;
mod command_line;
mod components;
mod contract;
mod cors;
mod crash;
mod dashboard;
mod delayed;
mod demo;
mod documents;
mod draws;
mod events;
mod failures;
mod fleet;
mod forward_auth;
mod groups;
mod guests;
mod harness;
mod hostile;
mod in_memory;
mod limiter;
mod links;
mod logs;
mod metrics;
mod operations;
mod proxy;
mod push;
mod reload;
mod rls;
mod rooms;
mod secrets;
mod starting;
mod tls;
mod topics;
mod traces;
mod under_postgres;
mod under_redis;
mod under_spin;
mod upkeep;
mod users;

harness::cases! {
    links {
        both {
            a_change_of_what_was_changed_since_is_refused,
            a_creation_that_is_repeated_makes_one_link,
            a_link_that_keeps_methods_takes_any_and_reads_no_body,
            a_member_sees_and_changes_only_its_own_links,
            a_qr_code_is_drawn_and_kept,
            anonymous_caller_must_say_who_it_is,
            anonymous_link_is_managed_with_its_token,
            anonymous_links_are_handed_over_once,
            archived_link_is_gone_until_it_is_brought_back,
            clicks_on_a_deleted_link_do_not_count_for_the_next_one,
            codes_are_as_asked_for,
            created_link_redirects,
            deleted_link_is_gone,
            dubs_bulk_calls_deal_with_each_link_on_its_own,
            dubs_calls_make_change_and_remove_links,
            edited_link_leads_to_the_new_target_at_once,
            ended_link_leads_to_its_fallback,
            every_link_is_in_its_owners_list_whoever_lost_its_code,
            every_redirect_status_is_kept,
            existing_link_is_returned_when_asked_for,
            expired_link_is_gone,
            extended_link_ends_later,
            link_is_not_found_before_it_is_valid,
            link_leads_by_rules_and_then_by_weights,
            link_with_a_password_asks_before_it_leads_anywhere,
            list_walks_every_link_exactly_once,
            lists_are_filtered,
            lost_visitor_gets_a_page_in_the_language_of_the_browser,
            lost_visitor_is_led_where_the_settings_say_and_codes_are_found_in_any_case,
            machines_and_heads_do_not_use_up_a_link,
            many_links_are_made_changed_and_removed_by_one_call,
            max_visits_redirects_exactly_that_many,
            null_clears_a_field_and_absence_keeps_it,
            one_bad_link_of_many_is_refused_alone,
            own_host_is_refused_as_a_target,
            person_taken_for_a_machine_gets_through_by_the_button,
            preview_shows_the_target_and_escapes_it,
            put_makes_a_link_or_changes_it,
            query_is_forwarded_where_the_link_says_so,
            raised_max_visits_admits_the_difference,
            renamed_link_leads_by_its_new_code_alone,
            shlinks_calls_are_open_to_scripts_of_any_page,
            slash_and_needless_encoding_lead_to_the_same_link,
            strangers_create_a_bounded_number_of_links,
            the_newest_visits_are_told_one_by_one,
            the_same_code_on_two_hosts_is_two_links,
            times_to_the_end_of_the_year_9999_are_told_in_utc,
            unknown_code_is_not_found,
            utm_parameters_are_added_to_wherever_a_link_leads,
            visits_are_told_by_time_and_by_what_they_came_with,
            visits_are_told_to_the_topic_of_events,
            visits_of_a_plain_link_are_counted,
            visits_to_codes_that_no_link_has_are_told,
            yourls_clients_make_and_expand_links,
        }
        native {
            code_of_an_ended_link_becomes_free,
            max_visits_set_on_a_link_in_use_holds_from_the_answer_on,
            links_that_lead_nowhere_are_not_ranked,
            statistics_have_the_visits_that_the_counter_has_after_a_kill,
            dubs_own_client_has_a_session,
            shlinks_own_client_has_a_session,
            the_log_outlives_a_kill_and_keeps_the_newest,
            the_most_visited_links_are_ranked_live_and_by_owner,
            the_ranking_is_told_as_it_moves,
            visitors_are_where_the_operators_file_says,
        }
        shared {
            a_change_of_what_was_changed_since_is_refused,
            a_creation_that_is_repeated_makes_one_link,
            a_member_sees_and_changes_only_its_own_links,
            a_qr_code_is_drawn_and_kept,
            anonymous_caller_must_say_who_it_is,
            anonymous_link_is_managed_with_its_token,
            anonymous_links_are_handed_over_once,
            archived_link_is_gone_until_it_is_brought_back,
            clicks_on_a_deleted_link_do_not_count_for_the_next_one,
            codes_are_as_asked_for,
            created_link_redirects,
            deleted_link_is_gone,
            edited_link_leads_to_the_new_target_at_once,
            ended_link_leads_to_its_fallback,
            every_link_is_in_its_owners_list_whoever_lost_its_code,
            every_redirect_status_is_kept,
            existing_link_is_returned_when_asked_for,
            expired_link_is_gone,
            extended_link_ends_later,
            link_is_not_found_before_it_is_valid,
            list_walks_every_link_exactly_once,
            lists_are_filtered,
            machines_and_heads_do_not_use_up_a_link,
            max_visits_redirects_exactly_that_many,
            null_clears_a_field_and_absence_keeps_it,
            one_bad_link_of_many_is_refused_alone,
            own_host_is_refused_as_a_target,
            person_taken_for_a_machine_gets_through_by_the_button,
            preview_shows_the_target_and_escapes_it,
            query_is_forwarded_where_the_link_says_so,
            raised_max_visits_admits_the_difference,
            slash_and_needless_encoding_lead_to_the_same_link,
            strangers_create_a_bounded_number_of_links,
            times_to_the_end_of_the_year_9999_are_told_in_utc,
            unknown_code_is_not_found,
            visits_are_told_by_time_and_by_what_they_came_with,
            visits_of_a_plain_link_are_counted,
        }
        memory {
            created_link_redirects,
            max_visits_redirects_exactly_that_many,
            visits_of_a_plain_link_are_counted,
        }
        components {
            a_change_of_what_was_changed_since_is_refused,
            a_creation_that_is_repeated_makes_one_link,
            a_member_sees_and_changes_only_its_own_links,
            a_qr_code_is_drawn_and_kept,
            anonymous_caller_must_say_who_it_is,
            anonymous_link_is_managed_with_its_token,
            anonymous_links_are_handed_over_once,
            archived_link_is_gone_until_it_is_brought_back,
            clicks_on_a_deleted_link_do_not_count_for_the_next_one,
            codes_are_as_asked_for,
            created_link_redirects,
            deleted_link_is_gone,
            edited_link_leads_to_the_new_target_at_once,
            ended_link_leads_to_its_fallback,
            every_link_is_in_its_owners_list_whoever_lost_its_code,
            every_redirect_status_is_kept,
            existing_link_is_returned_when_asked_for,
            expired_link_is_gone,
            extended_link_ends_later,
            link_is_not_found_before_it_is_valid,
            list_walks_every_link_exactly_once,
            lists_are_filtered,
            machines_and_heads_do_not_use_up_a_link,
            max_visits_redirects_exactly_that_many,
            null_clears_a_field_and_absence_keeps_it,
            one_bad_link_of_many_is_refused_alone,
            own_host_is_refused_as_a_target,
            person_taken_for_a_machine_gets_through_by_the_button,
            preview_shows_the_target_and_escapes_it,
            query_is_forwarded_where_the_link_says_so,
            raised_max_visits_admits_the_difference,
            slash_and_needless_encoding_lead_to_the_same_link,
            strangers_create_a_bounded_number_of_links,
            times_to_the_end_of_the_year_9999_are_told_in_utc,
            unknown_code_is_not_found,
            visits_are_told_by_time_and_by_what_they_came_with,
            visits_of_a_plain_link_are_counted,
        }
    }
    campaigns {
        both {
            campaign_is_opened_again_and_removed,
            campaign_starts_by_itself,
            campaigns_are_listed_and_their_ids_are_taken_once,
            claim_before_the_start_is_told_when_to_come_back,
            claims_are_for_their_user_and_for_the_scope,
            claims_are_listed_and_exported_page_by_page,
            dry_run_says_what_a_claim_is_answered,
            ended_and_closed_campaigns_admit_nobody,
            exactly_n_of_a_crowd_are_admitted,
            generated_codes_differ,
            held_claim_is_confirmed_released_or_revoked,
            imported_codes_are_given_once_each,
            hold_has_one_end_however_many_ask_for_another,
            one_user_is_admitted_once_however_often_it_asks,
            parallel_repetitions_of_one_request_are_one_claim,
            per_user_allows_that_many_claims,
            quantity_goes_up_and_never_below_what_is_admitted,
            only_listed_users_may_claim,
            receipt_of_a_claim_is_checked,
            repeated_idempotency_key_replays_the_first_answer,
            units_of_ended_holds_go_to_whoever_asks,
            what_comes_back_goes_to_the_next_in_line,
            a_line_outlives_a_kill_and_each_unit_is_offered_once,
        }
        native {
            codes_of_a_file_are_imported,
            receipt_is_checked_without_a_gateway,
            numbers_of_a_campaign_are_sent_as_they_change,
            hundred_tickets_are_sold_to_buyers_of_whom_half_fail_across_three_crashes,
            units_of_ended_holds_are_seen_before_anybody_asks,
            ten_thousand_users_get_a_hundred_units_and_the_origin_hears_of_each,
        }
        shared {
            campaign_starts_by_itself,
            campaigns_are_listed_and_their_ids_are_taken_once,
            claim_before_the_start_is_told_when_to_come_back,
            claims_are_for_their_user_and_for_the_scope,
            ended_and_closed_campaigns_admit_nobody,
            exactly_n_of_a_crowd_are_admitted,
            generated_codes_differ,
            one_user_is_admitted_once_however_often_it_asks,
            parallel_repetitions_of_one_request_are_one_claim,
            per_user_allows_that_many_claims,
            quantity_goes_up_and_never_below_what_is_admitted,
            repeated_idempotency_key_replays_the_first_answer,
        }
        memory {
            exactly_n_of_a_crowd_are_admitted,
            hold_has_one_end_however_many_ask_for_another,
            one_user_is_admitted_once_however_often_it_asks,
            repeated_idempotency_key_replays_the_first_answer,
        }
        components {
            campaign_starts_by_itself,
            campaigns_are_listed_and_their_ids_are_taken_once,
            claim_before_the_start_is_told_when_to_come_back,
            claims_are_for_their_user_and_for_the_scope,
            ended_and_closed_campaigns_admit_nobody,
            exactly_n_of_a_crowd_are_admitted,
            generated_codes_differ,
            one_user_is_admitted_once_however_often_it_asks,
            parallel_repetitions_of_one_request_are_one_claim,
            per_user_allows_that_many_claims,
            quantity_goes_up_and_never_below_what_is_admitted,
            repeated_idempotency_key_replays_the_first_answer,
        }
    }
    draws {
        both {
            a_draw_closes_and_is_drawn_by_itself,
            a_draw_is_drawn_once_and_anybody_can_check_it,
            a_draw_waits_for_the_beacon_that_was_announced,
        }
        native {
            entries_and_the_outcome_outlive_crashes,
            the_command_line_checks_a_draw_offline,
        }
        memory {
            a_draw_is_drawn_once_and_anybody_can_check_it,
        }
    }
    challenges {
        both {
            each_solution_lets_one_claim_through,
            a_token_that_its_provider_takes_lets_one_claim_through,
            a_secret_that_its_provider_does_not_know_is_the_operators_to_mend,
        }
        native {
            a_visitor_and_the_library_of_altcha_solve_and_wait,
        }
    }
    rooms {
        both {
            a_browser_waits_on_a_page_without_a_script,
            a_pause_and_another_pace_are_in_force_at_once,
            a_proxy_and_a_campaign_ask_for_a_token,
            a_restart_keeps_everybodys_place,
            a_ticket_is_told_as_an_event,
            a_token_is_its_holders_alone,
            places_before_the_opening_are_by_lot,
            there_may_be_a_thousand_rooms,
            turns_come_at_the_pace,
        }
        native {
            a_look_waits_for_the_turn_where_it_may,
        }
    }
    topics {
        both {
            a_body_as_large_as_the_settings_allow_is_taken,
            a_deleted_topic_is_gone_and_its_name_starts_clean,
            a_form_and_plain_bytes_are_taken_as_they_are,
            a_long_poll_outlasts_the_time_that_a_request_may_take,
            nothing_of_a_deleted_topic_is_delivered_to_who_has_its_name_next,
            posts_beside_deletions_are_kept_or_gone_and_never_come_back,
            repeated_idempotency_key_is_one_message,
            sequences_of_a_topic_are_dense_under_parallel_posts,
            sign_up_becomes_a_message_and_a_record,
            strangers_post_only_where_the_configuration_lets_them,
            topic_is_read_from_any_place_in_pages,
            topics_are_listed_with_their_extent,
            waiting_reader_gets_the_message_when_it_arrives,
        }
        native {
            a_topic_is_listened_to_and_gone_on_with,
        }
        memory {
            sequences_of_a_topic_are_dense_under_parallel_posts,
            waiting_reader_gets_the_message_when_it_arrives,
        }
    }
    groups {
        both {
            a_consumer_that_waits_gets_the_message_when_it_arrives,
            a_key_has_one_message_out_and_refused_ones_become_dead_letters,
            boto3_has_a_session,
            sqs_calls_send_lease_and_delete,
            consumers_share_a_topic_and_a_late_ack_is_told,
            leases_and_acknowledgements_survive_kill_nine,
            many_consumers_at_once_get_every_message_once,
        }
        native {}
        memory {
            consumers_share_a_topic_and_a_late_ack_is_told,
        }
    }
    delayed {
        both {
            a_message_comes_when_it_is_due_for_readers_and_consumers,
            bad_times_name_their_header,
        }
        native {
            later_messages_reach_the_origin_on_time_across_kill_nine,
        }
        memory {
            a_message_comes_when_it_is_due_for_readers_and_consumers,
        }
    }
    push {
        both {
            a_final_status_is_a_dead_letter_at_once,
            a_full_topic_drops_its_oldest_where_it_is_told_to,
            a_request_reaches_the_origin_with_its_query_coding_and_headers,
            a_sample_is_sent_at_once_and_changes_nothing,
            a_signed_route_takes_two_secrets_while_one_is_changed,
            a_signed_webhook_is_taken_and_a_false_one_is_401,
            a_tick_is_asked_for_with_a_key,
            a_webhook_of_stripe_verifies_at_the_origin_too,
            an_open_breaker_is_shown_and_reset_over_http,
            deliveries_are_what_the_subscription_says,
            deliveries_go_on_after_kill_nine,
            every_sign_up_reaches_an_origin_that_refuses_a_third,
            failing_origin_ends_in_dead_letters_too,
            gone_pauses_the_subscription_until_it_is_resumed,
            messages_come_in_batches_and_a_bad_one_spoils_no_other,
            origin_that_goes_down_gets_the_rest_when_it_is_back,
            pause_over_http_holds_messages_back,
            refused_messages_become_dead_letters_and_are_redriven,
            retry_after_is_heeded,
            slow_origin_gets_everything_and_no_more_at_once_than_it_takes,
            stripes_own_library_verifies_at_the_origin,
            subscription_made_over_http_is_served_like_one_of_the_file,
            subscriptions_to_private_addresses_take_an_admin,
            two_subscriptions_each_get_everything,
            what_waits_is_tried_at_once_and_the_past_is_replayed,
        }
        native {
            a_kafka_topic_gets_every_sign_up_once,
            a_nats_stream_gets_every_sign_up_once,
            a_postgres_table_gets_every_sign_up_once,
            a_redis_stream_gets_every_sign_up_once,
            an_s3_bucket_gets_every_sign_up_once,
            an_old_name_made_anew_gets_its_own_messages,
            deliveries_go_on_after_an_orderly_restart,
            key_value_is_refused_where_there_is_no_spin,
            every_attempt_is_shown_with_its_answer_also_after_kill_nine,
            nothing_but_failure_for_long_pauses_the_subscription,
        }
        spin {
            a_health_probe_starts_deliveries_again,
            a_host_that_spin_does_not_allow_is_told,
            a_key_value_store_has_every_sign_up_under_its_key,
            a_key_value_store_that_is_down_gets_the_values_when_it_is_back,
            a_secret_opens_the_tick_to_a_bare_get,
            deliveries_go_on_after_the_response_until_the_queue_is_empty,
            other_types_than_http_are_refused_under_spin,
            the_last_value_of_a_key_stays_the_last,
            ticks_alone_deliver_what_a_killed_gateway_left,
        }
        memory {
            every_sign_up_reaches_an_origin_that_refuses_a_third,
            refused_messages_become_dead_letters_and_are_redriven,
        }
    }
    alerts {
        both {}
        native {
            a_breaker_that_opens_is_told_and_when_it_closes,
            a_channel_that_fails_gets_the_message_later_and_holds_nothing_up,
            an_alert_of_a_fleet_tells_once_whoever_of_it_dies,
            an_alert_tells_once_when_it_starts_and_once_when_it_ends_also_across_a_kill,
            an_origin_that_is_down_is_told_and_when_it_is_back,
            dead_letters_are_told_to_a_chat,
            server_errors_are_counted_over_their_window,
        }
    }
    events {
        both {}
        native {
            a_stream_ends_with_its_key_and_with_the_gateway,
            dead_letters_of_a_group_are_told_and_counted,
            refusals_deliveries_and_alerts_are_told,
            streams_are_for_admins_and_bounded,
            what_happens_is_kept_in_the_topic_and_a_listener_goes_on_where_it_stopped,
            what_happens_is_told_live_where_it_is_kept_nowhere,
        }
    }
    forward_auth {
        both {
            a_list_is_in_force_when_it_is_answered,
            a_proxy_is_told_whether_a_request_may_go_on,
            strangers_may_not_ask_about_others,
        }
        native {
            caddy_asks_before_it_answers,
            envoy_asks_before_it_answers,
            nginx_asks_before_it_answers,
        }
    }
    users {
        both {
            a_user_is_who_a_signed_token_says,
        }
        native {
            a_key_set_is_fetched_and_an_issuer_may_be_away,
            a_key_set_is_read_again_when_its_file_changes,
        }
    }
    limiter {
        both {
            a_quota_is_exact_across_a_crash,
            a_refused_browser_gets_a_page,
            admissions_stay_within_capacity_and_refill,
            an_override_is_in_force_at_once_and_after_a_restart,
            client_over_its_limit_is_told_and_others_are_untouched,
            forwarded_addresses_are_not_believed_from_strangers,
            head_counts_where_get_does,
            kinds_of_identity_have_buckets_of_their_own,
            levels_are_read_and_buckets_are_filled,
            parallel_burst_admits_exactly_the_capacity,
            policies_in_force_are_shown_to_admins,
            shadow_policy_never_refuses,
            trusted_proxy_is_believed_and_ipv6_counts_by_its_64,
            two_policies_are_charged_together_or_not_at_all,
            users_and_headers_have_buckets_of_their_own,
            what_is_one_callers_is_kept_by_no_cache,
            only_what_succeeds_counts_under_a_quota_by_outcome,
            an_upload_that_is_refused_is_given_back_at_once,
            what_a_quota_refuses_has_its_tokens_still,
        }
        native {
            a_place_is_free_however_the_request_ends,
            a_refill_among_requests_fills_to_the_brim,
            a_reset_stream_of_http_2_gives_its_place_back,
            calls_that_only_the_host_answers_are_judged_too,
            one_too_many_is_refused_and_takes_nothing,
            what_a_shadow_policy_would_have_refused_is_in_the_log_now_and_then,
        }
    }
    rls {
        both {}
        native {
            a_stranger_drains_nobodys_bucket,
            descriptors_of_a_call_are_charged_together,
            envoy_asks_the_service_before_it_goes_on,
            hostile_frames_are_bounded,
            json_is_answered_as_the_reference_answers_it,
        }
    }
    bad_input {
        both {
            absurd_pictures_of_links_are_refused,
            absurd_queries_are_refused_by_field,
            absurd_statistics_are_refused,
            bad_campaigns_and_keys_are_refused_by_field,
            bad_draws_and_entries_are_refused_by_field,
            bad_groups_and_replays_are_refused_by_field,
            bad_headers_are_refused_by_name,
            bad_input_of_other_shorteners_is_refused_in_their_form,
            bad_input_of_sqs_is_refused_in_its_form,
            bad_links_are_refused_by_field,
            bodies_that_are_no_json_are_refused,
            huge_bodies_are_refused,
            odd_paths_are_found_nowhere,
            wrong_methods_are_told_the_right_ones,
        }
        native {
            bytes_that_are_no_request_are_refused,
            heads_that_are_too_large_are_refused,
        }
    }
    hostile {
        both {
            encoded_paths_are_no_way_around,
            every_call_asks_for_its_credential,
        }
        native {
            a_hundred_thousand_client_ids_take_no_more_memory_than_their_bound,
            a_refused_upload_over_http_2_ends_its_stream_alone,
            a_refused_upload_without_end_is_cut_off,
            answers_that_nobody_takes_end_their_connection,
            as_many_files_are_opened_as_the_system_allows,
            connections_that_only_answer_pings_keep_nobody_out,
            continuation_without_end_ends_the_connection,
            heads_without_end_are_cut_off,
            health_and_operators_get_through_while_all_places_are_busy,
            idle_connections_keep_nobody_out,
            json_made_to_hurt_is_refused,
            one_address_holds_its_share_of_connections_and_no_more,
            one_bad_stream_ends_alone,
            one_request_never_gets_two_answers,
            rapid_resets_end_the_connection,
            refused_uploads_get_their_answer,
            slow_and_silent_clients_are_cut_off,
            the_parsers_refusals_are_problems_like_all_others,
            transfer_codings_that_are_not_understood_are_told,
            who_waits_to_be_told_to_send_is_answered_at_once,
        }
    }
    tls {
        both {}
        native {
            a_certificate_is_ordered_and_renewed_and_a_dead_directory_stops_nothing,
            a_trusted_proxy_says_whose_connection_it_is,
            both_versions_of_http_are_spoken_and_short_urls_are_https,
            changed_certificates_are_taken_and_broken_ones_are_not,
            check_reads_certificates_as_serve_does,
            handshakes_that_lead_nowhere_end_in_time,
            headers_that_are_none_end_the_connection,
            health_asks_this_machine_whatever_the_certificate_is_for,
            names_are_proved_over_plain_http_too_and_what_is_kept_is_used_again,
            old_protocols_and_weak_ciphers_are_refused_and_sessions_resumed,
            one_address_shakes_hands_within_its_share,
            operators_have_a_listener_of_their_own,
            plain_http_at_the_port_of_tls_is_told_so,
            plain_http_is_led_to_https,
            strangers_name_nobody_else,
            the_header_comes_before_the_handshake,
        }
    }
    secrets {
        both {}
        native {
            secrets_are_in_no_log_no_problem_and_no_file,
        }
    }
    api_keys {
        both {
            expired_key_opens_nothing,
            key_is_shown_once_and_works_until_it_is_deleted,
            a_rotated_key_keeps_its_links,
            missing_and_wrong_credentials_are_told_apart_from_missing_scopes,
        }
        native {
            first_run_that_cannot_write_the_admin_key_leaves_it_to_the_next,
            first_run_prints_an_admin_key_once,
            first_run_writes_the_admin_key_to_a_file,
        }
    }
    operations {
        both {
            health_is_told,
            sane_request_ids_are_kept_and_others_replaced,
        }
        native {
            broken_settings_are_named_by_file_line_and_key,
            check_prints_what_is_in_force,
            http_2_is_spoken,
            second_process_on_the_same_store_is_refused,
            sigterm_under_load_cuts_nothing_that_was_sent,
            sigterm_while_it_starts_ends_it_in_order,
            slow_request_is_answered_after_sigterm,
        }
    }
    contract {
        both {
            document_and_page_are_served,
        }
        native {
            schemathesis_finds_nothing,
        }
    }
    fleet {
        both {}
        native {
            a_database_that_is_away_is_told_and_memory_still_redirects,
            a_database_that_may_lose_commits_is_refused,
            a_move_whose_last_answer_is_lost_is_told_as_done,
            a_shared_limit_keeps_its_bound_whatever_dies,
            an_embedded_store_moves_into_a_postgres,
            an_exact_limit_admits_what_it_has_whatever_dies,
            embedded_gateways_share_limits_over_a_redis,
            four_gateways_sell_exactly_what_there_is,
            nothing_acknowledged_is_lost_when_gateways_and_the_database_die,
            one_relay_at_a_time_and_another_takes_over,
            one_gateway_does_the_background_work_and_another_takes_over,
            a_failover_to_a_synchronous_standby_loses_nothing,
            a_failover_to_an_asynchronous_standby_is_seen_to_lose,
            what_one_gateway_changes_the_other_shows_within_the_bound,
            what_says_that_it_is_ready_reads_over_no_silent_connection,
        }
    }
    in_memory {
        both {}
        native {}
        memory {
            a_full_store_refuses_what_needs_room_and_is_told,
            nothing_outlives_the_process_and_no_database_is_made,
        }
    }
    metrics {
        both {}
        native {
            board_and_rules_name_what_there_is,
            callers_of_this_machine_need_no_key_where_the_settings_say_so,
            claims_and_decisions_are_counted_as_they_were_told,
            deliveries_and_their_backlog_are_told,
            holds_draws_and_refusals_are_told,
            messages_to_come_leases_and_quotas_are_told,
            others_can_read_both_formats,
            rooms_are_told,
            strangers_do_not_read_them,
            strangers_make_no_series,
            they_count_exactly_what_was_done,
            what_the_parser_refuses_is_counted,
        }
    }
    access_log {
        both {}
        native {
            a_log_that_cannot_be_written_holds_nothing_up,
            a_log_that_is_moved_away_is_made_anew,
            each_request_has_one_line_whoever_answers_it,
            hostile_paths_and_agents_stay_in_their_field,
            refusals_and_the_rest_have_shares_of_their_own,
        }
    }
    traces {
        both {}
        native {
            a_dead_collector_holds_nothing_up,
            a_trace_goes_on_through_the_reverse_proxy,
            a_trace_leads_from_the_door_to_the_origin,
            strangers_decide_neither_what_is_recorded_nor_under_which_id,
            the_state_of_a_trace_goes_on_with_that_trace_alone,
        }
    }
    logs {
        both {}
        native {
            a_reader_of_the_log_that_is_stuck_holds_up_nothing,
            strangers_do_not_fill_the_log,
        }
    }
    reload {
        both {}
        native {
            a_changed_file_is_read_and_a_bad_one_told_once,
            a_configuration_that_is_refused_changes_nothing,
            a_request_ends_under_the_configuration_that_it_began_with,
            a_service_manager_is_told_of_reloads,
            a_swapped_symbolic_link_is_followed,
            certificates_may_be_added,
            each_request_is_judged_by_one_configuration_while_it_changes,
            keys_subscriptions_and_logs_follow_their_files,
            levels_are_kept_where_the_policy_did_not_change,
            no_claim_is_lost_in_the_middle_of_reloads,
            sockets_may_be_opened_by_a_service_manager,
            what_needs_a_restart_is_said_and_stays,
        }
    }
    starting {
        both {}
        native {
            a_key_file_comes_before_the_environment,
            a_reader_that_has_seen_enough_is_no_fault,
            a_start_that_fails_makes_no_key,
            check_and_serve_agree,
            a_first_start_compiles_nothing,
            an_idle_gateway_is_small,
            damaged_compiled_code_is_compiled_anew,
            files_are_their_owners_alone,
            nobody_runs_it_where_all_else_is_read_only,
            signals_that_say_nothing_are_survived,
            told_twice_it_ends_at_once_and_loses_nothing,
        }
    }
    failures {
        both {}
        native {
            a_failed_sync_stops_the_writes_and_is_told,
            a_full_disk_is_an_alert_until_there_is_room,
            a_full_disk_refuses_writes_until_there_is_room,
            a_process_that_was_stopped_goes_on_where_it_was,
            another_writer_stops_the_writes_and_is_told,
            databases_that_cannot_be_trusted_are_refused_and_left_alone,
            read_only_directories_are_refused,
            writes_wait_for_a_program_that_locks_the_database_and_then_are_refused,
        }
    }
    crash {
        both {
            what_was_acknowledged_survives_kill_nine_at_any_moment,
        }
        native {
            a_commit_that_is_synced_late_is_missed,
            a_fleet_keeps_what_it_acknowledged_whatever_breaks,
        }
    }
    command_line {
        both {}
        native {
            a_backup_beside_claims_is_restored_with_every_claim_acknowledged_before,
            a_restore_that_is_killed_leaves_the_old_store_or_the_new_one,
            an_import_goes_as_fast_as_the_limiter_allows,
            an_import_that_is_run_again_skips_what_is_there,
            campaigns_are_watched_until_they_are_sold_out,
            holds_and_groups_are_listed,
            exit_codes_say_what_went_wrong_and_no_key_is_shown,
            exports_of_other_programs_are_imported_with_their_codes,
            health_tells_whether_the_gateway_answers,
            keys_are_made_rotated_and_revoked,
            links_are_exported_and_imported_with_their_domains,
            lines_that_make_no_link_are_told_with_their_reasons,
            scripts_and_pages_are_printed_and_a_closed_pipe_is_no_fault,
            topics_are_tailed_and_go_on_where_a_reader_was,
            what_cannot_be_backed_up_is_said,
            what_is_in_force_is_shown_as_json_without_secrets,
        }
    }
    under_postgres {
        both {}
        native {}
        shared {
            sign_ups_are_delivered_from_a_shared_store,
            two_gateways_sell_exactly_what_there_is,
        }
        postgres {
            a_gateway_and_spin_share_one_truth,
            requests_go_on_when_the_database_is_back,
        }
    }
    under_redis {
        both {}
        native {}
        redis {
            a_redis_that_may_forget_is_complained_of,
            a_wrong_password_is_told_and_shown_nowhere,
            clicks_are_counted_without_a_further_request,
            requests_go_on_when_redis_is_back,
        }
    }
    upkeep {
        both {
            a_message_that_is_waited_for_outlives_its_retention,
            a_tick_removes_what_has_ended,
            a_topic_shrinks_to_its_retention_with_its_records,
        }
        native {}
        spin {}
        shared {
            a_tick_removes_what_has_ended,
            a_topic_shrinks_to_its_retention_with_its_records,
        }
        memory {
            a_topic_shrinks_to_its_retention_with_its_records,
        }
    }
    under_spin {
        both {
            paths_of_our_own_are_no_short_links,
        }
        native {}
        spin {
            aborted_uploads_take_nobodys_place,
            an_admin_key_is_asked_for_and_never_made,
            emptied_bucket_admits_nobody_however_busy_the_store,
            routes_that_came_without_a_build_are_told,
            settings_that_are_not_valid_are_told,
            the_application_passes_a_check_of_its_target,
            two_gateways_on_one_state_directory_are_exact,
            uploads_that_stall_are_given_up,
        }
    }
    cors {
        both {
            a_refusal_by_a_limit_can_be_read_and_preflights_are_not_charged,
            every_answer_tells_listed_origins_that_they_may_read_it,
            with_a_star_any_page_may_call_and_none_with_credentials,
            without_the_setting_answers_say_nothing_of_origins,
        }
        native {
            pages_of_listed_origins_alone_call_in_a_browser,
            the_parsers_refusals_can_be_read_by_pages,
        }
    }
    dashboard {
        both {
            the_icon_is_an_icon,
            the_root_leads_where_the_settings_say,
        }
        native {
            a_cookie_opens_the_api_to_its_own_page_alone,
            a_person_works_with_it_in_a_browser,
            a_session_reaches_as_far_as_its_key_and_as_long,
            its_calls_are_open_to_whom_the_table_of_security_md_says,
            its_files_are_guarded_and_sent_once,
            it_tells_who_is_refused_most,
            numbers_move_for_whom_they_concern,
            the_root_is_a_page_for_browsers_and_nothing_for_others,
            who_guesses_keys_is_slowed_down,
        }
        spin {
            there_is_none_and_it_is_told_why,
        }
    }
    demo {
        both {}
        native {
            a_short_demo_sells_what_it_has_and_delivers_each_order,
        }
    }
    documents {
        both {}
        native {
            every_command_of_the_tutorial_does_what_it_shows,
            every_command_of_the_guides_does_what_it_shows,
        }
    }
    proxy {
        both {}
        native {
            a_client_is_asked_for_its_body_when_it_is_admitted,
            a_client_that_breaks_off_or_dawdles_holds_nothing,
            a_kept_connection_that_has_closed_costs_nothing,
            a_request_means_one_request_to_the_origin,
            a_websocket_has_its_places_until_it_ends,
            a_websocket_passes_both_ways,
            an_answer_that_is_none_is_never_passed_on,
            an_answer_without_end_is_cut_off,
            an_origin_may_speak_http2,
            an_origin_that_fails_is_left_alone_for_a_while,
            an_origin_that_is_slow_or_gone_is_told_in_time,
            answers_are_kept_as_they_say,
            answers_are_kept_by_the_place_that_was_asked,
            bodies_stream_both_ways_within_bounds,
            cookies_of_http2_reach_the_origin_in_one_field,
            events_come_as_they_are_sent,
            large_answers_are_passed_on,
            methods_and_patterns_choose_the_origin,
            nothing_but_a_websocket_takes_a_connection_over,
            one_address_that_is_gone_is_not_noticed,
            origins_change_while_it_runs,
            requests_reach_the_origin_behind_the_limiter,
            the_last_good_answer_is_given_while_the_origin_fails,
        }
    }
    components {
        both {}
        native {
            a_broken_one_does_not_start,
            a_component_answers_behind_the_limiter,
            bodies_stream_both_ways_within_bounds,
            calls_reach_whom_they_may,
            each_misbehaving_one_ends_and_redirects_go_on,
            it_gets_the_request_and_nothing_else,
            it_sees_its_own_part_of_the_store,
            what_speaks_an_older_http_is_served_too,
            who_waits_for_a_place_is_served_or_told,
        }
    }
    guests {
        both {}
        native {
            a_trap_ends_what_waits_in_its_own_instance,
            each_gets_a_problem_and_a_successor,
            neighbours_are_served_meanwhile,
            ten_thousand_leave_nothing_behind,
            what_they_say_is_in_the_log_up_to_a_bound,
        }
    }
}
