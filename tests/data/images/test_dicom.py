"""DICOM: the chain of pydicom's own functions as oracle, and what is refused."""

import shutil
import sys
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from medjax.data.images import ImageFile, image_groups, image_size, read_image
from tests.data.images.dicom_files import MARKERS, dataset, write

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(0, 4096, (24, 16), np.uint16)
GREY = RNG.integers(0, 256, (24, 16), np.uint8)
COLOUR = RNG.integers(0, 256, (24, 16, 3), np.uint8)


def read(path, **which):
    file = ImageFile(path, **which)
    image = read_image(file, "line 2")
    assert image.dtype == np.uint8 and image.shape == (*image_size(file, "x"), 3)
    return image


def refused(path, fault, **which):
    for measure in (image_size, read_image):
        with pytest.raises(ValueError, match=rf"line 2: .*{fault}") as raised:
            measure(ImageFile(path, **which), "line 2")
        text = str(raised.value)
        assert not any(marker in text for marker in (*MARKERS, str(path.parent)))


def by_pydicom(path):
    """pydicom's chain, brought from its range to 0 to 255."""
    ds = pydicom.dcmread(path)
    values = apply_modality_lut(ds.pixel_array, ds)
    table = ds.get("VOILUTSequence")
    if table:
        top = 2 ** table[0].LUTDescriptor[2] - 1
        shown = apply_voi_lut(values.astype(int), ds) / top
    else:
        slope = float(ds.get("RescaleSlope", 1))
        intercept = float(ds.get("RescaleIntercept", 0))
        low = -(2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0
        bottom = low * slope + intercept
        top = (low + 2**ds.BitsStored - 1) * slope + intercept
        shown = (apply_voi_lut(values, ds) - bottom) / (top - bottom)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return shown * 255


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescaled", [{}, {"RescaleSlope": 2, "RescaleIntercept": -9}])
def test_windows_are_those_of_pydicom(tmp_path, kind, function, signed, rescaled):
    pixels = COUNTS.astype(np.int16) - 1000 if signed else COUNTS
    header = {"WindowCenter": [900, 40], "WindowWidth": [1500.5, 400], **rescaled}
    if function:
        header["VOILUTFunction"] = function
    path = write(tmp_path / "a.dcm", pixels, PhotometricInterpretation=kind, **header)
    image = read(path)
    assert (image == image[..., :1]).all()
    np.testing.assert_allclose(image[..., 0], by_pydicom(path), atol=0.501)
    assert np.ptp(image) > 200


def test_a_table_in_place_of_a_window_and_of_the_rescaling(tmp_path):
    def table(entries, bits):
        item = Dataset()
        item.LUTDescriptor = [len(entries), 0, bits]
        item.LUTData = [int(x) for x in entries]
        item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
        return [item]

    curve = np.linspace(0, 1023, 4096) ** 0.5 * 1023**0.5
    path = write(tmp_path / "a.dcm", COUNTS, VOILUTSequence=table(curve, 10))
    np.testing.assert_allclose(read(path)[..., 0], by_pydicom(path), atol=0.501)
    levels = RNG.integers(0, 2**12, 4096)
    item = table(levels, 16)
    item[0].ModalityLUTType = "US"
    path = write(
        tmp_path / "b.dcm",
        COUNTS,
        ModalityLUTSequence=item,
        WindowCenter=2000,
        WindowWidth=1000,
    )
    expected = np.clip((levels[COUNTS] - 1999.5) / 999 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(read(path)[..., 0], expected, atol=0.501)


@pytest.mark.parametrize("header", [{}, {"WindowCenter": 900, "WindowWidth": 1500}])
@pytest.mark.parametrize("signed", [False, True])
def test_a_large_picture_is_shown_as_a_small_one(tmp_path, header, signed):
    """Through a table of values, where there are fewer of them than pixels."""
    pixels = COUNTS.astype(np.int16) - 1000 if signed else COUNTS
    rescaled = {"RescaleSlope": 0.37, "RescaleIntercept": -9, **header}
    small = read(write(tmp_path / "a.dcm", pixels, **rescaled))
    large = read(write(tmp_path / "b.dcm", np.tile(pixels, (11, 17)), **rescaled))
    np.testing.assert_array_equal(large, np.tile(small, (11, 17, 1)))


def test_fractions_that_are_none_are_refused(tmp_path):
    ds = dataset(COUNTS, WindowCenter=900, WindowWidth=1500, PixelData=None)
    values = COUNTS.astype(np.float32)
    ds.BitsAllocated, ds.FloatPixelData = 32, values.tobytes()
    for name in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, name)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    expected = np.clip((COUNTS - 899.5) / 1499 + 0.5, 0, 1) * 255
    image = read(tmp_path / "a.dcm")[..., 0]
    np.testing.assert_allclose(image, expected, atol=0.501)
    values[3, :2] = np.nan
    ds.FloatPixelData = values.tobytes()
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(ValueError, match="2 of 384 pixels are NaN or infinite"):
        read_image(ImageFile(tmp_path / "a.dcm"), "line 2")


def test_a_window_of_one_is_a_step(tmp_path):
    path = write(tmp_path / "a.dcm", COUNTS, WindowCenter=2000, WindowWidth=1)
    expected = np.where(COUNTS > 1999.5, 255, 0)
    np.testing.assert_array_equal(read(path)[..., 0], expected)
    for width in (0, -3):
        path = write(tmp_path / "a.dcm", COUNTS, WindowCenter=1, WindowWidth=width)
        with pytest.raises(ValueError, match=f"level 1 and width {width}.; name a"):
            read_image(ImageFile(path), "x")
    image = read(path, window=(2000.0, 1000.0))
    expected = np.clip((COUNTS - 1500.0) / 1000, 0, 1) * 255
    np.testing.assert_allclose(image[..., 0], expected, atol=0.501)


def test_without_a_window_greys_are_stretched_and_eight_bits_left(tmp_path):
    low, high = int(COUNTS.min()), int(COUNTS.max())
    stretched = (COUNTS - low) * (255 / (high - low))
    path = write(tmp_path / "a.dcm", COUNTS, BitsStored=12)
    np.testing.assert_allclose(read(path)[..., 0], stretched, atol=0.501)
    # what pads the picture does not count
    padded = COUNTS.copy()
    padded[:4] = 60000
    path = write(tmp_path / "a.dcm", padded, PixelPaddingValue=60000)
    np.testing.assert_allclose(read(path)[4:, :, 0], stretched[4:], atol=3)
    path = write(tmp_path / "a.dcm", np.clip(GREY, 9, 12))
    np.testing.assert_array_equal(read(path)[..., 1], np.clip(GREY, 9, 12))
    path = write(tmp_path / "a.dcm", GREY, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(path)[..., 1], 255 - GREY)
    path = write(tmp_path / "a.dcm", GREY % 16, BitsStored=4)
    np.testing.assert_array_equal(read(path)[..., 1], GREY % 16 * 17)


def test_colours(tmp_path):
    path = write(tmp_path / "a.dcm", COLOUR)
    np.testing.assert_array_equal(read(path), COLOUR)
    planes = np.moveaxis(COLOUR, -1, 0)
    ds = dataset(COLOUR, PlanarConfiguration=1)
    ds.PixelData = planes.tobytes()
    ds.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(read(path), COLOUR)
    # BT.601 with the full range, JFIF's
    ybr = pydicom.pixels.convert_color_space(COLOUR, "RGB", "YBR_FULL")
    path = write(path, ybr, PhotometricInterpretation="YBR_FULL")
    y, cb, cr = np.moveaxis(ybr.astype(float), -1, 0)
    red = y + 1.402 * (cr - 128)
    np.testing.assert_allclose(read(path)[..., 0], np.clip(red, 0, 255), atol=1)
    palette = RNG.integers(0, 65536, (3, 256), np.uint16)
    header = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in zip(("Red", "Green", "Blue"), palette, strict=True):
        header[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        header[f"{name}PaletteColorLookupTableData"] = values.tobytes()
    ds = dataset(GREY, **header)
    ds.save_as(path, enforce_file_format=True)
    expected = np.round(palette.T[GREY] / 257)
    np.testing.assert_array_equal(read(path), expected)
    assert (apply_color_lut(GREY, pydicom.dcmread(path)) == palette.T[GREY]).all()
    refuse = write(path, COLOUR.astype(np.uint16))
    with pytest.raises(ValueError, match=r"x: cannot read a.dcm \(16 bits a colour\)"):
        read_image(ImageFile(refuse), "x")
    write(path, COLOUR)
    with pytest.raises(ValueError, match="RGB has no window"):
        read_image(ImageFile(path, window=(1.0, 2.0)), "x")


def test_frames_are_named(tmp_path):
    frames = np.stack([COUNTS, COUNTS[::-1], COUNTS // 2])
    path = write(tmp_path / "a.dcm", frames, WindowCenter=2048, WindowWidth=4096)
    refused(path, r"a.dcm \(3 frames\); name one: a frame, counted from 0")
    refused(path, r"a.dcm \(frame 3\) \(it has 3 frames\)", frame=3)
    refused(path, "it is no volume", plane="axial", frame=1)
    one = write(tmp_path / "one.dcm", COUNTS[::-1], WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_array_equal(read(path, frame=1), read(one))
    np.testing.assert_array_equal(read(one, frame=0), read(one))


def test_an_enhanced_file_has_a_window_a_frame(tmp_path):
    def item(**attributes):
        one = Dataset()
        for name, value in attributes.items():
            setattr(one, name, value)
        return [one]

    def frame(level):
        return item(
            FrameVOILUTSequence=item(WindowCenter=level, WindowWidth=1000),
            PixelValueTransformationSequence=item(
                RescaleSlope=1, RescaleIntercept=-1000, RescaleType="HU"
            ),
        )[0]

    path = write(
        tmp_path / "a.dcm",
        np.stack([COUNTS, COUNTS]),
        PerFrameFunctionalGroupsSequence=[frame(0), frame(500)],
        SharedFunctionalGroupsSequence=item(
            PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.5])
        ),
    )
    for n, level in enumerate((0, 500)):
        expected = np.clip((COUNTS - 1000.0 - level + 0.5) / 999 + 0.5, 0, 1) * 255
        image = read(path, frame=n)[..., 0]
        np.testing.assert_allclose(image, expected, atol=0.501)


@pytest.mark.parametrize(
    "name", ["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"]
)
def test_pixels_that_are_not_square_are_refused_or_widened(tmp_path, name):
    path = write(tmp_path / "a.dcm", GREY, **{name: [2, 2]})
    np.testing.assert_array_equal(read(path)[..., 0], GREY)
    path = write(tmp_path / "a.dcm", GREY, **{name: [3, 2]})
    refused(path, "rows lie 3 apart and columns 2, so that it would look pressed")
    refused(path, "pixels='wide'; expected one of", pixels="wide")
    stored = read(path, pixels="stored")
    np.testing.assert_array_equal(stored[..., 0], GREY)
    wide = read(path, pixels="square")
    assert wide.shape == (36, 16, 3)
    means = [half.mean() for half in (wide[:18], wide[18:])]
    np.testing.assert_allclose(means, [GREY[:12].mean(), GREY[12:].mean()], atol=3)


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_other_encodings_of_the_header(tmp_path, syntax):
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    ds = dataset(COUNTS.astype(f"{order}u2"), WindowCenter=2048, WindowWidth=4096)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    one = write(tmp_path / "b.dcm", COUNTS, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), read(one))


def test_compressed_pixels(tmp_path):
    """JPEG 2000, RLE and 8-bit JPEG are read; others by name with the way out."""
    large = np.tile(COUNTS, (3, 4))  # JPEG 2000 halves it five times
    plain = dataset(large, WindowCenter=2048, WindowWidth=4096)
    plain.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    for syntax in (uid.JPEG2000Lossless, uid.RLELossless):
        ds = dataset(large, WindowCenter=2048, WindowWidth=4096)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        image = read(tmp_path / "a.dcm")
        np.testing.assert_array_equal(image, read(tmp_path / "plain.dcm"))
    for syntax in (uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.HEVCMP51):
        ds = dataset(COUNTS)
        ds.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        name = syntax.name.partition("(")[0]
        fault = rf"{name}.*no decoder\); JPEG 2000 is read after pip.*gdcmconv --raw"
        with pytest.raises(ValueError, match=fault):
            read_image(ImageFile(tmp_path / "a.dcm"), "line 2")
    shutil.copy(get_testdata_file("JPEG-lossy.dcm"), tmp_path / "a.dcm")  # 12 bits
    fault = r"'JPEG Extended.*cannot be decoded\).*gdcmconv --raw"
    with pytest.raises(ValueError, match=fault):
        read_image(ImageFile(tmp_path / "a.dcm", pixels="stored"), "line 2")


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg.dcm",  # its offsets are missing
        "SC_rgb_small_odd_jpeg.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",  # YBR, subsampled
        "SC_ybr_full_422_uncompressed.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_colours_of_files_made_by_others(tmp_path, name):
    source = get_testdata_file(name)
    shutil.copy(source, tmp_path / "a.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about what they lack
        expected = pydicom.dcmread(source).pixel_array
        np.testing.assert_array_equal(read(tmp_path / "a.dcm"), expected)


def test_a_deflated_file(tmp_path):
    source = get_testdata_file("image_dfl.dcm")
    shutil.copy(source, tmp_path / "a.dcm")
    expected = pydicom.dcmread(source).pixel_array
    np.testing.assert_array_equal(read(tmp_path / "a.dcm")[..., 0], expected)


def test_what_cannot_be_shown_is_refused_without_the_patient_s_name(tmp_path):
    path = tmp_path / "a.dcm"
    write(path, GREY, PixelData=None)
    refused(path, "it holds no pixels")
    write(path, GREY, Rows=None)
    refused(path, "a damaged file: AttributeError")
    write(path, GREY, Rows=0)
    refused(path, "0 rows and 16 columns")
    whole = write(path, GREY).read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match="a damaged file") as raised:
        read_image(ImageFile(path), "line 2")
    assert not any(marker in str(raised.value) for marker in MARKERS)
    path.write_bytes(whole[132:])
    refused(path, "no DICOM file: DICM does not stand")
    ratio = {"PhotometricInterpretation": "MONOCHROME1"}
    write(path, GREY, PresentationLUTShape="IDENTITY", **ratio)
    with pytest.raises(ValueError, match="contradict each other"):
        read_image(ImageFile(path), "line 2")
    write(path, GREY, PresentationLUTShape="INVERSE", **ratio)
    np.testing.assert_array_equal(read(path)[..., 0], 255 - GREY)
    write(path, GREY, PixelPresentation="COLOR")
    with pytest.raises(ValueError, match="greys that a supplemental palette colours"):
        read_image(ImageFile(path), "line 2")
    write(path, GREY, PhotometricInterpretation="YBR_PARTIAL_420")
    with pytest.raises(ValueError, match="colours of the kind 'YBR_PARTIAL_420'"):
        read_image(ImageFile(path), "line 2")
    shutil.move(write(path, GREY), tmp_path / "a.png")  # told by its content
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 0], GREY)


def test_whose_image_it_is(tmp_path):
    path = write(tmp_path / "a.dcm", GREY, PatientID=" p 1 ")
    assert image_groups(ImageFile(path), "x") == {
        "patient": "p 1",
        "study": "1.2.3.5",
        "series": "1.2.3.6",
    }
    write(path, GREY, PatientID="", StudyInstanceUID=None)
    assert image_groups(ImageFile(path), "x") == {"series": "1.2.3.6"}
    write(path, GREY, SpecificCharacterSet="ISO_IR 192", PatientID="Zoë 7")
    assert image_groups(ImageFile(path), "x")["patient"] == "Zoë 7"
    (tmp_path / "a.png").write_bytes(b"PNG")
    assert image_groups(ImageFile(tmp_path / "a.png"), "x") == {}


def test_a_hundred_spoilt_headers_end_in_a_clear_error_or_a_picture(
    tmp_path, capfd, caplog
):
    rng = np.random.default_rng(7)
    path = tmp_path / "a.dcm"
    whole = write(
        path, COUNTS[:8, :8], WindowCenter=900, WindowWidth=1500, PixelSpacing=[1, 1]
    ).read_bytes()
    shown = 0
    for case in range(100):
        body = bytearray(whole)
        if case % 4 == 0:
            body = body[: rng.integers(133, len(body))]
        for place in rng.integers(132, len(body), rng.integers(1, 6)):
            body[place] = rng.integers(0, 256)
        path.write_bytes(body)
        file = ImageFile(path)
        for call in (image_size, read_image, image_groups):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    call(file, "list, line 2")
                    shown += call is read_image
                except ValueError as error:
                    text = str(error)
                    assert text.startswith("list, line 2: ")
                    assert not any(m in text for m in (*MARKERS, str(tmp_path)))
    assert 10 < shown < 90
    out = capfd.readouterr()
    assert not any(m in out.out + out.err + caplog.text for m in MARKERS)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for call in (image_size, read_image, image_groups):
        with pytest.raises(
            ImportError, match=r'x: a.dcm .*pip install "medjax\[dicom\]"'
        ):
            call(ImageFile(path), "x")
