"""Which keys every store takes, and which file systems share their locks."""

from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.stores.checks import key_fault
from ckptsync.stores.mounts import filesystem_of, sharing_warning

MOUNTINFO = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /mnt rw - tmpfs tmpfs rw
31 30 0:50 / /mnt/backup rw,relatime shared:9 - nfs4 nas:/export rw,vers=4.2
32 30 0:51 / /mnt/with\040space rw - cifs //nas/share rw
33 22 0:52 / /srv rw - fuse.sshfs host:/ rw
34 22 254:2 / /srv rw - xfs /dev/vdb rw
35 22 0:53 / /home rw shared:3 master:1 - fuseblk /dev/sdc1 rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib", "ext4"),
        ("/mnt", "tmpfs"),
        ("/mnt/backupper", "tmpfs"),
        ("/mnt/backup", "nfs4"),
        ("/mnt/backup/orders", "nfs4"),
        ("/mnt/with space/x", "cifs"),
        ("/srv/data", "xfs"),  # mounted over the sshfs
        ("/home/me", "fuseblk"),
    ],
)
def test_the_innermost_and_latest_mount_counts(path: str, kind: str) -> None:
    assert filesystem_of(PurePath(path), MOUNTINFO) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse", "9p"])
def test_a_shared_file_system_is_warned_about(tmp_path: Path, kind: str) -> None:
    mounts = f"22 1 254:1 / / rw - ext4 /dev/vda1 rw\n30 22 0:26 / {tmp_path} rw - {kind} x rw"

    warning = sharing_warning(tmp_path / "bucket", mounts)

    assert warning is not None
    assert kind in warning


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"])
def test_a_local_file_system_is_not(tmp_path: Path, kind: str) -> None:
    assert sharing_warning(tmp_path, f"22 1 254:1 / / rw - {kind} /dev/vda1 rw") is None


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert filesystem_of(tmp_path, Path("/proc/self/mountinfo").read_text()) is not None
    sharing_warning(tmp_path)


@given(st.lists(st.text("abc.-_ é+%", min_size=1), min_size=1, max_size=9).map("/".join))
def test_a_key_without_a_fault_stays_below_its_root(key: str) -> None:
    if key_fault(key) is None:
        inside = PurePath("/root") / key
        assert ".." not in inside.parts
        assert str(inside) == f"/root/{key}"


@given(st.text(max_size=40))
def test_any_text_is_judged(key: str) -> None:
    fault = key_fault(key)

    assert fault is None or fault
    assert key_fault(f"../{key}") is not None
    assert key_fault(f"/{key}") is not None
