"""Defects that attacks on real hosts found: as the deploy account, the service, another local user, or a lying host."""

from __future__ import annotations

from tests.promises.defect import Regression

_ATTACK = "an attack on a real host"

ATTACKS: tuple[Regression, ...] = (
    Regression(
        "Drift as root wrote through a name in /tmp that the deploy account could guess, and so handed it root",
        _ATTACK,
        "tests/test_rules.py::test_no_temporary_name_on_a_host_is_where_everybody_may_write",
    ),
    Regression(
        "A former deploy account at work while its files were given away made root change the owner of any file",
        _ATTACK,
        "tests/test_hostile_root.py::test_a_former_account_that_is_at_work_makes_root_change_nothing_of_roots",
    ),
    Regression(
        "A former deploy account kept threads, a lock, mode bits, access lists, and what it had below /run",
        _ATTACK,
        "tests/test_hostile_root.py::test_a_former_account_keeps_nothing",
    ),
    Regression(
        "After a change of the deploy account the new one could not deploy before the next boot",
        "a reader of the code",
        "tests/test_hostile_root.py::test_a_former_account_that_is_at_work_makes_root_change_nothing_of_roots",
    ),
    Regression(
        "A pipe or a device that a MANIFEST named hung root's drift for good",
        _ATTACK,
        "tests/test_hostile_root.py::test_root_reads_what_the_deploy_account_owns_as_that_account",
    ),
    Regression(
        "A path of systemctl that the deploy account told setup went into its sudo rules",
        _ATTACK,
        "tests/test_facts.py::test_of_two_words_the_first_counts_which_is_roots_own",
    ),
    Regression(
        "With `name: apt`, remove deleted /etc/apt; with `name: getty`, setup replaced a unit of systemd",
        _ATTACK,
        "tests/test_names.py::test_a_name_that_the_host_has_is_refused_and_nothing_is_touched",
    ),
    Regression(
        "Any local user, and the service, could hold a lock and so stop every run",
        _ATTACK,
        "tests/test_locks.py::test_nobody_else_can_open_a_lock",
    ),
    Regression(
        "A link of the deploy account led nginx and `listen:` to the socket of another service",
        _ATTACK,
        "tests/test_own_sockets.py::test_no_link_of_the_deploy_account_leads_to_another_service",
    ),
    Regression(
        "A line that the service wrote was shown as systemd's, nginx's or the watch's",
        _ATTACK,
        "tests/test_logs_sources.py::test_a_release_that_fails_cannot_say_why_in_the_name_of_systemd",
    ),
    Regression(
        "A host of the first layout that was moved in a probation would have answered 502 at its end",
        "a reader of the code",
        "tests/test_layouts.py::test_a_move_ends_a_probation_and_the_committed_release_serves",
    ),
    Regression(
        "A wheel of 200 MB took six minutes, and a torch could not be sent at all",
        "other people's applications",
        "tests/test_uploads.py::test_memory_does_not_grow_with_what_is_sent",
    ),
    Regression(
        "A host that closed its output and lived on hung the controller, and the answers of all others, for good",
        _ATTACK,
        "tests/test_hostile_fleet.py::test_a_host_that_closes_its_output_and_lives_on_keeps_nobody_waiting",
    ),
    Regression(
        "A former deploy account kept release files and locks open for writing, in a process that was not ended",
        _ATTACK,
        "tests/test_handover.py::test_what_a_former_account_has_open_is_nothing_that_counts",
    ),
    Regression(
        "A former deploy account kept processes under the number of a sub-uid, in a user namespace of its own",
        _ATTACK,
        "tests/test_handover.py::test_a_process_of_a_sub_uid_is_one_of_its_account",
    ),
    Regression(
        "Directories nested 1,500 deep below /run kept a new deploy account from being set up",
        _ATTACK,
        "tests/test_handover.py::test_what_is_nested_without_an_end_in_run_is_removed",
    ),
    Regression(
        "A service let logind start a systemd of its account, outside of its sandbox",
        _ATTACK,
        "tests/test_way_out.py::test_nobody_who_starts_programs_hears_the_service",
    ),
    Regression(
        "A clone without a git remote replaced the service of one that has a remote",
        _ATTACK,
        "tests/test_names.py::test_another_clone_of_that_name_is_told_whose_service_it_would_replace",
    ),
    Regression(
        "A lease on a lock made setup fail without a word of whose it was",
        _ATTACK,
        "tests/test_locks.py::test_a_lease_on_a_lock_is_named_with_its_file_and_its_account",
    ),
    Regression(
        "A release that filled the disk could be neither stopped nor taken back",
        _ATTACK,
        "tests/promises/test_full_disks.py::test_what_fills_the_disk_can_be_ended",
    ),
    Regression(
        "A file of a release, edited together with its line in MANIFEST, was UNCHANGED to the next deploy",
        _ATTACK,
        "tests/test_deploy.py::test_a_file_edited_together_with_its_line_is_no_unchanged_release",
    ),
    Regression(
        "What a former deploy account had edited in releases and venvs was taken over by the next one",
        _ATTACK,
        "tests/test_handover.py::test_nothing_that_a_former_account_could_edit_is_taken_over",
    ),
    Regression(
        "Drift did not see that a copy of the program was to be run by another interpreter",
        _ATTACK,
        "tests/test_kept_program.py::test_another_interpreter_in_its_place_is_drift",
    ),
)
