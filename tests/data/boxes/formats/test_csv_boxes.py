import pytest

from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.table import box_entries
from medjax.data.lists.groups import picture_key
from medjax.data.lists.reading import Bad, Reading, spoilt_lines

XYXY = Reading(coords="xyxy")


def entries(path, reading=XYXY, **asking):
    return list(box_entries(path, reading, Asking(**asking)))


def write(root, *lines):
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(
    ("coords", "header", "numbers"),
    [
        ("xyxy", "x1,y1,x2,y2", "1,2,4.5,8"),
        ("xyxy", "x_min,y_min,x_max,y_max", "1,2,4.5,8"),
        ("xyxy", "xmin,ymin,xmax,ymax", "1,2,4.5,8"),
        ("xyxy", "left,top,right,bottom", "1,2,4.5,8"),
        ("xywh", "x,y,w,h", "1,2,3.5,6"),
        ("xywh", "x,y,width,height", "1,2,3.5,6"),
        ("xywh", "left,top,width,height", "1,2,3.5,6"),
    ],
)
def test_declared_coordinates_are_read_under_the_usual_names(
    tmp_path, coords, header, numbers
):
    write(tmp_path, f"image,label,{header}", f"a.png,cyst,{numbers}")
    (found,) = entries(tmp_path, Reading(coords=coords))
    assert found.boxes == ((1, 2, 4.5, 8),) and found.query == "Find the cyst."
    assert found.origin == "boxes.csv, line 2" and found.size is None
    with pytest.raises(ValueError, match=r"data.coords is not declared; say .*xywh"):
        entries(tmp_path, Reading())
    other = {"xyxy": "xywh", "xywh": "xyxy"}[coords]
    with pytest.raises(ValueError, match=f"data.coords={other} expects one of"):
        entries(tmp_path, Reading(coords=other))


def test_other_columns_keep_their_meaning(tmp_path):
    write(
        tmp_path,
        "filename,class,xmin,ymin,xmax,ymax,width,height,patient_id,split,rad_id,note",
        "a/1.png,cyst,1,2,3,4,56,40,p1,valid,R1,small",
    )
    (found,) = entries(tmp_path)
    assert found.images[0].path == tmp_path / "a" / "1.png"
    assert found.size == (40, 56) and found.groups == {"patient_id": "p1"}
    assert found.split == "val" and found.reader == "R1"
    assert found.columns == {"note": "small"}


def test_empty_numbers_say_that_there_is_none(tmp_path):
    write(
        tmp_path,
        "image,label,x1,y1,x2,y2",
        "a.png,cyst,1,2,3,4",
        "a.png,cyst,5,2,7,4",
        "b.png,cyst,,,,",
        "c.png,,,,,",
    )
    found = entries(tmp_path)
    assert [len(one.boxes) for one in found] == [1, 1, 0, 0]
    assert {one.label for one in found} == {"cyst"}
    assert [len(one.boxes) for one in entries(tmp_path, negatives="off")] == [1, 1, 0]


def test_every_reader_has_a_say_about_what_anyone_found(tmp_path):
    write(
        tmp_path,
        "image,label,x1,y1,x2,y2,reader",
        "a.png,cyst,1,2,3,4,R1",
        "a.png,,,,,,R2",
        "a.png,node,1,2,3,4,R3",
    )
    said = {(one.label, one.reader): len(one.boxes) for one in entries(tmp_path)}
    boxed = {("cyst", "R1"), ("node", "R3")}
    assert len(said) == 6 and {key for key, n in said.items() if n} == boxed


def test_a_column_of_questions_takes_the_place_of_the_template(tmp_path):
    write(
        tmp_path,
        "image,label,query,x1,y1,x2,y2",
        "a.png,cyst,Where is it?,1,2,3,4",
        "a.png,node,And that?,1,2,3,4",
    )
    assert [one.query for one in entries(tmp_path)] == ["Where is it?", "And that?"]
    (found,) = entries(tmp_path, structures="node")
    assert found.query == "And that?"


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("image,label,x1,y1,x2,y2", "a.png,cyst,4,2,4,8", "x1 4, y1 2.* is an empty"),
        ("image,label,x1,y1,x2,y2", "a.png,cyst,1,2,3", "fewer cells than the header"),
        ("image,label,x1,y1,x2,y2", "a.png,cyst,1,2,3,", "y2 is empty; expected a"),
        ("image,label,x1,y1,x2,y2", "a.png,cyst,1,2,inf,8", "x2 is 'inf'; expected a"),
        ("image,label,x1,y1,x2,y2", 'a.png,cyst,1,2,"3,5",8', "with a point before"),
        ("image,label,x1,y1,x2,y2", "a.png,,1,2,3,8", "label is empty; expected text"),
        ("image,label,x1,y1,x2,y2", ",cyst,1,2,3,8", "image is empty; expected text"),
        ("image,label,x1,y1,x2,y2,frame", "a,b,1,2,3,8,px", "frame 'px'; expected one"),
        ("image,label,x1,y1,x2,y2,split", "a,b,1,2,3,8,dev", "split 'dev'; expected"),
        ("image,label,x1,y1,x2,y2,patient", "a,b,1,2,3,8,nan", "patient is 'nan'"),
        ("image,label,x1,y1,x2,y2,height,width", "a,b,1,2,3,8,4,0", "expected whole"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, header, line, message):
    write(tmp_path, header, line)
    (bad,) = entries(tmp_path)
    assert isinstance(bad, Bad) and bad.message.startswith("boxes.csv, line 2: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(bad.message)


def test_lines_of_one_image_agree(tmp_path):
    write(
        tmp_path,
        "image,label,x1,y1,x2,y2,patient",
        "a.png,cyst,1,2,3,4,p1",
        "a.png,node,1,2,3,4,p2",
    )
    _, bad = sorted(entries(tmp_path), key=lambda one: isinstance(one, Bad))
    assert "line 3: groups {'patient': 'p2'}, but {'patient': 'p1'} in" in bad.message


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,x1,y1,x2,y2", "expected one that says the label"),
        ("label,x1,y1,x2,y2", "expected one that says the image"),
        ("image,filename,label,x1,y1,x2,y2", "says the image, called image or"),
        ("image,label,x1,y1,x2", "expects one of x1,y1,x2,y2 or .* found 0"),
        ("image,label,x1,y1,x2,y2,xmin,ymin,xmax,ymax", "found 2 of them"),
        (
            "image,label,x1,y1,x2,y2,width,height,image_width,image_height",
            "both say an image's size",
        ),
    ],
)
def test_columns_that_say_nothing_or_too_much_are_refused(tmp_path, header, message):
    write(tmp_path, header)
    with pytest.raises(ValueError, match=message):
        entries(tmp_path)


@pytest.mark.parametrize(
    ("column", "meant"),
    [("spilt", "split"), ("patients", "patient"), ("Frames", "frame")],
)
def test_a_mistyped_column_is_refused(tmp_path, column, meant):
    write(tmp_path, f"image,label,x1,y1,x2,y2,{column}", "a.png,cyst,1,2,3,4,x")
    with pytest.raises(ValueError, match=f"column '{column}'; is it meant .*'{meant}'"):
        entries(tmp_path)


def test_a_wrong_line_spoils_its_picture(tmp_path):
    write(
        tmp_path,
        "image,label,x1,y1,x2,y2",
        "a.png,cyst,1,2,3,4",
        "./a.png,cyst,9,2,3,4",
        "b.png,cyst,1,2,3,4",
    )
    bad, first, second = entries(tmp_path)
    assert isinstance(bad, Bad) and bad.origin == "boxes.csv, line 3"
    lines = [(one.origin, [picture_key(one.images[0])]) for one in (first, second)]
    assert [x.origin for x in spoilt_lines(lines, [bad])] == ["boxes.csv, line 2"]
