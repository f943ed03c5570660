"""Checks that the builders share: shapes and widths, with errors that name the argument."""

from __future__ import annotations

from collections.abc import Sequence

from tfbig.errors import InvalidArgument, check_count


def check_counts(name: str, values: object, *, length: int | None = None) -> None:
    """Raises `InvalidArgument` unless `values` is a sequence of positive whole numbers (`length` of them)."""
    wanted = f"{length} " if length else ""
    sequence = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not sequence or (length and len(values) != length):  # type: ignore[arg-type]
        raise InvalidArgument(f"`{name}` must be a sequence of {wanted}whole numbers, received {values!r}.")
    for index, value in enumerate(values):  # type: ignore[arg-type,var-annotated]
        check_count(f"{name}[{index}]", value)


def check_image_shape(input_shape: object) -> None:
    """Raises `InvalidArgument` unless `input_shape` is `(height, width, channels)`."""
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str) or len(input_shape) != 3:
        raise InvalidArgument(
            f"`input_shape` must be (height, width, channels), received {input_shape!r}. "
            "For a grey image the last entry is 1, e.g. (28, 28, 1)."
        )
    check_counts("input_shape", input_shape)


def widened(filters: int, width: float, *, divisor: int = 1) -> int:
    """Returns `filters * width`, rounded to a multiple of `divisor`, at least one of them."""
    return max(divisor, round(filters * width / divisor) * divisor)
