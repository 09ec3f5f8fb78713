"""The images of a run: names and sizes, by which a continued run notices other ones.

A listing is {name of a file: its size}. `recipe.json` has the number of images of each split and a
digest of its listing; the listings themselves, compressed next to the checkpoints, say which images
changed.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping
from typing import Any

Listing = Mapping[str, int]
Fingerprint = dict[str, dict[str, Any]]

NAME = "images.json.gz"


def fingerprint(datasets: Mapping[str, Any], listings: Mapping[str, Listing]) -> Fingerprint:
    """{split: its number of images and the digest of its listing, in which the order counts}."""
    return {
        split: {"images": len(dataset), "digest": _digest(listings[split])}
        for split, dataset in datasets.items()
    }


def _digest(listing):
    digest = hashlib.blake2b(digest_size=16)
    for name, size in listing.items():
        digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def pack(listings: Mapping[str, Listing]) -> bytes:
    """The listings as bytes."""
    return gzip.compress(json.dumps(listings).encode(), compresslevel=3, mtime=0)


def unpack(packed: bytes) -> dict[str, dict[str, int]]:
    """The listings that `pack` packed.

    Raises:
        ValueError or OSError: for other bytes.
    """
    try:
        return {
            split: dict(listing) for split, listing in json.loads(gzip.decompress(packed)).items()
        }
    except (EOFError, TypeError, AttributeError) as error:
        raise ValueError("it is not a list of images") from error


def describe_changes(
    before: Fingerprint,
    now: Fingerprint,
    listings_before: Mapping[str, Listing],
    listings_now: Mapping[str, Listing],
) -> str:
    """What differs between two fingerprints, as text; "" if nothing does."""
    differing = [split for split in {**before, **now} if before.get(split) != now.get(split)]
    return "; ".join(
        f"{split} has {_describe_count(before, split)} then, {_describe_count(now, split)} now"
        + _describe_files(listings_before.get(split), listings_now.get(split, {}))
        for split in differing
    )


def _describe_count(prints, split):
    return f"{prints[split]['images']:,} images" if split in prints else "no images"


def _describe_files(before, now):
    if before is None:  # the listing is missing
        return ""
    changes = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "of another size": [name for name in now if name in before and now[name] != before[name]],
    }
    said = [f"{len(names):,} {what}" for what, names in changes.items() if names]
    if not said:
        return " (in another order)"
    first = next(names[0] for names in changes.values() if names)
    return f" ({', '.join(said)}; first {first!r})"
