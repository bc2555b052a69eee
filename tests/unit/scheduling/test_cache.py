"""The response cache: what makes two requests the same, and what has to leave when it is full."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.core.tensors import InferRequest, ModelKey
from naiad.scheduling.cache import (
    ENTRY_OVERHEAD_BYTES,
    HEAVY_BYTES,
    HEAVY_TEXTS,
    MAX_LEAVING,
    CacheEntry,
    RequestDigest,
    ResponseCache,
    entry_bytes,
    is_heavy,
    make_entry,
)

KEY = ModelKey("m", 1)
DIGEST = RequestDigest(KEY, 1, ["A", "B"])


def array(values: Any, dtype: Any = np.float32) -> Any:
    return np.array(values, dtype)


def texts(*values: bytes) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


REQUEST = InferRequest("m", None, {"X": array([[1, 2]]), "Y": texts(b"a", b"bc")})


def test_the_same_request_has_the_same_digest_whatever_does_not_reach_the_model() -> None:
    other = replace(
        REQUEST,
        version=1,
        inputs={"Y": texts(b"a", b"bc"), "X": array([[1, 2]])},
        outputs=("B", "A"),
        request_id="7",
        priority=3,
        timeout_us=9,
        deadline_ns=5,
        parameters={"mine": 1},
    )
    assert DIGEST(other) == DIGEST(REQUEST)
    strided = replace(REQUEST, inputs={**REQUEST.inputs, "X": array([[1, 0, 2, 0]])[:, ::2]})
    assert DIGEST(strided) == DIGEST(REQUEST)


@pytest.mark.parametrize(
    "inputs",
    [
        {"X": array([[1, 3]])},
        {"X": array([[1], [2]])},
        {"X": array([1, 2])},
        {"X": array([[1, 2]], np.int32).view(np.float32)},
        {"X": array([[1, 2]]).view(np.uint32)},
        {"X": array([[0.0, 2]])},
        {"X": array([[-0.0, 2]])},
        {"Z": array([[1, 2]])},
        {"Y": texts(b"ab", b"c")},
        {"Y": texts(b"a", b"bc", b"")},
        {"Y": texts(b"abc")},
    ],
)
def test_any_other_input_has_another_digest(inputs: dict[str, Any]) -> None:
    assert DIGEST(replace(REQUEST, inputs=REQUEST.inputs | inputs)) != DIGEST(REQUEST)


def test_shapes_without_an_element_differ() -> None:
    empty = [DIGEST(replace(REQUEST, inputs={"X": np.empty(shape)})) for shape in ((0,), (0, 2), (2, 0), ())]
    assert len(set(empty)) == 4


def test_other_outputs_another_version_and_another_load_have_other_digests() -> None:
    digests = {
        DIGEST(REQUEST),
        DIGEST(replace(REQUEST, outputs=("A",))),
        RequestDigest(ModelKey("m", 2), 1, ["A", "B"])(REQUEST),
        RequestDigest(ModelKey("n", 1), 1, ["A", "B"])(REQUEST),
        RequestDigest(KEY, 2, ["A", "B"])(REQUEST),
    }
    assert len(digests) == 5


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_texts_are_the_same_only_if_each_is(left: list[bytes], right: list[bytes]) -> None:
    """However they are cut, the same bytes in a row do not make the same request."""
    digests = [DIGEST(InferRequest("m", None, {"Y": texts(*values)})) for values in (left, right)]
    assert (digests[0] == digests[1]) == (left == right)


def test_heavy_is_what_holds_up_the_loop() -> None:
    assert not is_heavy([np.zeros(HEAVY_BYTES, np.uint8)])
    assert is_heavy([np.zeros(HEAVY_BYTES // 2, np.uint8), np.zeros(HEAVY_BYTES // 2 + 1, np.uint8)])
    assert is_heavy([texts(b"x" * HEAVY_BYTES)])
    assert is_heavy([texts(*[b""] * (HEAVY_TEXTS + 1))])
    assert not is_heavy([texts(b"a")])


def test_an_entry_is_a_copy_that_nobody_can_write_to() -> None:
    batch = np.arange(8.0).reshape(4, 2)
    entry = make_entry({"A": batch[1:2], "B": texts(b"abc")})
    batch[:] = 0
    assert entry.outputs["A"].tolist() == [[2, 3]]
    assert entry.outputs["A"].base is None, "a view would keep the whole batch"
    assert entry.size == entry_bytes(entry.outputs) > ENTRY_OVERHEAD_BYTES + 16 + 3
    with pytest.raises(ValueError, match="read-only"):
        entry.outputs["A"][0] = 1


def test_the_least_recently_used_leave_when_the_bytes_are_full() -> None:
    entry = make_entry({"A": np.zeros(1_000, np.uint8)})
    cache = ResponseCache(3 * entry.size)
    for digest in (b"1", b"2", b"3"):
        cache.put(7, digest, entry)
    assert cache.get(7, b"1") is not None
    cache.put(7, b"4", entry)
    assert [cache.get(7, digest) is not None for digest in (b"1", b"2", b"3", b"4")] == [
        True,
        False,
        True,
        True,
    ]
    assert (cache.used_bytes, cache.evictions, len(cache)) == (3 * entry.size, 1, 3)
    cache.put(7, b"4", make_entry({"A": np.zeros(10, np.uint8)}))
    assert cache.used_bytes == 3 * entry.size - 990, "what is stored again takes the place of the old one"


def test_what_is_larger_than_the_cache_is_not_stored_and_drives_nobody_out() -> None:
    small, large = (make_entry({"A": np.zeros(size, np.uint8)}) for size in (10, 5_000))
    cache = ResponseCache(2_000)
    cache.put(1, b"s", small)
    cache.put(1, b"l", large)
    assert (len(cache), cache.get(1, b"l")) == (1, None)
    assert not cache.fits(large.size)


def test_a_large_answer_makes_no_more_than_a_thousand_small_ones_leave_at_once() -> None:
    """A million of them would hold up the event loop for seconds."""
    small = make_entry({"A": np.zeros(1, np.uint8)})
    cache = ResponseCache(2 * MAX_LEAVING * small.size)
    for number in range(2 * MAX_LEAVING):
        cache.put(1, number.to_bytes(4, "little"), small)
    large = CacheEntry({"A": np.zeros(1, np.uint8)}, (MAX_LEAVING + 1) * small.size)
    cache.put(2, b"l", large)
    assert (cache.evictions, len(cache), cache.get(2, b"l")) == (MAX_LEAVING, MAX_LEAVING, None)
    cache.put(2, b"l", large)
    assert (len(cache), cache.used_bytes) == (MAX_LEAVING, cache.max_bytes), "there was nearly room for it"
    assert cache.get(2, b"l") is not None


def test_a_generation_leaves_a_thousand_entries_at_a_time() -> None:
    entry = make_entry({"A": np.zeros(1, np.uint8)})
    cache = ResponseCache(10_000_000)
    for number in range(MAX_LEAVING + 1):
        cache.put(1, number.to_bytes(4, "little"), entry)
    cache.put(2, b"x", entry)
    assert cache.forget(1), "one is left"
    assert len(cache) == 2
    assert not cache.forget(1)
    assert (len(cache), cache.used_bytes) == (1, entry.size)
    assert not cache.forget(1)


def test_a_generation_sees_its_own_entries_and_takes_them_along() -> None:
    cache = ResponseCache(100_000)
    old, new = cache.new_generation(), cache.new_generation()
    cache.put(old, b"x", make_entry({"A": array([1])}))
    assert cache.get(new, b"x") is None
    cache.put(new, b"x", make_entry({"A": array([2])}))
    cache.forget(old)
    assert cache.get(old, b"x") is None
    found = cache.get(new, b"x")
    assert found is not None
    assert found["A"].tolist() == [2]
    cache.forget(new)
    assert (cache.used_bytes, len(cache)) == (0, 0)


def test_who_gets_an_answer_may_change_its_dictionary() -> None:
    cache = ResponseCache(100_000)
    cache.put(1, b"x", make_entry({"A": array([1])}))
    first = cache.get(1, b"x")
    assert first is not None
    first.clear()
    assert cache.get(1, b"x")
