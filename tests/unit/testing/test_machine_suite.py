"""The suite for state machines: a sound one passes, and each mistake is told by its rule and the command that shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

import replog.testing
from replog.statemachine import StateMachine
from replog.testing import StateMachineFault, check_state_machine
from replog.testing.command import main
from replog.testing.determinism import NotAStateMachine, compare_processes, name_of
from replog.testing.kv_workload import KvMachine
from tests.unit.testing import machines
from tests.unit.testing.machines import COMMANDS, QUERIES, Teams

HERE = "tests.unit.testing.machines"
ROOT = Path(__file__).resolve().parents[3]


def fault_of(machine: type[StateMachine], *, seeds: int = 0, processes: bool = False, compare_snapshots: bool = True) -> StateMachineFault:
    with pytest.raises(StateMachineFault) as caught:
        check_state_machine(machine, COMMANDS, queries=QUERIES, seeds=seeds, processes=processes, compare_snapshots=compare_snapshots)
    return caught.value


@pytest.mark.slow
def test_a_sound_state_machine_passes_and_the_report_says_what_was_tried() -> None:
    report = check_state_machine(Teams, COMMANDS, queries=QUERIES, seeds=3)

    assert (report.commands, report.raising, report.cuts, report.processes, report.seeds) == (14, 5, 15, 4, 3)
    assert report.coverage.counts["operations answered"] > 100
    assert report.coverage.counts["crashes"] > 3
    assert report.coverage.counts["states restored"] > 0
    assert report.notes == ["it has no state_digest: in production, nodes compare only the results of commands"]
    assert report.describe().startswith(
        "Teams: all rules hold\n  14 commands, 5 of them raise; 15 snapshots restored; 4 processes compared\n  3 sim"
    )


@pytest.mark.slow
def test_commands_may_be_drawn_by_a_function_and_the_state_machine_be_named() -> None:
    report = check_state_machine(f"{HERE}:Teams", machines.draw, queries=QUERIES, seeds=1)

    assert report.commands == 204


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (machines.OrderOfASet, "result"),
        (machines.OrderOfASetInItsSnapshot, "commands the snapshots of process"),
        (machines.Hashes, "command 1, b'join red ann', has another result in process 1 and process 2: b'"),
        (machines.RandomDigest, "has another state_digest in process"),
        (machines.RandomAnswers, "query b'red' has another answer in process 1 and process 2"),
        (machines.ReadsTheDate, "has another result"),
    ],
)
def test_what_differs_between_processes_is_found(machine: type[StateMachine], words: str) -> None:
    difference = compare_processes(name_of(machine), COMMANDS, QUERIES)

    assert difference is not None
    assert words in difference.text


@pytest.mark.slow
def test_a_clock_in_whole_days_is_found_because_the_clocks_are_days_apart() -> None:
    fault = fault_of(machines.ReadsTheClockInDays, processes=True)

    assert fault.rule == "determinism"
    assert "look for the order of a set, hash(), id(), random" in str(fault)


@pytest.mark.slow
def test_a_sound_state_machine_shows_the_same_in_all_processes() -> None:
    assert compare_processes(f"{HERE}:Teams", COMMANDS, QUERIES) is None


@pytest.mark.slow
def test_snapshots_whose_bytes_may_differ_are_not_compared_when_told_so() -> None:
    report = check_state_machine(machines.OrderOfASetInItsSnapshot, COMMANDS, queries=QUERIES, seeds=1, compare_snapshots=False)

    assert report.notes == ["it has no state_digest and its snapshots are not compared: states were compared only by results"]


@pytest.mark.parametrize(
    ("machine", "rule", "words"),
    [
        (machines.RandomNumbers, "batch", "has the result b'"),
        (machines.ChangesBeforeItRaises, "error", r"raised .* and changed the state: raise before anything is changed"),
        (machines.ForgetsInItsSnapshot, "snapshot", r"the snapshot after \d+ commands, restored in a new machine"),
        (machines.RestoresOverWhatWasThere, "snapshot", r"the snapshot after \d+ commands, restored in a machine that held another state"),
        (machines.LiveSnapshot, "snapshot", r"the snapshot taken after 0 commands changed when later commands were applied"),
        (machines.OtherBatches, "batch", r"applied in batches up to command \d+: its own snapshot is b'"),
        (machines.RaisesOutOfABatch, "batch", r"apply_batch raised on the batch of commands \d+ to \d+: \w+Error: "),
        (machines.ReturnsText, "results", r"returned a str, '.*'; apply returns bytes"),
        (machines.ChangesWhenAsked, "query", r"a query after 0 commands changed the state"),
        (machines.AnswersOtherwiseTogether, "query", r"is answered LookupError.* in query_batch, and UnicodeDecodeError.* alone"),
        (machines.ForgetsAnAnswer, "query", r"query_batch returned \d+ answers for \d+ queries"),
        (machines.RaisesOutOfQueries, "query", r"query_batch raised: UnicodeDecodeError"),
        (machines.DigestIsNotRestored, "error", r"raised .* and changed the state's digest"),
        (machines.CannotWriteASnapshot, "snapshot", r"after \d+ commands no snapshot can be written: TypeError"),
    ],
)
def test_each_mistake_is_told_by_its_rule(machine: type[StateMachine], rule: str, words: str) -> None:
    fault = fault_of(machine)

    assert fault.rule == rule
    assert re.search(words, str(fault)), str(fault)


@pytest.mark.slow
def test_a_state_that_several_machines_of_a_process_share_is_found_in_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines.OnlyWrongInACluster, "restarts", 1000 - 2 * (len(COMMANDS) + 5))

    fault = fault_of(machines.OnlyWrongInACluster, seeds=10)

    assert fault.rule == "cluster"
    assert "simulated cluster, seed" in str(fault)


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (machines.NeedsAnArgument, "cannot be made without arguments"),
        (machines.HoldsAState, "durable_index is 7"),
        (dict, "makes a dict, not a replog.StateMachine"),
        ("nothing", "'nothing' is no name of the form module:Class"),
        ("no.such.module:Class", "cannot be imported: No module named 'no'"),
        (f"{HERE}:Nobody", "has no attribute 'Nobody'"),
        (f"{HERE}:COMMANDS", "is a list, not a class or function"),
    ],
)
def test_what_is_no_state_machine_is_refused_by_name(machine: type[StateMachine] | str, words: str) -> None:
    with pytest.raises(NotAStateMachine, match=words.replace("(", r"\(")):
        check_state_machine(machine, COMMANDS)


def test_a_class_that_no_other_process_can_import_is_refused_or_left_to_one_process() -> None:
    class Local(Teams):
        pass

    with pytest.raises(NotAStateMachine, match="cannot be imported by another process"):
        check_state_machine(Local, COMMANDS, seeds=0)
    report = check_state_machine(Local, COMMANDS, seeds=0, processes=False)

    assert "determinism was not tried in several processes" in report.notes


@pytest.mark.parametrize("commands", [[], ["text"]])
def test_commands_are_bytes_and_there_are_some(commands: list[bytes]) -> None:
    with pytest.raises(NotAStateMachine, match="command"):
        check_state_machine(Teams, commands)


def test_a_state_machine_none_of_whose_commands_raises_is_noted() -> None:
    report = check_state_machine(Teams, [b"join red ann"], seeds=0, processes=False, rubbish=False)

    assert "no command raised: whether one that raises changes nothing was not tried" in report.notes
    assert "it answers queries, and none was given" in report.notes


@pytest.mark.slow
def test_the_simulators_own_state_machine_passes() -> None:
    commands = [b"1 put a x", b"2 cas a y x", b"3 delete a", b"4 cas a z q", b"5 poison a", b"6 put b x"]

    check_state_machine(KvMachine, commands, queries=[b"a", b"b"], seeds=2)


def test_the_package_offers_the_suite_and_nothing_else() -> None:
    assert replog.testing.check_state_machine is check_state_machine
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = replog.testing.nothing


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_line_puts_a_state_machine_through_everything(tmp_path: Path) -> None:
    (tmp_path / "commands").write_bytes(b"\n".join(COMMANDS) + b"\n\n")
    (tmp_path / "queries").write_bytes(b"\n".join(QUERIES[:-1]))
    out = StringIO()

    code = main(["machine", f"{HERE}:Teams", str(tmp_path / "commands"), "--queries", str(tmp_path / "queries"), "--seeds", "1"], out)

    assert (code, out.getvalue().splitlines()[0]) == (0, f"{HERE}:Teams: all rules hold")


def test_the_command_line_tells_the_rule_that_is_broken(tmp_path: Path) -> None:
    (tmp_path / "commands").write_text("\n".join(command.hex() for command in COMMANDS))
    out = StringIO()

    code = main(["machine", f"{HERE}:ChangesBeforeItRaises", str(tmp_path / "commands"), "--hex"], out)

    assert code == 1
    assert f"{HERE}:ChangesBeforeItRaises breaks a rule: error: command" in out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("Teams", 0), ("Hashes", 1)])
def test_the_command_line_compares_processes_alone_with_drawn_commands(name: str, code: int) -> None:
    out = StringIO()

    assert main(["determinism", f"{HERE}:{name}", f"{HERE}:draw"], out) == code

    words = "another result" if code else "equal results, digests and snapshots in 4 processes after 200 commands"
    assert words in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("machine", "no.such:Class", f"{HERE}:draw"), "no.such:Class cannot be imported"),
        (("machine", f"{HERE}:Teams", "/no/such/file"), "No such file"),
        (("machine", f"{HERE}:Teams", f"{HERE}:QUERIES"), "is a list, not a function that draws a command"),
        (("machine", f"{HERE}:Teams", f"{ROOT}/README.md", "--hex"), "README.md, line 1: '# replog' is not hexadecimal"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, StringIO()) == 2

    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_a_program_may_check_a_class_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    program.write_text(
        "from replog.testing import check_state_machine\n"
        f"from {HERE} import Hashes, Teams, COMMANDS\n"
        "class Mine(Teams): pass\n"
        "if __name__ == '__main__':\n"
        "    print('I print')\n"
        "    print(check_state_machine(Mine, COMMANDS, seeds=0).describe())\n"
    )

    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50, env={"PYTHONPATH": str(ROOT)})

    assert done.returncode == 0, done.stderr
    assert "Mine: all rules hold" in done.stdout
