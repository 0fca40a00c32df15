"""Laws of folding, broken on purpose: each has to make some random models wrong."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from kerasbn.folding import pass_through, plan, search
from kerasbn.folding.affine import Affine, CannotFold
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Call
from kerasbn.folding.keras.affine_layers import AFFINE_LAYERS
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS, Part
from kerasbn.folding.keras.pass_through_layers import PASS_THROUGH_LAYERS, Law
from kerasbn.folding.linear import LinearMap
from kerasbn.folding.pass_through import PassThrough
from kerasbn.folding.windows import Window

from .layers import L
from .rare_models import (
    clipped,
    joined,
    padded,
    permuted,
    pooled,
    shared_reads_others,
    two_readers,
)

Breaking = AbstractContextManager[Any]


@dataclass(frozen=True)
class Broken:
    """A broken law, and the layer or the rare model that needs it."""

    breaking: Callable[[], Breaking]
    about: Any


def _linear(*kinds: type, **changes: Any) -> Breaking:
    return patch.dict(
        LINEAR_LAYERS, {kind: replace(LINEAR_LAYERS[kind], **changes) for kind in kinds}
    )


def _pass(law: Law, *kinds: type) -> Breaking:
    return patch.dict(PASS_THROUGH_LAYERS, dict.fromkeys(kinds, law))


def _changed(owner: Any, name: str, change: Callable[..., Any]) -> Breaking:
    """Replace a function: `change` takes the known one and its arguments."""
    known = getattr(owner, name)
    return patch.object(owner, name, lambda *args, **kwargs: change(known, *args, **kwargs))


def _parts(kind: type, change: Callable[[Part], Part]) -> Breaking:
    known = LINEAR_LAYERS[kind].parts
    return _linear(kind, parts=lambda *args: [change(part) for part in known(*args)])


def _without_epsilon() -> Breaking:
    known = AFFINE_LAYERS[L.BatchNormalization]

    def law(call: Call) -> Affine:
        with patch.object(call.layer, "epsilon", 0.0):
            return known(call)

    return patch.dict(AFFINE_LAYERS, {L.BatchNormalization: law})


def _swapped(part: Part) -> Part:
    return replace(part, outputs=tuple(names[::-1] for names in part.outputs))


def _unswapped_bounds(known: Any, *args: Any) -> tuple[Clip, Affine]:
    clip, out = known(*args)
    turned = out.s < 0
    lower = np.where(turned, clip.upper, clip.lower)
    return Clip(lower, np.where(turned, clip.lower, clip.upper)), out


def _t_for_every_input() -> Breaking:
    known = PASS_THROUGH_LAYERS[L.Add]

    def law(call: Call) -> PassThrough:
        return PassThrough(known(call).forward, lambda b: [[b for _ in call.data]])

    return _pass(law, L.Add)


def _refuse(*_: Any) -> None:
    raise CannotFold("pads its input with zeros, which would miss the offset t")


def _no_t(known: Any, part: LinearMap, k: Any, t: Any, names: Any) -> Any:
    return known(part, k, 0 * t, names)


def _t_without_sign(known: search.Split, a: Affine) -> tuple[Affine, Affine]:
    inner, outer = known(a)
    return Affine(inner.s, a.t), outer


def _readers_ignored(_: Any, backward: Any, value: Any, a: Affine) -> Iterator[None]:
    backward.requested[value] = a
    return iter(())  # no further steps


AVERAGE = PASS_THROUGH_LAYERS[L.AveragePooling2D]
BROKEN: dict[str, Broken] = {
    "no-t-in-kernel": Broken(lambda: _changed(LinearMap, "_product", _no_t), L.Dense),
    "no-epsilon": Broken(_without_epsilon, L.Dense),
    "bias-not-scaled": Broken(
        lambda: _changed(LinearMap, "after", lambda f, m, k, b, a: (f(m, k, b, a)[0], b + a.t)),
        L.Dense,
    ),
    "depthwise-order": Broken(
        lambda: _parts(L.DepthwiseConv2D, _swapped), L.DepthwiseConv2D
    ),
    "t-into-padding": Broken(lambda: _changed(Window, "at_taps", lambda _, __, a, ___: a), padded),
    "refuses-too-much": Broken(lambda: _linear(L.Conv2D, uneven=_refuse), L.Conv2D),
    "transposed-axes": Broken(
        lambda: _parts(L.Conv2DTranspose, lambda p: replace(p, axes=p.axes[:-2] + "io")),
        L.Conv2DTranspose,
    ),
    "gru-bias-row": Broken(
        lambda: _parts(L.GRU, lambda p: replace(p, row=p.row if p.row is None else 1)), L.GRU
    ),
    "t-without-sign": Broken(lambda: _changed(plan, "by_sign", _t_without_sign), pooled),
    "negative-max": Broken(lambda: _pass(AVERAGE, L.MaxPooling2D), L.MaxPooling2D),
    "t-into-zero-padding": Broken(lambda: _pass(AVERAGE, L.ZeroPadding2D), L.ZeroPadding2D),
    "split-reversed": Broken(
        lambda: _changed(pass_through, "split", lambda f, a, n, axis: f(a, n[::-1], axis)[::-1]),
        L.Concatenate,
    ),
    "join-reversed": Broken(
        lambda: _changed(pass_through, "join", lambda f, a, n, axis: f(a[::-1], n[::-1], axis)),
        joined,
    ),
    "permute-inverted": Broken(
        lambda: _changed(
            pass_through, "permutation", lambda f, order: f(np.argsort(order).tolist())
        ),
        permuted,
    ),
    "flatten-reversed": Broken(
        lambda: _changed(
            pass_through, "_reshaped", lambda f, *a: f(*a).map(lambda v: v[..., ::-1])
        ),
        L.Flatten,
    ),
    "sum-takes-t-twice": Broken(_t_for_every_input, L.Add),
    "bounds-not-swapped": Broken(lambda: _changed(search, "pass_clip", _unswapped_bounds), clipped),
    "readers-ignored": Broken(
        lambda: _changed(search._Backward, "_check_readers", _readers_ignored), two_readers
    ),
    "calls-ignored": Broken(
        lambda: patch.object(search._Forward, "_missing", lambda *_: None), shared_reads_others
    ),
}  # fmt: skip
