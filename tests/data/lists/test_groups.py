"""What lists a user's images, and which of them are tested."""

import pytest

from medjax.data.lists.files import find_list
from medjax.data.lists.groups import groups_to_test


def test_groups_to_test_on_are_the_first_by_hash():
    keys = [f"p{n}" for n in range(10)] * 2
    groups = groups_to_test(keys, test_share=0.25, seed=1)
    assert len(groups) == 3 and groups < set(keys)
    assert groups == groups_to_test(keys[::-1], test_share=0.25, seed=1)
    assert groups != groups_to_test(keys, test_share=0.25, seed=2)
    with pytest.raises(ValueError, match="1 patients or images and test_share=0.5"):
        groups_to_test(["p0"], test_share=0.5, seed=0)


def test_a_list_is_a_file_or_the_only_one_in_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"one \.csv file in the folder, found 0"):
        find_list(tmp_path, ".csv")
    (tmp_path / "a.csv").write_text("")
    assert find_list(tmp_path, ".csv") == tmp_path / "a.csv"
    assert find_list(str(tmp_path / "a.csv"), ".csv") == tmp_path / "a.csv"
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ValueError, match="found 2; name the file itself"):
        find_list(tmp_path, ".csv")
    with pytest.raises(FileNotFoundError, match=r"gone.csv: no such file; expected a"):
        find_list(tmp_path / "gone.csv", ".csv")
