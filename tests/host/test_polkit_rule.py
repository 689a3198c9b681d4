"""The rule lets the daemon start and stop the units of pipelines, and nothing else."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.config.load import PIPELINE_NAME

pytestmark = pytest.mark.host

Require = Callable[..., None]

RULE: Final = Path(__file__).parents[2] / "systemd" / "50-ckptsync.rules"

# As polkit runs it: NOT_HANDLED, and a rule that returns nothing, leave it to other rules.
_POLKIT: Final = """
const fs = require("fs"), vm = require("vm");
const [file, asked] = process.argv.slice(1);
const rules = [];
const polkit = {
    Result: {NO: "no", YES: "yes", NOT_HANDLED: null},
    addRule: (rule) => rules.push(rule),
};
vm.runInNewContext('"use strict";' + fs.readFileSync(file, "utf8"), {polkit});
const answers = JSON.parse(asked).map(({id, details, groups}) => rules.map((rule) => rule(
    {id, lookup: (name) => details[name]},
    {isInGroup: (group) => groups.includes(group)},
)));
console.log(JSON.stringify(answers));
"""

START: Final = {
    "id": "org.freedesktop.systemd1.manage-units",
    "details": {"unit": "pipeline@orders.service", "verb": "start"},
    "groups": ["feldera", "ckptsync"],
}


def asked(**details: str) -> dict[str, Any]:
    return {**START, "details": {**START["details"], **details}}  # type: ignore[dict-item]


def answer(question: dict[str, Any]) -> Any:
    done = subprocess.run(
        ["node", "-e", _POLKIT, str(RULE), json.dumps([question])],
        capture_output=True,
        text=True,
        check=True,
    )
    ((said,),) = json.loads(done.stdout)
    return said


def test_the_daemon_may_start_and_stop_a_pipeline(require: Require) -> None:
    require("node")

    assert [answer(asked(verb=verb)) for verb in ("start", "stop")] == ["yes", "yes"]


@pytest.mark.parametrize("name", ["a", "orders-eu_1", "_", "7", "x" * 100])
def test_every_name_of_a_pipeline_is_allowed(require: Require, name: str) -> None:
    require("node")
    assert PIPELINE_NAME.fullmatch(name)

    assert answer(asked(unit=f"pipeline@{name}.service")) == "yes"


@pytest.mark.parametrize(
    "unit",
    [
        "pipeline.service", "pipeline@.service", "pipeline@orders.timer", "pipeline@orders",
        "my-pipeline@orders.service", "pipeline@orders.service\n", "pipeline@a\nb.service",
        "pipeline@..-sshd.service", "pipeline@-orders.service", "pipeline@a.b.service",
        "pipeline@a@b.service", "ssh.service", "", f"pipeline@{'x' * 101}.service",
    ],
)  # fmt: skip
def test_no_other_unit_is_allowed(require: Require, unit: str) -> None:
    require("node")

    assert answer(asked(unit=unit)) is None


@pytest.mark.parametrize("verb", ["restart", "reload", "kill", "set-property", "starts", ""])
def test_nothing_else_may_be_done_to_a_pipeline(require: Require, verb: str) -> None:
    require("node")

    assert answer(asked(verb=verb)) is None


@pytest.mark.parametrize(
    "question",
    [
        {**START, "groups": ["feldera", "sudo"]},
        {**START, "groups": []},
        {**START, "id": "org.freedesktop.systemd1.manage-unit-files"},
        {**START, "id": "org.freedesktop.systemd1.reload-daemon"},
        {**START, "details": {}},
    ],
)
def test_nobody_else_and_no_other_action_is_allowed(
    require: Require, question: dict[str, Any]
) -> None:
    require("node")

    assert answer(question) is None
