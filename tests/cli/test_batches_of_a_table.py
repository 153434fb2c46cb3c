"""The batches of a table: no step is made on a row that is left over."""

import numpy as np
import pytest

from stepsize.cli.loading import BATCH_SIZE, _batch_size


@pytest.mark.parametrize("rows", [*range(33, 200), 225, 1000, 1025, 12_345])
def test_the_last_batch_is_at_least_half_full(rows):
    size = _batch_size((np.zeros((rows, 2)), np.zeros(rows)))
    last = rows % size or size
    assert 2 * last >= size and abs(size - BATCH_SIZE) <= BATCH_SIZE / 2


@pytest.mark.parametrize("rows", [1, 31, 32])
def test_few_rows_are_one_batch(rows):
    assert _batch_size((np.zeros((rows, 2)), np.zeros(rows))) == BATCH_SIZE


def test_batches_that_are_given_as_such_keep_theirs():
    assert _batch_size([(np.zeros((3, 2)), np.zeros(3))]) == BATCH_SIZE
