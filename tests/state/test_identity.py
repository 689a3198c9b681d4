"""What a node remembers of itself is there before it is needed."""

import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.state.database import Database
from ckptsync.state.identity import Identity, Pushed, Repair, Restored
from tests.state.processes import process

AT: Final = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)

INTEND_THEN_WAIT = """
import sys, time
from pathlib import Path
from ckptsync.state.database import Database
from ckptsync.state.identity import Identity
identity = Identity(Database(Path(sys.argv[1])))
identity.begin("repository", "instance")
identity.intend("write-1")
print(identity.remembered().node_id, flush=True)
time.sleep(600)
"""


def test_a_new_node_remembers_nothing_but_its_own_id(database: Database) -> None:
    me = Identity(database).remembered()

    assert len(me.node_id) == 36
    assert me.repository_id is None
    assert (me.instances, me.write_ids) == (frozenset(), frozenset())
    assert (me.revision, me.epoch, me.held_epoch) == (0, 0, 0)
    assert (me.restored, me.pushed) == (None, None)


def test_the_node_id_stays_and_another_database_has_another(path: Path, database: Database) -> None:
    other = Database(path.with_name("other.sqlite"))

    node_id = Identity(database).remembered().node_id

    assert Identity(database).remembered().node_id == node_id
    assert Identity(other).remembered().node_id != node_id
    other.close()


def test_what_was_intended_survives_a_kill_before_it_was_done(path: Path) -> None:
    with process(INTEND_THEN_WAIT, path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()

    database = Database(path)
    me = Identity(database).remembered()
    assert me.repository_id == "repository"
    assert me.instances == {"instance"}
    assert me.write_ids == {"write-1"}
    database.close()


def test_intents_are_kept_until_a_later_one_is_known_to_be_stored(database: Database) -> None:
    identity = Identity(database)
    with database.transaction():  # one commit for all, or the test takes a thousand syncs
        for number in range(1_100):
            identity.intend(f"write-{number}")

    failing = identity.remembered().write_ids
    identity.wrote("write-1097", epoch=3)
    stored = identity.remembered()

    assert len(failing) == 1_100
    assert stored.write_ids == {"write-1097", "write-1098", "write-1099"}
    assert stored.held_epoch == 3


def test_what_was_seen_only_goes_up(database: Database) -> None:
    identity = Identity(database)
    identity.saw(revision=5, epoch=2)
    identity.saw(revision=4, epoch=3)
    identity.saw(revision=6, epoch=1)

    assert (identity.remembered().revision, identity.remembered().epoch) == (6, 3)


def test_numbers_of_any_length_are_compared_as_numbers(database: Database) -> None:
    identity = Identity(database)
    for revision in (9, 10, 2**80, 2**63):
        identity.saw(revision=revision, epoch=0)

    assert identity.remembered().revision == 2**80


def pulled(identity: Identity, *, from_bucket: bool = True) -> None:
    identity.publishing("0001-a", "engine-a", 2**64 - 1, "life-1")
    identity.published(from_bucket=from_bucket)


def test_a_push_supersedes_what_was_restored(database: Database) -> None:
    identity = Identity(database)

    pulled(identity)
    restored = identity.remembered()
    identity.pushed("0001-b", "engine-b", 7, None)
    pushed = identity.remembered()

    assert restored.restored == Restored(
        checkpoint_id="0001-a", engine_id="engine-a", step=2**64 - 1, lineage="life-1"
    )
    assert restored.pushed is None
    assert pushed.restored is None
    assert pushed.pushed == Pushed(
        checkpoint_id="0001-b", engine_id="engine-b", step=7, lineage=None
    )


def test_what_is_being_put_in_place_is_not_restored_yet(database: Database) -> None:
    identity = Identity(database)

    identity.publishing("0001-a", "engine-a", 5, None)

    me = identity.remembered()
    assert me.restored is None
    assert me.publishing is not None
    assert me.publishing.checkpoint_id == "0001-a"


def test_a_pull_from_elsewhere_leaves_no_point_to_go_on_from(database: Database) -> None:
    identity = Identity(database)
    pulled(identity)

    pulled(identity, from_bucket=False)

    me = identity.remembered()
    assert (me.publishing, me.restored) == (None, None)


@pytest.mark.parametrize("from_bucket", [True, False])
def test_a_pull_supersedes_what_was_pushed(database: Database, from_bucket: bool) -> None:
    identity = Identity(database)
    identity.pushed("0001-b", "engine-b", 7, None)

    pulled(identity, from_bucket=from_bucket)

    me = identity.remembered()
    assert me.pushed is None
    assert (me.restored is not None) is from_bucket


def test_what_tells_checkpoints_of_one_name_apart_is_remembered(database: Database) -> None:
    identity = Identity(database)
    later = AT + timedelta(microseconds=1)

    identity.pushed("0001-b", "engine-b", 7, None, fingerprint=2**64 - 1, at=AT)
    pushed = identity.remembered().pushed
    identity.compared("0001-b", later)
    compared = identity.remembered().pushed
    identity.publishing("0001-a", "engine-a", 5, None, fingerprint=3)
    identity.compared("0001-a", later)
    identity.published(from_bucket=True)
    restored = identity.remembered().restored
    identity.compared("0001-a", AT)
    looked_at = identity.remembered().restored

    assert pushed is not None
    assert (pushed.fingerprint, pushed.at) == (2**64 - 1, AT)
    assert compared == replace(pushed, at=later)
    assert restored is not None
    assert (restored.fingerprint, restored.at) == (3, None)
    assert looked_at == replace(restored, at=AT)


def test_a_pull_before_the_first_push_is_not_forgotten_by_beginning(database: Database) -> None:
    identity = Identity(database)
    pulled(identity)

    identity.begin("repository", "instance-1")
    identity.begin("repository", "instance-2")
    identity.intend("write")
    identity.wrote("write", epoch=3)

    me = identity.remembered()
    assert me.restored is not None
    assert me.instances == {"instance-1", "instance-2"}
    assert me.held_epoch == 3


def test_another_repository_starts_from_nothing_seen(database: Database) -> None:
    identity = Identity(database)
    identity.begin("first", "instance-1")
    identity.saw(revision=500, epoch=9)
    identity.intend("write")
    identity.wrote("write", epoch=9)
    identity.pushed("0001-b", "engine-b", 7, None)

    identity.begin("second", "instance-2")

    me = identity.remembered()
    assert (me.repository_id, me.revision, me.epoch, me.held_epoch) == ("second", 0, 0, 0)
    assert (me.restored, me.pushed) == (None, None)
    assert me.instances == {"instance-1", "instance-2"}


def test_who_only_reads_remembers_the_repository_and_what_was_seen_of_it(
    database: Database,
) -> None:
    identity = Identity(database)

    identity.joined("repository")
    identity.saw(revision=7, epoch=2)
    identity.joined("repository")

    me = identity.remembered()
    assert (me.repository_id, me.revision, me.epoch) == ("repository", 7, 2)
    assert me.instances == frozenset()
    assert me.held_epoch == 0


def test_joining_another_repository_forgets_what_was_seen_of_the_first(database: Database) -> None:
    identity = Identity(database)
    identity.publishing("0001-00000001-000000000001", "ckpt-1", 1, None)
    identity.joined("one")
    assert identity.remembered().publishing is not None, "of no repository yet, so of this one"
    identity.saw(revision=7, epoch=2)

    identity.joined("other")

    me = identity.remembered()
    assert (me.repository_id, me.revision, me.epoch, me.publishing) == ("other", 0, 0, None)


REPAIR = Repair(instance="instance-2", next_seq=41, unrelated=True)


def test_a_repair_is_remembered_until_something_was_pushed(database: Database) -> None:
    identity = Identity(database)
    identity.begin("repository", "instance-1")

    identity.repairing("repository", replace(REPAIR, next_seq=40))
    identity.repairing("repository", REPAIR)

    me = identity.remembered()
    assert me.repair == REPAIR
    assert me.instances == {"instance-1", "instance-2"}
    identity.pushed("0001-b", "engine-b", 7, None)
    assert identity.remembered().repair is None


def test_the_repair_of_one_repository_is_none_of_another(database: Database) -> None:
    identity = Identity(database)
    identity.repairing("one", REPAIR)

    identity.joined("other")

    assert identity.remembered().repair is None


def test_what_is_gone_was_never_restored_or_pushed_but_may_lie_half_in_place(
    database: Database,
) -> None:
    identity = Identity(database)
    identity.publishing("0001-a", "engine-a", 1, None)
    identity.published(from_bucket=True)
    identity.publishing("0001-c", "engine-c", 3, None)
    identity.pushing("0001-b", "engine-b", 2, None)

    identity.forget(["0001-b", "0001-c", "0001-d"])

    me = identity.remembered()
    assert me.restored is not None
    assert me.publishing is not None
    assert me.pushing is None
    identity.forget(["0001-a"])
    assert identity.remembered().restored is None


def test_what_was_seen_goes_down_only_where_that_is_said(database: Database) -> None:
    identity = Identity(database)
    identity.joined("repository")
    identity.saw(revision=2**70, epoch=9)

    identity.went_back(revision=2**65, epoch=2, write_id="theirs")

    me = identity.remembered()
    assert (me.revision, me.epoch) == (2**65, 2)
    assert me.write_ids == frozenset()


def test_own_writes_that_later_ones_replaced_are_known_as_such(database: Database) -> None:
    identity = Identity(database)
    wrote(identity, "first", "failed", "second")

    me = identity.remembered()

    assert me.write_ids == {"second"}
    assert [id in me.superseded for id in ("first", "failed", "second", "theirs", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_was_replaced_since_is_not_held_against_a_head_that_was_read_before(
    database: Database,
) -> None:
    identity = Identity(database)
    wrote(identity, "first", "second")
    me = identity.remembered()

    wrote(identity, "third")

    assert "first" in me.superseded
    assert "second" not in me.superseded
    assert "second" in identity.remembered().superseded


def test_a_write_that_head_went_back_to_is_the_newest_again(database: Database) -> None:
    identity = Identity(database)
    wrote(identity, "first", "second", "third")

    identity.went_back(revision=1, epoch=1, write_id="second")

    me = identity.remembered()
    assert me.write_ids == {"second", "third"}
    assert "second" not in me.superseded
    assert "first" in me.superseded
    wrote(identity, "fourth")
    me = identity.remembered()
    assert me.write_ids == {"fourth"}
    assert all(id in me.superseded for id in ("first", "second", "third"))


def test_of_the_writes_that_were_replaced_the_newest_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckptsync.state.identity.SUPERSEDED_KEPT", 3)
    identity = Identity(database)
    wrote(identity, *"abcdef")

    me = identity.remembered()

    assert [id for id in "abcdef" if id in me.superseded] == ["c", "d", "e"]


def wrote(identity: Identity, *ids: str) -> None:
    for id in ids:
        identity.intend(id)
    identity.wrote(ids[-1], epoch=1)


def test_a_database_from_before_fingerprints_were_remembered_is_gone_on_with(
    path: Path, database: Database
) -> None:
    Identity(database)
    with database.transaction() as transaction:
        transaction.execute("ALTER TABLE point DROP COLUMN fingerprint")
        transaction.execute("ALTER TABLE point DROP COLUMN at")

    Identity(database).pushed("0001-00000001-000000000001", "ckpt-1", 1, None)

    pushed = Identity(database).remembered().pushed
    assert pushed is not None
    assert pushed.engine_id == "ckpt-1"
