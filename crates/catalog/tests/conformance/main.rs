//! One suite for every database the catalog runs on: each case is written once, against "a fresh
//! catalog", and runs on a SQLite file, on SQLite in memory and on PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod audit;
mod backups;
mod crash;
mod crowd;
mod deletes;
mod identities;
mod instances;
mod jobs;
mod lists;
mod logs;
mod outages;
mod parallel;
mod policies;
mod rebases;
mod room;
mod secrets;
mod shared;
mod storms;
mod sweeps;
mod tags;
mod upgrade;

/// Runs each named case on each database.
macro_rules! on_every_database {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        on_every_database!(@on sqlite_file, $($module::$case),+);
        on_every_database!(@on sqlite_memory, $($module::$case),+);
        on_every_database!(@on postgres, $($module::$case),+);
    };
    (@on $database:ident, $($module:ident :: $case:ident),+) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(room) = crate::room::$database().await {
                        crate::$module::$case(&room).await;
                        room.assert_whole().await;
                    }
                }
            )+
        }
    };
}

on_every_database![
    audit::i10_every_change_is_in_the_chain_and_the_chain_holds,
    backups::a02_a_second_backup_of_the_instance_waits,
    backups::p01_the_same_request_again_is_refused_while_it_runs_and_after,
    backups::a03_the_quota_is_taken_and_given_back,
    backups::a_refused_backup_leaves_nothing,
    backups::i07_a_backup_has_no_size_and_no_end_until_it_completes,
    backups::p04_a_backup_is_published_exactly_once,
    backups::unknown_and_foreign_instances_are_not_found,
    crowd::t04_a_hundred_thousand_due_at_one_moment_wait_for_their_places,
    crowd::t04_as_many_projects_with_something_due_have_their_turns,
    deletes::a_delete_hides_nothing_until_the_row_is_gone,
    deletes::a_delete_asked_twice_is_one_job,
    deletes::p05_a_delete_that_fails_is_tried_until_it_is_done,
    deletes::a_backup_that_is_building_or_automatic_is_not_deleted,
    deletes::a_forgotten_backup_takes_its_delete_with_it,
    deletes::r05_a_held_backup_is_not_deleted,
    identities::a11_a_token_ends_with_its_time_and_at_its_revocation,
    identities::a11_a_session_ends_with_its_time_its_origin_and_its_role,
    identities::projects_and_users_are_found_again,
    identities::users_and_projects_go_with_what_lets_in,
    identities::access_keys_open_again,
    identities::settings_and_readiness,
    instances::a_name_is_free_again_when_its_instance_is_retired,
    instances::an_instance_with_a_live_job_is_not_retired,
    instances::a14_references_stay_inside_the_project,
    jobs::a_claim_takes_the_oldest_due_job_of_its_kinds,
    jobs::p07_a_fenced_worker_changes_nothing,
    jobs::p03_an_expired_lease_is_taken_over_and_counted,
    jobs::p03_leases_of_a_process_that_is_gone_end_when_that_is_known,
    jobs::p12_a_released_job_is_ready_and_its_try_not_counted,
    jobs::a_failed_try_waits_and_its_reason_is_kept,
    jobs::the_last_failure_fails_the_backup_with_it,
    jobs::a_ready_job_is_cancelled_at_once_and_a_leased_one_is_asked,
    jobs::a_backup_that_was_tried_is_cancelled_by_a_worker,
    jobs::steps_are_recorded_under_the_fence_and_once_a_claim,
    jobs::a_verification_stands_beside_its_backup,
    lists::a26_pages_are_newest_first_complete_and_stable,
    lists::a26_slices_are_parts_of_the_list_and_know_its_length,
    lists::facts_and_moments_of_an_instance,
    lists::filters_and_counts_agree,
    lists::slices_of_jobs_are_parts_of_their_list,
    lists::the_reading_counts_what_there_is,
    logs::p07_one_worker_has_a_capture_and_a_fenced_one_changes_nothing,
    logs::i11_ranges_follow_the_listing_and_grow,
    logs::b08_a_gap_is_told_exactly,
    logs::a_backup_begins_once_where_none_leads_to_the_log,
    logs::b08_a_gap_has_its_backup_at_once_and_many_gaps_have_one_an_hour,
    logs::a_capture_ends_when_it_is_switched_off,
    parallel::a01_one_of_a_hundred_equal_requests_is_taken,
    parallel::a03_a_quota_under_parallel_requests_is_exact,
    parallel::p08_every_job_is_claimed_once,
    parallel::a_delete_asked_by_many_is_one_job,
    policies::a_policy_is_stored_changed_and_goes_with_its_instance,
    policies::a_schedule_that_stays_owes_the_same_start,
    policies::t02_one_backup_is_begun_for_one_moment,
    policies::a_running_backup_is_waited_for,
    policies::t01_a_start_of_a_far_future_counts_for_nothing,
    policies::t04_places_are_shared_between_projects,
    policies::p08_many_schedulers_begin_each_start_once,
    policies::g8_rules_take_what_is_over_and_nothing_else,
    policies::g8_a_failed_verification_protects_nothing,
    policies::r01_a_shortened_policy_removes_nothing_at_once,
    policies::many_looks_remove_each_backup_once,
    policies::a_person_s_delete_of_an_automated_backup_is_obeyed,
    rebases::a_backup_is_moved_from_what_it_is_and_nothing_else_changes,
    rebases::a_backup_that_leaves_is_not_moved,
    rebases::p07_a_fenced_sweep_moves_nothing,
    shared::a_first_start_is_stored_wholly_and_once,
    shared::a_first_start_that_breaks_leaves_nothing,
    shared::a_hint_reaches_other_processes,
    shared::t01_a_shared_database_has_a_clock_of_its_own,
    storms::p07_random_histories_keep_every_rule,
    sweeps::many_deletes_are_followed_by_one_sweep,
    sweeps::p08_wishes_at_one_moment_are_one_sweep,
    sweeps::what_is_deleted_under_a_sweep_is_followed_by_another,
    sweeps::p03_a_sweep_that_looks_again_needs_no_other_one,
    sweeps::p07_a_fenced_sweep_begins_nothing,
    sweeps::a_sweep_that_somebody_asks_for_does_not_wait,
    sweeps::a_sweep_belongs_to_no_project,
    tags::tags_are_put_removed_replaced_and_audited,
    tags::tags_go_with_their_instance_and_stay_in_their_project,
    tags::tags_put_at_once_never_pass_their_limit,
];
