"""Those of the defects that hosts, logins and links have shown which are not as others are."""

from __future__ import annotations

from tests.promises.defect import Regression

FOREIGN: tuple[Regression, ...] = (
    Regression(
        "A port was given to the next before the one before had hung up: three were about to log in where two may",
        "a loaded machine",
        "tests/test_wire.py::test_the_other_end_sees_the_end_at_once_even_while_somebody_reads",
    ),
    Regression(
        "fab releases --json and fab history --json passed on a NaN that came from a host",
        "a host that lies",
        "tests/test_facts.py::test_what_a_host_calls_a_number_can_be_written_again",
    ),
    Regression(
        "What a host called its deploy account stood unquoted on the command line of root",
        "a host that lies",
        "tests/test_session.py::test_an_account_that_would_be_syntax_is_no_part_of_it",
    ),
    Regression(
        "What a host called its slots, releases, account and interpreters was used as it was",
        "a host that lies",
        "tests/test_facts.py::test_a_name_that_none_of_ours_can_be_is_told_and_goes_nowhere",
    ),
    Regression(
        "history --verify compared every line with every other",
        "a long history",
        "tests/test_history.py::test_a_long_history_is_gone_through_once",
    ),
    Regression(
        "A sudo that speaks another language was not understood, and a login without `head` on its PATH ran nothing",
        "logins that set what they like",
        "tests/test_session.py::test_what_a_login_sets_changes_neither_our_tools_nor_the_language_of_sudo",
    ),
    Regression(
        "A link that was reset as a channel opened was told as a limit of MaxSessions",
        "a link that is reset, byte by byte",
        "tests/test_access_lost.py::test_a_link_that_is_lost_as_a_channel_opens_is_called_lost",
    ),
    Regression(
        "setup wrote below directories that others could write in",
        "a directory above ours that is not root's",
        "tests/test_hostile_setup.py::test_root_writes_only_below_what_is_roots_alone",
    ),
    Regression(
        "setup ran in the middle of somebody's switch",
        "two verbs at once",
        "tests/test_hostile_setup.py::test_setup_waits_for_nobody_and_says_who_is_at_work",
    ),
    Regression(
        "A change of the deploy account gave the new one what the former had only linked to",
        "a hard link where the kernel protects none",
        "tests/test_hostile_setup.py::test_a_new_account_is_given_no_file_that_was_not_the_former_ones",
    ),
    Regression(
        "On a host that was set up by an older version a restart began, and its probation did not start",
        "a host without the unit of the probation",
        "tests/test_hostile_state.py::test_a_host_of_an_older_version_is_told_before_anything_is_begun",
    ),
    Regression(
        "A host that fell silent as its lock was taken ended the run in a traceback",
        "a stall at every step",
        "tests/test_two_at_once.py::test_a_host_that_falls_silent_as_its_lock_is_taken_is_told_in_a_sentence",
    ),
    Regression(
        "A deploy that was done was called failed, since root had left a directory among the venvs",
        "every verb on a littered host",
        "tests/test_hostile_state.py::test_what_cannot_be_swept_away_does_not_make_a_deploy_fail",
    ),
    Regression(
        "On a host that is a container nobody was told of a run at work, or of one that hung with its controller gone",
        "a stall at every step of a first deploy",
        "tests/promises/test_matrix_first.py::test_a_first_deploy_hangs",
    ),
    Regression(
        "Why the lock of a run could not be taken was not told",
        "an error at every step",
        "tests/promises/test_matrix_fails.py::test_the_script_fails",
    ),
    Regression(
        "A script that hung just after it had begun a probation kept the watch waiting, so that nobody watched",
        "a stall at every step, two signals at each",
        "tests/promises/test_matrix_hangs.py::test_the_script_hangs_and_the_controller_is_killed",
    ),
    Regression(
        "systemd refused the sixth start of a worker or timer in ten seconds, and quick deploys left it down",
        "kills at random moments, in quick succession",
        "tests/test_processes.py::test_however_quickly_deploys_come_workers_and_timers_are_up_afterwards",
    ),
    Regression(
        "A start that failed told the lines of the start before it",
        "two starts in the same second",
        "tests/test_activate_script.py::test_a_candidate_that_fails_never_has_the_traffic",
    ),
    Regression(
        "A setup that put the former nginx file back ended before nginx had it",
        "a neighbour that is asked right after a refusal",
        "tests/test_neighbours.py::test_a_site_that_answers_for_unknown_names_without_saying_so_keeps_them",
    ),
)
