"""Stored tensors of a head, and whether they are all of it: nothing is loaded half.

In:  the slots of a head, and an open directory.  Out: nothing, or an error with the whole table.
"""

from collections.abc import Mapping

from unimoe.checkpoint.slots import Slot, compare
from unimoe.checkpoint.storage import TensorSource
from unimoe.errors import CheckpointError


def require_fit(
    slots: Mapping[str, Slot], tensors: TensorSource, stored: Mapping[str, str], what: str
) -> None:
    """Stop unless every slot is filled and every stored tensor has one.

    Args:
        slots: what the head needs.
        tensors: where they lie.
        stored: names of its tensors, as in `slots` -> their keys there.
        what: the head and its directory, for the message.

    Raises:
        CheckpointError: a tensor is missing, misshaped, unknown or of a foreign type.
    """
    report = compare(
        slots,
        {name: tensors.shapes[key] for name, key in stored.items()},
        foreign={
            name: tensors.stored_types[key]
            for name, key in stored.items()
            if key not in tensors.dtypes
        },
        ties_embeddings=False,
        aside={},
    )
    if not report.is_complete:
        raise CheckpointError(f"{what} is not what its configuration describes:\n{report.table()}")
