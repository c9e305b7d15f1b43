"""The defects that proving the promises has found, each with the test that would find it again."""

from __future__ import annotations

from tests.promises.defect import Regression as Regression
from tests.promises.regressions_attacks import ATTACKS
from tests.promises.regressions_foreign import FOREIGN

REGRESSIONS: tuple[Regression, ...] = (
    *ATTACKS,
    *FOREIGN,
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
        "Staging ran code of the wheels as the deploy account: a .pth, a package called gunicorn, or a bin/python",
        "a wheel that acts wherever a Python starts",
        "tests/test_no_code_outside.py::test_no_verb_runs_code_of_a_release_or_its_wheels_outside_the_sandbox",
    ),
    Regression(
        "A wheel could write wherever the deploy account may: its names were followed out of the venv",
        "a wheel with names that lead out of its venv",
        "tests/test_build_venv.py::test_a_wheel_writes_nothing_outside_of_its_venv",
    ),
    Regression(
        "A release from which a timer's job still ran was pruned with its venv",
        "a job whose command line names no release",
        "tests/test_jobs.py::test_a_release_that_a_job_still_runs_is_kept_with_its_venv_until_it_ends",
    ),
    Regression(
        "A job that failed was seen by nobody",
        "a job that exits with a status",
        "tests/test_jobs.py::test_how_a_job_ended_is_shown_by_status_and_doctor",
    ),
    Regression(
        "An interpreter in somebody's home was chosen, and the slot just did not start",
        "interpreters that the service cannot run, or that others may change",
        "tests/test_interpreters.py::test_one_that_the_service_cannot_run_is_refused_by_doctor_plan_and_deploy",
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
    Regression(
        "Of ten hosts behind one sshd with MaxStartups 3, seven were reported unreachable",
        "ten hosts of one run on one sshd",
        "tests/test_access_limits.py::test_a_run_over_ten_hosts_is_not_too_many_at_once",
    ),
    Regression(
        "Where sshd allows one session a connection, nothing could be deployed",
        "MaxSessions 1",
        "tests/test_access_limits.py::test_a_run_needs_no_more_than_one_session_a_connection",
    ),
    Regression(
        "A jump host that refused us was told as if the host had; one in a circle ended in a traceback",
        "jump hosts that fail, one by one",
        "tests/test_access_hops.py::test_the_hop_that_fails_is_the_one_that_is_named",
    ),
    Regression(
        "Ctrl-C cut the hosts under way that are reached by a ProxyCommand",
        "SIGINT to the whole process group",
        "tests/test_access_hops.py::test_ctrl_c_is_for_us_and_not_for_the_proxy_command",
    ),
    Regression(
        "RevokedHostKeys of ssh_config counted for nothing",
        "a host key in a list, and in a KRL",
        "tests/test_access_certificates.py::test_the_list_of_revoked_keys_in_ssh_config_counts",
    ),
    Regression(
        "What a login printed without an end of line hid our first report: no lock was seen, and a clock far behind",
        "a .bashrc that prints",
        "tests/test_access_logins.py::test_what_a_login_prints_or_sets_changes_nothing",
    ),
    Regression(
        "fab exec called a command done that had never run",
        "ForceCommand, and a .bashrc that exits",
        "tests/test_access_logins.py::test_a_login_that_runs_nothing_says_so_and_is_no_success",
    ),
    Regression(
        "A host that asks for a code beside the key made us ask for it on the terminal, of every host at once",
        "AuthenticationMethods publickey,keyboard-interactive",
        "tests/test_access_logins.py::test_who_is_not_let_in_is_told_what_the_host_says",
    ),
    Regression(
        "A variable that the shell keeps for itself (UID, OPTIND) arrived with another value, or ended the launcher",
        "every name that a shell knows, in `env:`",
        "tests/test_hostile_texts.py::test_a_name_that_the_shell_keeps_for_itself_is_refused_and_any_other_arrives",
    ),
    Regression(
        "JSON nested a thousand deep, or a number of 5000 digits, in a journal or a history was a traceback",
        "lines that no program would write",
        "tests/test_hostile_answers.py::test_a_line_is_read_and_written_at_every_depth",
    ),
    Regression(
        "--json passed on NaN and Infinity, which no JSON has",
        "lines that no program would write",
        "tests/test_hostile_answers.py::test_a_number_that_json_has_not_is_written_as_a_word",
    ),
    Regression(
        "A host that answered without an end filled the controller's memory",
        "a host that lies",
        "tests/test_hostile_amounts.py::test_an_answer_without_an_end_is_given_up",
    ),
    Regression(
        "A host's word of its libc made pip consider a milliard of platforms",
        "a host that lies",
        "tests/test_hostile_amounts.py::test_a_libc_that_cannot_be_makes_no_million_tags",
    ),
    Regression(
        "A name of 26 to 30 letters made a file that nginx refuses",
        "the longest names that are allowed",
        "tests/test_hostile_host.py::test_every_nasty_text_arrives_on_the_host_and_does_nothing_there",
    ),
    Regression(
        "A mebibyte of YAML took more than a minute to be refused",
        "YAML bombs",
        "tests/test_hostile_yaml.py::test_a_text_of_any_length_is_read_in_time",
    ),
    Regression(
        "A file from outside service/ was packed, reached through an ignored link",
        "links in every place of service/",
        "tests/test_hostile_files.py::test_what_is_no_plain_file_of_the_service_is_refused_by_name",
    ),
    Regression(
        "A file that vanished or grew while the release was made was a traceback, or was packed half",
        "files that never hold still",
        "tests/test_hostile_files.py::test_a_release_of_files_that_never_hold_still_is_whole_or_none",
    ),
    Regression(
        "fab drift --as root showed what a planted link led to, /etc/shadow among it",
        "links planted by the deploy account",
        "tests/test_drift.py::test_root_shows_nothing_that_the_deploy_account_has_only_linked_to",
    ),
    Regression(
        "What a host called its systemctl went into the sudo rules as it was",
        "a host that lies",
        "tests/test_facts.py::test_what_a_host_calls_itself_comes_into_files_of_root_as_a_word_that_we_know",
    ),
    Regression(
        "Killed right after the commit, a deploy left the further processes behind, and run again called itself done",
        "SIGKILL at every call",
        "tests/test_activate_cut.py::test_after_a_kill_anywhere_a_boot_has_one_whole_release_and_the_next_run_recovers",
    ),
    Regression(
        "A release that failed only behind nginx was seen by users for a moment",
        "a service healthy on its own socket alone",
        "tests/test_bad_releases.py::test_a_bad_release_is_refused_with_its_cause_and_never_answers",
    ),
    Regression(
        "A rollback started a release whose launcher somebody had edited",
        "a target that is not whole",
        "tests/promises/test_rollback_targets.py::test_a_target_with_an_edited_launcher_is_refused",
    ),
    Regression(
        "A script that was killed after its commit left workers with the release before; killed before it, one left a "
        "release that nobody watched, until the next run",
        "SIGKILL of the host's script at every step",
        "tests/test_guard_script.py::test_a_run_that_is_killed_anywhere_is_finished_or_taken_back",
    ),
    Regression(
        "A release that was being pruned when the script was killed stayed on the disk under another name",
        "SIGKILL of the host's script at every step",
        "tests/promises/test_matrix.py::test_the_script_is_killed",
    ),
    Regression(
        "With no inode left in /run the traffic could not go back, and the slot that had it was stopped all the same",
        "/run without inodes while a release is taken back",
        "tests/promises/test_full_run.py::test_a_switch_is_taken_back",
    ),
    Regression(
        "A watch that hung was taken for a probation, or for a commit about to end, for ever",
        "a stall at every step of the watch",
        "tests/test_probation_script.py::test_a_watch_that_is_long_overdue_counts_as_none",
    ),
    Regression(
        "A setup that was killed with its files written, and run again, called itself done and had told nginx nothing",
        "a stall at every step of a first deploy, ended by hand",
        "tests/promises/test_matrix_first.py::test_a_setup_hangs",
    ),
    Regression(
        "A power cut in the middle of a prune left half a release on the disk until the next one",
        "the power cut at every step",
        "tests/promises/test_matrix_stalled.py::test_the_power_is_cut_at_a_step",
    ),
)
