"""What pipelines share: order, choice, rows of questions, filling of the last batch."""

import numpy as np
import pytest

from medjax.data.batches import Draw, add_ramps, blank_image, gather, stream
from medjax.data.orders import shuffled


def draw(index, valid=(True, True)):
    records = tuple(f"{index}.{q}" for q in range(len(valid)))
    return Draw((), records, records, valid)


def collate(rows):
    return [(record, v) for one in rows for record, v in zip(*one[1::2], strict=True)]


def test_gather_fills_the_last_batch_with_invalid_rows():
    found = list(gather((draw(i) for i in range(3)), collate, batch=2))
    assert [records for _, records in found] == [
        ["0.0", "0.1", "1.0", "1.1"],
        ["2.0", "2.1"],
    ]
    assert [v for _, v in found[1][0]] == [True, True, False, False]


def test_gather_leaves_out_records_of_invalid_rows():
    (batch, records), *rest = gather([draw(0, (True, False))], collate, batch=1)
    assert records == ["0.0"] and not rest and len(batch) == 2


def test_a_stream_is_shared_among_hosts_and_goes_on_where_it_stood():
    def draws(process, count, batch):
        source = stream(
            shuffled(6, seed=0),
            lambda index, picture: draw((index, picture)),
            lambda rows: [row.records[0] for row in rows],
            batch=batch,
            process_index=process,
            process_count=count,
        )
        return iter(source)

    one = draws(0, 1, 4)
    alone = [next(one) for _ in range(6)]
    flat = [record for batch in alone for record in batch]
    pictures = [record.split(", ")[1].split(")")[0] for record in flat]
    assert sorted(pictures[:6]) == sorted(pictures[6:12]) == list("012345")
    two = draws(1, 2, 2)
    assert next(two) + next(two) == flat[2:4] + flat[6:8]
    state = two.get_state()
    expected = next(two)
    other = draws(1, 2, 2)
    other.set_state(state)
    assert next(other) == expected


def test_ramps_tell_where_a_pixel_lies_and_refuse_colour():
    grey = np.random.default_rng(0).integers(0, 256, (4, 8, 1)).astype(np.uint8)
    image = np.repeat(grey, 3, axis=-1)
    ramps = add_ramps(image)
    np.testing.assert_array_equal(ramps[..., 0], grey[..., 0])
    np.testing.assert_array_equal(ramps[0, :, 1], np.round(np.arange(0.5, 8) / 8 * 255))
    np.testing.assert_array_equal(ramps[:, 0, 2], np.round(np.arange(0.5, 4) / 4 * 255))
    image[0, 0, 2] ^= 1
    with pytest.raises(ValueError, match="ramps=False"):
        add_ramps(image)


def test_a_blank_image_keeps_size_and_mean_alone():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    blank = blank_image(image)
    assert blank.shape == image.shape and blank.dtype == np.uint8
    for colour in range(3):
        total = sum(int(x) for x in image[..., colour].ravel())
        assert set(blank[..., colour].ravel()) == {round(total / 35)}
    # a picture with the same mean is blank in the same way, whatever is on it
    assert np.array_equal(blank_image(image[::-1]), blank)
    blank[0, 0] = 0  # its own memory
