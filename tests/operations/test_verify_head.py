"""What makes sense in the entries of a head or page, as tables."""

from datetime import UTC, datetime

import pytest

from ckptsync.model import CheckpointId
from ckptsync.operations.verify_head import order_faults
from ckptsync.repository.head import Entry, ManifestRef

_AT = datetime(2026, 1, 1, tzinfo=UTC)


def an_id(timeline: int, seq: int) -> CheckpointId:
    return CheckpointId(f"{timeline:04x}-{seq:08x}-{'0' * 12}")


def an_entry(
    seq: int, *, timeline: int = 1, state: str = "live", named: int | None = None
) -> Entry:
    return Entry.model_validate(
        {
            "id": an_id(timeline, seq if named is None else named),
            "seq": seq,
            "timeline": timeline,
            "epoch": 1,
            "engine_id": f"ckpt-{seq}",
            "step": str(seq),
            "at": _AT,
            "manifest": ManifestRef(digest="0" * 64, size=1),
            "bytes": 1,
            "new_bytes": 1,
            "state": state,
        }
    )


@pytest.mark.parametrize(
    ("seqs", "faults"),
    [
        ((), 0),
        ((1,), 0),
        ((1, 2, 9, 99), 0),
        ((2, 1), 1),
        ((1, 1), 1),
        ((1, 3, 2, 4), 1),
        ((99, 100), 1),
    ],
)
def test_seqs_increase_up_to_the_next(seqs: tuple[int, ...], faults: int) -> None:
    assert len(list(order_faults([an_entry(seq) for seq in seqs], 100))) == faults


def test_an_id_and_its_seq_agree() -> None:
    (fault,) = order_faults([an_entry(5, named=6)], 100)
    assert "has seq 5, which its id contradicts" in fault
