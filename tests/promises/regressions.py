"""The defects that proving the promises has found, each with the test that would find it again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """defect: what an operator would have met. found_by: the fault or look that showed it. test: file::function."""

    defect: str
    found_by: str
    test: str


REGRESSIONS: tuple[Regression, ...] = (
    Regression(
        "After a killed controller the host went on checking, and the next run was told to wait",
        "SIGKILL of the controller during the check",
        "tests/test_leftovers.py::test_a_controller_that_is_killed_leaves_the_host_well",
    ),
    Regression(
        "Cut between the commit and its end, a host kept workers of the old release",
        "a signal at every command of the activation",
        "tests/test_activate_cut.py::test_a_signal_anywhere_undoes_it_or_finishes_it",
    ),
    Regression(
        "A venv broken on the host made every further deploy fail",
        "a damaged wheel and interpreter",
        "tests/test_stage_script.py::test_a_wheel_that_is_not_the_locked_one_is_refused",
    ),
    Regression(
        "An old slot that had to be killed made the next deploy a recovery",
        "a release that ignores SIGTERM",
        "tests/test_bad_releases.py::test_a_master_that_ignores_sigterm_is_replaced_and_leaves_nothing_to_recover",
    ),
    Regression(
        "A mark that permits the idle slot to start outlived its run",
        "leftovers of dead runs, one by one",
        "tests/test_leftovers.py::test_what_a_dead_run_left_is_put_in_order",
    ),
    Regression(
        "stop began in the middle of somebody's switch",
        "two verbs at once",
        "tests/test_stop_start_scripts.py::test_neither_begins_in_the_middle_of_somebodys_switch",
    ),
    Regression(
        "A torn last line of the history swallowed the next one",
        "power cuts",
        "tests/test_history.py::test_a_torn_line_does_not_swallow_the_next",
    ),
    Regression(
        "What began to hang in the last seconds of its probation was committed",
        "a health check that fails as the time is up",
        "tests/test_probation_script.py::test_wrong_answers_send_it_back_even_if_the_time_is_up_before_they_are_sure",
    ),
    Regression(
        "A health check that takes 3 s passed the gate, and was taken back by a watch that waited 2 s",
        "a slow and healthy release",
        "tests/test_probation_holds.py::test_a_check_that_takes_as_long_as_the_gate_allows_is_not_held_against_it",
    ),
    Regression(
        "A host went back to a slot that had been stopped by hand, and nobody answered",
        "the former slot stopped in a probation",
        "tests/test_probation.py::test_a_former_slot_that_was_stopped_is_started_before_the_traffic_goes_back",
    ),
    Regression(
        "A service that was stopped in the moment of a commit was started again by it",
        "a signal at every call of the watch",
        "tests/test_probation_script.py::test_told_to_end_after_the_commit_it_starts_nothing_that_is_being_stopped",
    ),
    Regression(
        "A deploy that came while its host committed was refused",
        "two releases in quick succession",
        "tests/test_probation_script.py::test_a_run_that_comes_while_it_commits_waits_for_that",
    ),
    Regression(
        "A deploy planned in a probation and begun after its end was told that somebody else had been there",
        "two releases in quick succession",
        "tests/test_probation_verbs.py::test_a_hook_waits_for_the_end_of_the_probation_before",
    ),
    Regression(
        "--wait did not wait for a release that was on probation already",
        "the same deploy twice",
        "tests/test_probation_verbs.py::test_the_same_content_needs_nothing_and_wait_waits_for_it",
    ),
    Regression(
        "A probation that a stop or a reboot had ended left no outcome, and the history was called wrong",
        "every verb in a probation",
        "tests/test_probation_verbs.py::test_a_stop_gives_it_up_and_a_start_brings_the_committed_one",
    ),
    Regression(
        "A link that was lost right after the switch was taken for a success where a hook had been done",
        "SIGKILL of the host's script right after the switch",
        "tests/test_probation_verbs.py::test_a_release_that_nobody_watches_is_called_so_and_a_rollback_leaves_it",
    ),
    Regression(
        "From a release that nobody watched, a rollback went back by two",
        "SIGKILL of the host's script right after the switch",
        "tests/test_probation_verbs.py::test_a_release_that_nobody_watches_is_called_so_and_a_rollback_leaves_it",
    ),
    Regression(
        "Of the requests that a drain had cut, only those of the last worker were counted",
        "requests that outlast the drain limit",
        "tests/test_traffic_drain.py::test_what_outlasts_the_drain_limit_is_cut_with_a_status_that_is_logged",
    ),
    Regression(
        "A script that hung held its host for ever once its controller was gone: each next run was told to wait",
        "a script that hangs, and SIGKILL of its controller",
        "tests/test_former_runs.py::test_what_hangs_is_ended_even_if_it_is_deaf",
    ),
    Regression(
        "Who met a stop or a start at work was told of the deploy before it",
        "reading who holds the lock",
        "tests/test_former_runs.py::test_a_verb_without_a_run_is_named_and_ended_by_nobody",
    ),
    Regression(
        "A setup that was killed left its directory with a private key below /run, and half-written files below /etc",
        "SIGKILL of setup at each of its steps",
        "tests/promises/test_matrix_first.py::test_setup_is_killed_and_leaves_nothing",
    ),
)
