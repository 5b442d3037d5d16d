import pytest

from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.table import FORMATS, box_entries
from medjax.data.lists.reading import Reading
from medjax.data.lists.recognise import recognise
from tests.data import folders

BOXES = [one.format for one in FORMATS]


def test_each_layout_is_recognised_alone(tmp_path):
    for name in ("ham10000", "tn3k", "vindr", "coco"):
        made = getattr(folders, name)(tmp_path / name)
        path = tmp_path / name
        assert made is not None and recognise(path, BOXES, "").name == name
    folders.vindr(tmp_path / "kaggle", kaggle=True)
    assert recognise(tmp_path / "kaggle", BOXES, "").name == "vindr"
    folders.nih(tmp_path / "nih", patients=1, size=(40, 40))
    assert recognise(tmp_path / "nih", BOXES, "").name == "nih"
    folders.mask(tmp_path / "masks" / "masks" / "1.png")
    folders.picture(tmp_path / "masks" / "images" / "1.png")
    assert recognise(tmp_path / "masks", BOXES, "").name == "masks"
    for name, ending in (("jsonl", "jsonl"), ("csv", "csv"), ("jsonl", "txt")):
        (tmp_path / f"a.{ending}").write_text("")
        assert recognise(tmp_path / f"a.{ending}", BOXES, "").name == name


def test_several_or_none_that_fit_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no known format; looked for\n  jsonl: one"):
        recognise(tmp_path, BOXES, "")
    (tmp_path / "a.jsonl").write_text("")
    folders.coco(tmp_path)
    with pytest.raises(ValueError, match=r"data.format=jsonl or data.format=coco"):
        recognise(tmp_path, BOXES, "")
    assert recognise(tmp_path, BOXES, "coco").name == "coco"
    with pytest.raises(ValueError, match="data.format='yolo': expected one of jsonl"):
        recognise(tmp_path, BOXES, "yolo")


@pytest.mark.parametrize(
    ("reading", "asking", "message"),
    [
        (Reading(coords="xyxy"), Asking(), "data.coords='xyxy' does not concern"),
        (Reading(fold=1), Asking(), "data.fold=1 does not concern the format coco"),
        (Reading(), Asking(mask="components"), "data.mask='components' does not"),
        (Reading(), Asking(names="a"), "data.names='a' does not concern"),
        (Reading(), Asking(query="Find {it}."), "expected a question with {label}"),
        (Reading(), Asking(query="Find {label"), "data.query='Find {label'"),
        (Reading(), Asking(query="Find {label!r:{x}}"), "expected a question with"),
        (Reading(), Asking(negatives="some"), "data.negatives='some': expected one"),
        (Reading(), Asking(min_area=0), "data.min_area=0: expected 1 pixel"),
        (Reading(), Asking(longest=0), "data.longest=0: expected 1 character"),
    ],
)
def test_options_that_do_not_concern_a_format_are_refused(
    tmp_path, reading, asking, message
):
    folders.coco(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(box_entries(tmp_path, reading, asking))


def test_options_of_questions_do_not_concern_lists_that_have_them(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(ValueError, match="data.query=.* does not concern .* jsonl"):
        list(box_entries(tmp_path, Reading(), Asking(query="Where is {label}?")))


def test_hidden_files_of_archives_are_no_lists(tmp_path):
    (tmp_path / "a.csv").write_text("image,label,x,y,w,h\na.png,b,1,2,3,4\n")
    (tmp_path / "._a.csv").write_bytes(b"\x00\x05")
    (entry,) = box_entries(tmp_path, Reading(coords="xywh"), Asking())
    assert entry.boxes == ((1, 2, 4, 6),)


def test_a_list_of_a_published_set_is_read_from_its_folder(tmp_path):
    folders.nih(tmp_path, patients=1, size=(40, 40))
    with pytest.raises(ValueError, match="of a published set, .* name the folder that"):
        recognise(tmp_path / "BBox_List_2017.csv", BOXES, "")


def test_lines_of_json_are_known_by_what_they_hold(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\n{"image": "a.png"}\n')
    assert recognise(path, BOXES, "").name == "coco"  # a blank first line says nothing
    path.write_text('{"image": "a.png"}\n{"image": "b.png"}\n')
    assert recognise(path, BOXES, "").name == "jsonl"
    folders.coco(tmp_path / "c")
    assert recognise(tmp_path / "c" / "instances.json", BOXES, "").name == "coco"
