"""The storage providers that operators name, and the interface that each speaks."""

import difflib
from enum import StrEnum
from typing import Final


class Scheme(StrEnum):
    S3 = "s3"
    GS = "gs"
    AZ = "az"
    FILE = "file"


# What rclone's S3 backend calls them, but for GCS, which has an interface of its own.
_S3: Final = (
    "AWS Alibaba ArvanCloud BizflyCloud Ceph ChinaMobile Cloudflare Cubbit DigitalOcean Dreamhost "
    "Exaba Fastly FileLu FlashBlade HCP Hetzner HuaweiOBS IBMCOS IDrive ImpossibleCloud Intercolo "
    "IONOS Leviia Liara Linode LyveCloud Magalu Mega Minio Netease Outscale OVHcloud Petabox Qiniu "
    "Rabata RackCorp Rclone Scaleway Scality SeaweedFS Selectel Servercore SpectraLogic StackPath "
    "Storj Synology TencentCOS US3 Wasabi Zadara Zata ZeroServices Other"
)
_KNOWN: Final = {
    **dict.fromkeys(_S3.split(), Scheme.S3),
    **dict.fromkeys(("GCS", "Google", "Google Cloud Storage"), Scheme.GS),
    **dict.fromkeys(("Azure", "AzureBlob", "Azure Blob Storage"), Scheme.AZ),
}
_FOLDED: Final = {name.casefold(): name for name in _KNOWN}


def parse_provider(name: str) -> Scheme:
    """The interface of a provider, named as rclone names it, in any case. Raises ValueError."""
    folded = name.casefold()
    if folded in _FOLDED:
        return _KNOWN[_FOLDED[folded]]
    close = difflib.get_close_matches(folded, _FOLDED, n=1)
    meant = f"; did you mean {_FOLDED[close[0]]!r}?" if close else ""
    raise ValueError(f"is not a known provider{meant} (known: {', '.join(_KNOWN)})")
