"""Names that protect a checkpoint, as the command line takes and tells them."""

import getpass
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.cli.keeping import asker, moment_ahead, name_for
from tests.cli.buckets import LEAN, bucket, edit_entries, head, pushed, ruled, states
from tests.e2e.daemons import daemon
from tests.e2e.site import Site
from tests.pipelines import snapshot

NOON: Final = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """With two checkpoints in its bucket."""
    return pushed(tmp_path / "host-a", 2)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", "2027-01-31T23:59:59+00:00"),
        ("2026-11-20", "2026-11-20T23:59:59+00:00"),
        ("2027-01-31T18:00", "2027-01-31T18:00:00+00:00"),
        ("2027-01-31 18:00:30", "2027-01-31T18:00:30+00:00"),
        ("2027-01-31T18:00+01:00", "2027-01-31T17:00:00+00:00"),
        ("2027-01-31T18:00Z", "2027-01-31T18:00:00+00:00"),
        ("9999-12-31T23:00-12:00", "9999-12-31T23:59:59.999999+00:00"),
        ("30d", "2026-12-20T12:00:00+00:00"),
        ("1h30m", "2026-11-20T13:30:00+00:00"),
    ],
)
def test_a_moment_to_come_is_taken_as_people_write_it(text: str, moment: str) -> None:
    assert moment_ahead(text, now=NOON).isoformat() == moment


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2026-11-19", "'2026-11-19' has passed"),
        ("2026-11-20T12:00", "has passed"),
        ("0001-01-01T00:00+12:00", "has passed"),
        ("0s", "has passed"),
        ("999999999d", "is too far ahead"),
        ("tomorrow", "'tomorrow' is no moment: write a date"),
        ("2027-02-30", "is no moment"),
        ("-30d", "is no moment"),
        ("", "'' is no moment"),
    ],
)
def test_what_is_no_moment_to_come_is_told_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        moment_ahead(text, now=NOON)


def test_who_asked_is_a_user_on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")

    assert asker("host-a") == "ada@host-a"


def test_who_asked_can_be_stored_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGNAME", os.fsdecode(b"\xff" + b"x" * 300))

    assert asker("host-a") == "?" + "x" * 127


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nameless)

    assert asker("host-a") == f"{os.getuid()}@host-a"


def test_a_checkpoint_is_kept_until_its_name_is_taken_away(site: Site) -> None:
    oldest = head(site).checkpoints[0]
    where = site.buckets["orders"]
    what = f"{oldest.id} (engine id step-1, step {oldest.step})"
    until = "2999-01-31 23:59:59 UTC"
    keep = ("keep", "step-1", "--name", "pre-upgrade", "--until", "2999-01-31")

    kept, again = site.run(*keep), site.run(*keep)
    (named,) = head(site).keeps.items()
    ruled(site, **LEAN)
    pruned = site.run("prune")
    unkept, unkept_again = (site.run("unkeep", "pre-upgrade") for _ in range(2))

    assert kept.out == f"kept {what} as 'pre-upgrade' until {until} in {where}\n"
    assert again.out == f"already {kept.out}"
    assert named[0] == "pre-upgrade"
    assert named[1].checkpoint == oldest.id
    assert named[1].by.endswith("@host-a")
    assert pruned.out.startswith("nothing to prune")
    assert unkept.out == f"'pre-upgrade' no longer keeps checkpoint {oldest.id} in {where}\n"
    assert unkept_again.out == f"there is no keep 'pre-upgrade' in {where}\n"
    assert {each.code for each in (kept, again, pruned, unkept, unkept_again)} == {0}
    assert head(site).keeps == {}
    assert states(site) == {"step-1": "live", "step-2": "live"}, "unkeep deletes nothing"


@pytest.mark.parametrize("by", ["id", "engine_id"])
def test_a_keep_without_a_name_is_taken_away_by_what_it_was_asked_for(site: Site, by: str) -> None:
    wanted = getattr(head(site).checkpoints[0], by)

    kept, unkept = (site.run(each, wanted, "--json").document for each in ("keep", "unkeep"))

    assert kept["name"] == unkept["name"] == wanted
    assert (unkept["checkpoint"], unkept["already"]) == (kept["checkpoint"]["id"], False)
    assert head(site).keeps == {}


@pytest.mark.parametrize(
    ("asked_for", "name"),
    [
        ("step-1", "step-1"),
        ("0001-00000001-0123456789ab", "0001-00000001-0123456789ab"),
        ("latest", None),
        ("a/b", None),
        ("x" * 65, None),
    ],
)
def test_an_id_is_a_name_where_it_can_be_one(asked_for: str, name: str | None) -> None:
    assert name_for(asked_for) == name


def test_a_keep_of_the_latest_without_a_name_has_that_of_the_checkpoint(site: Site) -> None:
    latest = head(site).latest

    document = site.run("keep", "latest", "--json").document

    assert document["name"] == document["checkpoint"]["id"] == latest
    assert (document["until"], document["already"], document["revived"]) == (None, False, False)
    assert list(head(site).keeps) == [latest]
    unkept = site.run("unkeep", str(latest), "--json").document
    assert unkept == {
        "pipeline": "orders",
        "bucket": site.buckets["orders"],
        "name": latest,
        "checkpoint": latest,
        "already": False,
    }


def test_a_duration_counts_from_now(site: Site) -> None:
    before = datetime.now(UTC)

    document = site.run("keep", "latest", "--until", "30d", "--json").document

    until = datetime.fromisoformat(document["until"])
    assert abs(until - before - timedelta(days=30)) < timedelta(minutes=5)


def test_a_retired_one_that_is_kept_is_live_again(site: Site) -> None:
    retired_at = datetime.now(UTC)
    edit_entries(
        site,
        lambda entry: (
            {"state": "retired", "retired_at": retired_at} if entry.engine_id == "step-1" else {}
        ),
    )

    kept = site.run("keep", "step-1", "--name", "mine")

    assert kept.out.endswith("; it was retired, and is live again\n")
    assert states(site) == {"step-1": "live", "step-2": "live"}


@pytest.mark.parametrize(
    ("command", "code", "problem"),
    [
        (("keep", "latest", "--until", "2020-01-01"), 2, "'2020-01-01' has passed"),
        (("keep", "latest", "--until", "soon"), 2, "'soon' is no moment"),
        (("keep", "latest", "--name", ".hidden"), 2, "'.hidden' is no name"),
        (("keep", "latest", "--name", "x" * 65), 2, "is no name"),
        (("unkeep", "a b"), 2, "'a b' is no name"),
        (("unkeep", "mine", "nonesuch"), 2, "nonesuch"),
        (("keep", "nonesuch"), 10, "'nonesuch' were not found"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    site: Site, command: tuple[str, ...], code: int, problem: str
) -> None:
    before = snapshot(bucket(site))

    done = site.run(*command)

    assert done.code == code
    assert problem in done.err.splitlines()[0]
    assert done.out == ""
    assert snapshot(bucket(site)) == before


def test_a_name_that_keeps_another_is_not_taken_from_it(site: Site) -> None:
    site.run("keep", "step-1", "--name", "mine")

    done = site.run("keep", "step-2", "--name", "mine", "--json")

    assert (done.code, done.document["error"]["kind"]) == (13, "Refused")
    assert head(site).keeps["mine"].checkpoint == head(site).checkpoints[0].id


def test_the_name_may_come_from_the_environment(site: Site) -> None:
    done = site.run("keep", "latest", environment={"CKPTSYNC_KEEP_NAME": "mine"})

    assert done.code == 0, done.err
    assert list(head(site).keeps) == ["mine"]


def test_a_daemon_keeps_as_the_command_does(site: Site) -> None:
    with daemon(site):
        kept = site.run("keep", "latest", "--name", "mine", "--until", "2999-01-31", "--json")
        unkept = site.run("unkeep", "mine")

    assert kept.code == 0, kept.err
    assert kept.document["until"] == "2999-01-31T23:59:59+00:00"
    assert unkept.out.startswith("'mine' no longer keeps checkpoint ")
