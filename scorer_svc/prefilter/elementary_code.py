"""Emit exp and log of float32 vectors whose errors are proved. This module needs llvmlite.

Below, u is 2 ** -24: a rounding of float32 changes a result by at most u of it.
"""

from __future__ import annotations

from math import factorial
from typing import Any

from scorer_svc.prefilter.vectors import Floats

EXP_LEAST = -87.0  # exp of less is no normal float32
_ROUNDING = 1.5 * 2.0**23  # added to a number of less than 2 ** 22, it leaves the nearest whole number in the last bits
_LOG2_E, _LN_2_HIGH, _LN_2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
_DEGREE = 7
_HALF_ROOT = 0x3F3504F3  # the bits of the square root of 1/2


def exp(to: Floats, values: Any) -> Any:
    """Return exp of values from EXP_LEAST to 0, to 8 u of each; exactly 1 for 0. Lower ones are taken for EXP_LEAST.

    With n the whole number nearest to x / ln 2, and r = x - n ln 2, exp(x) is 2 ** n times exp(r), and \\|r\\| is less
    than 0.34663 (half of ln 2, and what the product's rounding adds). Taylor's series of degree 7 leaves off less than
    r ** 8 / 8! * exp(0.35) < 8e-9, or 0.2 u of exp(r).

    Rounding: ln 2 is split, so that n times its high part (9 bits, and n has 7) is exact, and so is its difference from
    x, up to u of 0.35; the rest adds u of 0.35 once more and of 0.03 for the low part, in all 0.75 u of exp(r). The
    steps of Horner's scheme, q = 1 / k! + r q', add u of q and \\|r\\| times u of q' and the error of q'. The last two
    have q of at most 1.42 and 1.2; from the third on, errors are less than 1.3 u. So the last but one is off by at most
    1.2 u + 0.35 (0.6 u + 1.3 u) < 1.9 u, and the last by 1.42 u + 0.35 (1.2 u + 1.9 u) < 2.6 u, less than 3.7 u of
    exp(r), which is at least 0.7. With what the series leaves off that is 4.7 u. Scaling by 2 ** n is exact.
    """
    values = to.most(values, to.all(EXP_LEAST))
    shifted = to.plus(to.all(_ROUNDING), values, to.all(_LOG2_E))
    power = to.to.fsub(shifted, to.all(_ROUNDING))
    rest = to.plus(to.plus(values, power, to.all(-_LN_2_HIGH)), power, to.all(-_LN_2_LOW))
    sums = to.all(1 / factorial(_DEGREE))
    for degree in range(_DEGREE - 1, -1, -1):
        sums = to.plus(to.all(1 / factorial(degree)), sums, rest)
    return to.floats(to.to.add(to.bits(sums), to.to.shl(to.bits(shifted), to.all_whole(23))))


def log(to: Floats, values: Any) -> Any:
    """Return the natural logarithm of values from 1 to 2 ** 20, off by less than 2 u and 6 u of it.

    A value is m 2 ** n with m between the root of 1/2 and that of 2. With f = (m - 1) / (m + 1), which is at most
    0.1716, log m = 2 (f + f ** 3 / 3 + f ** 5 / 5 + ...). The terms from f ** 11 on are less than 1e-9, or 0.02 u.

    Rounding: m - 1 is exact (Sterbenz), so f is off by 2 u of it, and the sum of the series times f by 5 u of log m,
    which is at most 0.35. If n is 0, that and the last sum are 6 u of the result. Otherwise the result is at least half
    of n ln 2, which is off by 2 u of it, that is 4 u of the result, and the last sum by 1 u of it.
    """
    build = to.to
    bits = to.bits(values)
    power = build.ashr(build.sub(bits, to.all_whole(_HALF_ROOT)), to.all_whole(23))
    part = to.floats(build.sub(bits, build.shl(power, to.all_whole(23))))
    one = to.all(1.0)
    fraction = build.fdiv(build.fsub(part, one), build.fadd(part, one))
    square = build.fmul(fraction, fraction)
    sums = to.all(2 / 9)
    for degree in (7, 5, 3, 1):
        sums = to.plus(to.all(2 / degree), sums, square)
    return to.plus(build.fmul(sums, fraction), build.sitofp(power, to.kind), to.all(0.69314718))
