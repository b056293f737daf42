"""Histories of other tools are read, and what cannot be understood is refused by line and field."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from replog.testing.command import main
from replog.testing.edn import EdnMalformed, parse_edn
from replog.testing.history import NEVER, HistoryMalformed, Operation, dump
from replog.testing.history_formats import parse
from replog.testing.linearizability import Verdict, check
from replog.testing.models import RegisterModel

NATIVE = (
    '{"client": "a", "key": "x", "kind": "put", "args": ["v"], "result": null, "start": 0, "end": 1, "outcome": "ok"}\n'
    '{"client": "b", "key": "x", "kind": "get", "args": [], "result": RESULT, "start": 2, "end": 3, "outcome": "ok"}\n'
)
KV_EVENTS = """
{:process 0, :type :invoke, :f :append, :key "7", :value "x 0 0 y"}
{:process 0, :type :ok, :f :append, :key "7", :value "x 0 0 y"}
{:process 1, :type :invoke, :f :get, :key "7", :value nil}
{:process 1, :type :ok, :f :get, :key "7", :value RESULT}
{:process 2, :type :invoke, :f :get, :key "8", :value nil}
{:process 2, :type :ok, :f :get, :key "8", :value ""}
"""
UTIL_LINES = """INFO  jepsen.util - 0\t:invoke\t:write\t4
INFO  jepsen.util - 0\t:ok\t:write\t4
INFO  jepsen.util - 1\t:invoke\t:cas\t[RESULT 1]
INFO  jepsen.util - 1\t:fail\t:cas\t[RESULT 1]
INFO  jepsen.util - 2\t:invoke\t:write\t7
INFO  jepsen.util - 2\t:info\t:write\t:timed-out
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:fail\t:read\t:timed-out
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:ok\t:read\t7
"""
INDEPENDENT = """
{:index 0, :time 10, :type :invoke, :process 0, :f :write, :value #jepsen.independent.tuple [3 1]}
{:index 1, :time 20, :type :ok, :process 0, :f :write, :value [3 1]}
{:index 2, :time 30, :type :info, :process :nemesis, :f :start, :value nil}
{:index 3, :time 40, :type :invoke, :process 1, :f :cas, :value [3 [1 2]]}
{:index 4, :time 50, :type :ok, :process 1, :f :cas, :value [3 [1 2]]}
{:index 5, :time 60, :type :invoke, :process 1, :f :read, :value [3 nil]}
{:index 6, :time 70, :type :ok, :process 1, :f :read, :value [3 RESULT]}
"""
PORCUPINE = """[{"ClientId":0,"Input":{"Op":1,"Key":"a","Value":"v"},"Call":0,"Output":{"Value":""},"Return":10},
{"ClientId":1,"Input":{"Op":0,"Key":"a","Value":""},"Call":20,"Output":{"Value":"RESULT"},"Return":30}]"""
JSON_EVENTS = """{"process":0,"type":"invoke","f":"write","value":1,"time":1}
{"process":0,"type":"ok","f":"write","value":1,"time":2}
{"process":1,"type":"invoke","f":"read","value":null,"time":3}
{"process":1,"type":"ok","f":"read","value":RESULT,"time":4}
"""


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        (NATIVE, '"v"', '"w"'),
        (KV_EVENTS, '"x 0 0 y"', '""'),
        (UTIL_LINES, "3", "4"),
        (INDEPENDENT, "2", "1"),
        (PORCUPINE, "v", ""),
        (JSON_EVENTS, "1", "null"),
    ],
    ids=["native", "kv-events", "jepsen-util", "independent", "porcupine", "json-events"],
)
def test_each_form_is_read_and_judged(text: str, good: str, bad: str, tmp_path: Path) -> None:
    for answer, code in ((good, 0), (bad, 1)):
        file = tmp_path / f"{code}.history"
        file.write_text(text.replace("RESULT", answer))

        assert main(["check", str(file)], io.StringIO()) == code


EVENTS = [
    ":type :invoke, :f :write, :value 1, :process 0",
    ":type :ok, :f :write, :value 1, :process 0",
    ':type :info, :f :start, :value [:isolated {"n1" #{"n2"}}], :process :nemesis',
    ":type :invoke, :f :read, :value nil, :process 1",
    ":type :ok, :f :read, :value RESULT, :process 1",
]
WAYS = {
    "lines": "\n".join(f"{{{event}}}" for event in EVENTS),
    "records": "\n".join(f"#jepsen.history.Op{{:index 3, {event}}}" for event in EVENTS),
    "vector": "[" + "\n".join(f"{{{event}}}" for event in EVENTS) + "]",
    "list": "(" + "\n ".join(f"{{{event}}}" for event in EVENTS) + ")",
    "vector-behind-a-comment": "; recorded yesterday\n[" + " ".join(f"{{{event}}}" for event in EVENTS) + "\n; the end\n]",
    "over-many-lines": "\n".join("{" + event.replace(", ", ",\n  ") + "}" for event in EVENTS),
    "in-a-test": '{:name "register" :nodes ["n1"]\n :history [' + "".join(f"{{{event}}}" for event in EVENTS) + "]}",
    "with-a-hidden-form": "#_{:type :ok :f :read :value 7 :process 9}\n" + "\n".join(f"{{{event} #_ :hidden}}" for event in EVENTS),
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_edn_is_read_however_it_is_laid_out(text: str) -> None:
    for answer, verdict in (("1", Verdict.LINEARIZABLE), ("2", Verdict.NOT_LINEARIZABLE)):
        history = parse(text.replace("RESULT", answer))

        assert len(history) == 2
        assert check(history).verdict is verdict


@pytest.mark.parametrize("text", ["# nothing\n", "; only a comment", "[]", "INFO nothing of jepsen's"])
def test_a_file_without_an_operation_is_refused_and_does_not_pass(text: str, tmp_path: Path) -> None:
    file = tmp_path / "h"
    file.write_text(text)

    assert main(["check", str(file)], io.StringIO()) == 2


def test_events_at_one_time_have_the_order_of_the_file() -> None:
    """Milliseconds tell no more; a call that the file has behind an answer came later."""
    text = "".join(
        json.dumps({"process": process, "type": kind, "f": f, "value": value, "time": time}) + "\n"
        for process, kind, f, value, time in [
            (0, "invoke", "write", 1, 5),
            (0, "ok", "write", 1, 6),
            (1, "invoke", "read", None, 6),
            (1, "ok", "read", None, 6),
        ]
    )

    assert check(parse(text)).verdict is Verdict.NOT_LINEARIZABLE


def test_a_history_survives_its_file_format() -> None:
    history = [
        Operation(client="a", key="x", kind="cas", args=(1, [2, "z"]), result=True, start=0.5, end=1.25, outcome="ok", index=7),
        Operation(client="b", key="x", kind="put", args=(None,), start=1, end=NEVER, outcome="unknown"),
        Operation(client="b", key="y", kind="put", args=({"n": 1},), start=3, end=4, outcome="refused"),
    ]

    assert parse("".join(dump(history))) == history


def test_a_failed_history_is_drawn_with_the_operation_that_breaks_it(tmp_path: Path) -> None:
    file, picture = tmp_path / "h.jsonl", tmp_path / "h.html"
    file.write_text(NATIVE.replace("RESULT", '"<w>"'))

    code = main(["check", str(file), "--html", str(picture)], io.StringIO())

    drawn = picture.read_text()
    assert code == 1
    assert "no order explains that client b was told get() -&gt; &#x27;&lt;w&gt;&#x27;" in drawn
    assert "the state could only be &#x27;v&#x27;" in drawn
    assert drawn.index(">b</text>") < drawn.index(">a</text>"), "the client that was told so is on top"
    assert "&lt;w&gt;" in drawn
    assert "<w>" not in drawn


def test_a_used_up_budget_has_its_own_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    file.write_text("".join(dump(Operation(client=str(n), key="x", kind="put", args=(n,), start=0, end=9) for n in range(6))))
    with file.open("a") as target:
        target.writelines(dump([Operation(client="r", key="x", kind="get", result=99, start=10, end=11)]))

    assert main(["check", str(file), "--configurations-max", "3"], io.StringIO()) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello\n", "line 1"),
        ('{"client": "a", "kind": "get"}\n', "start"),
        ('{"client": "a", "kind": "get", "start": 5, "end": 4}\n', "not after end"),
        ('{"client": "a", "kind": "get", "start": 1, "end": 4, "outcome": "maybe"}\n', "outcome"),
        ('{"client": "a", "kind": "get", "start": "soon"}\n', "start"),
        ('{"process": 1, "type": "ok", "f": "read", "value": 1}\n', "answer"),
        ('{"process": 1, "type": "invoke", "f": "read"}\n{"process": 1, "type": "invoke", "f": "read"}\n', "calls again"),
        ("{:process 1, :type :invoke", "EDN"),
        ("[" * 100_000, "EDN"),
        ("[1, 2]", "list of objects"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(HistoryMalformed, match=says):
        parse(text)


def test_a_register_may_hold_something_before_the_history_begins(tmp_path: Path) -> None:
    file = tmp_path / "h"
    file.write_text(JSON_EVENTS.splitlines()[2] + "\n" + JSON_EVENTS.splitlines()[3].replace("RESULT", "0"))
    said = io.StringIO()

    assert main(["check", str(file)], said) == 1
    assert "say so with --initial" in said.getvalue()
    assert main(["check", str(file), "--initial", "0"], io.StringIO()) == 0
    assert main(["check", str(file), "--initial", "zero"], io.StringIO()) == 2


def test_a_kind_outside_the_model_is_refused_by_name() -> None:
    history = [Operation(client="a", key="x", kind="increment", start=0, end=1)]

    with pytest.raises(HistoryMalformed, match="increment"):
        check(history, RegisterModel())


def test_an_unreadable_file_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "absent")], io.StringIO()) == 2


def test_an_empty_file_is_an_empty_history() -> None:
    assert check(parse("\n")).verdict is Verdict.LINEARIZABLE


def test_edn_values_are_read() -> None:
    assert parse_edn('{:a [1 -2.5 nil true] "t\\n" #{:x}, #inst "2020" (a b)}') == {
        "a": [1, -2.5, None, True],
        "t\n": ["x"],
        "2020": ["a", "b"],
    }


@pytest.mark.parametrize("text", ["", "[", "{:a}", "[1)", "1 2", "]"])
def test_broken_edn_is_refused(text: str) -> None:
    with pytest.raises(EdnMalformed):
        parse_edn(text)
