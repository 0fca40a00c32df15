import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kerasbn.folding.affine import (
    Affine,
    CannotFold,
    affine,
    compose,
    compress,
    expand,
    identity,
    join,
    same,
    split,
)

numbers = st.floats(-3, 3).map(lambda x: round(x, 2))


def affines(*shape: int) -> st.SearchStrategy[Affine]:
    one = arrays(np.float64, shape, elements=numbers)
    return st.builds(affine, one, one)


def applied(a: Affine, x: np.ndarray) -> np.ndarray:
    return np.asarray(a.s * x + a.t)


X = np.random.default_rng(0).normal(size=(5, 2, 3))


@given(affines(1, 3), affines(2, 1))
def test_composing_is_applying_one_after_the_other(outer: Affine, inner: Affine) -> None:
    np.testing.assert_allclose(
        applied(compose(outer, inner), X), applied(outer, applied(inner, X)), atol=1e-12
    )


@given(affines(2, 3))
def test_the_identity_changes_nothing(a: Affine) -> None:
    one = identity(2)
    assert one.is_identity()
    assert same(compose(a, one), a)
    assert same(compose(one, a), a)


@given(affines(2, 3), affines(2, 1))
def test_joined_affines_apply_to_joined_tensors(a: Affine, b: Affine) -> None:
    y = np.random.default_rng(1).normal(size=(5, 2, 4))
    both = join([a, b], [3, 4], axis=1)
    want = np.concatenate([applied(a, X), applied(b, y)], axis=-1)
    np.testing.assert_array_equal(applied(both, np.concatenate([X, y], axis=-1)), want)


@given(affines(2, 7))
def test_splitting_undoes_joining(a: Affine) -> None:
    assert same(join(split(a, [3, 4], axis=1), [3, 4], axis=1), a)


@given(affines(2, 1))
def test_what_is_even_stays_written_once(a: Affine) -> None:
    wide = expand(a, [2, 3])
    assert wide.shape == (2, 3)
    assert same(wide, a)
    assert compress(wide).shape[1] == 1
    assert same(compress(wide), a)


@given(affines(1, 3))
def test_the_same_map_may_be_written_with_other_shapes(a: Affine) -> None:
    assert same(expand(a, [2, 3]), a)
    other = affine(a.s, a.t + 1)
    assert not same(a, other)


def test_unknown_lengths_are_refused_only_where_they_matter() -> None:
    even, uneven = affine([[2.0]], [[1.0]]), affine([[2.0, 3.0]], [[1.0, 1.0]])
    assert split(even, [None, None], axis=1) == [even, even]
    with pytest.raises(CannotFold, match="unknown length"):
        split(uneven, [None, 1], axis=1)
    with pytest.raises(CannotFold, match="unknown length"):
        expand(even, [None, 2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_only_finite_numbers_make_an_affine(bad: float) -> None:
    with pytest.raises(CannotFold, match="not finite"):
        affine([1.0, bad], 0.0)
