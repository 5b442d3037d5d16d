"""Static checks of what enters a public function.

The error is a ValueError that names the function and the argument. Only shapes and
dtypes of arrays and the values of plain numbers are read, so a check costs nothing in a
compiled program, and no value is converted.
"""

from medjax.checks.arrays import FLAGS, NUMBERS, Kind, check_arrays, check_groups
from medjax.checks.axes import AxisName, batch_axes
from medjax.checks.values import (
    check_flags,
    check_integers,
    check_key,
    check_positive,
    check_ranges,
    check_static,
)

__all__ = [
    "FLAGS",
    "NUMBERS",
    "AxisName",
    "Kind",
    "batch_axes",
    "check_arrays",
    "check_flags",
    "check_groups",
    "check_integers",
    "check_key",
    "check_positive",
    "check_ranges",
    "check_static",
]
