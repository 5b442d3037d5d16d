"""Pictures through PIL: range, transparency, orientation, and what is refused."""

import itertools
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from medjax.data.images import ImageFile, image_size, read_image
from medjax.rl.boxes import smart_resize

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 30, 3), np.uint8)


def read(path, **which):
    file = ImageFile(path, **which)
    image = read_image(file, "list, line 2")
    assert image.dtype == np.uint8 and image.shape == (*image_size(file, "x"), 3)
    return image


def stretched(values):
    """The old rule: from the lowest to the highest value."""
    values = values.astype(np.float64)
    span = values.max() - values.min()
    return np.round((values - values.min()) * (255 / span)).astype(np.uint8)


def png(path, pixels, kind, *, bits=16, chunks=b""):
    """A PNG of any depth, written by hand; `chunks` come after the pixels."""
    height, width = pixels.shape[:2]
    rows = [b"\0" + row.tobytes() for row in pixels.astype(f">u{bits // 8}")]

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + (chunk(b"eXIf", chunks) if chunks else b"")
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.ppm", "a.webp"])
def test_eight_bits_come_as_they_are(tmp_path, name):
    lossless = {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(COLOUR).save(tmp_path / name, **lossless)
    np.testing.assert_array_equal(read(tmp_path / name), COLOUR)
    narrow = np.clip(GREY, 100, 104)  # nothing is stretched
    if name not in ("a.ppm", "a.webp"):
        Image.fromarray(narrow).save(tmp_path / name)
        expected = np.repeat(narrow[..., None], 3, axis=-1)
        np.testing.assert_array_equal(read(tmp_path / name), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGB", "YCbCr"])
def test_modes_without_alpha_are_what_pil_converts(tmp_path, mode):
    image = Image.fromarray(COLOUR).convert(mode)
    path = tmp_path / ("a.png" if mode in ("1", "L", "P", "RGB") else "a.tif")
    image.save(path)
    np.testing.assert_array_equal(read(path), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_on_white(tmp_path):
    alpha = RNG.integers(0, 256, (20, 30), np.uint8)
    alpha[:5] = 0
    alpha[5:10] = 255
    share = alpha[..., None] / 255
    on_white = COLOUR * share + 255 * (1 - share)
    path = tmp_path / "a.png"
    rgba = Image.fromarray(np.dstack([COLOUR, alpha]))
    for suffix in ("png", "tif"):
        rgba.save(tmp_path / f"a.{suffix}")
        image = read(tmp_path / f"a.{suffix}")
        np.testing.assert_allclose(image, on_white, atol=1)  # PIL's rounding
    # what Qwen's loader does with RGBA, to the bit
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.split()[3])
    np.testing.assert_array_equal(image, np.asarray(white))
    Image.fromarray(np.dstack([GREY, alpha]), "LA").save(path)
    grey_on_white = GREY[..., None] * share + 255 * (1 - share)
    expected = np.repeat(grey_on_white, 3, axis=-1)
    np.testing.assert_allclose(read(path), expected, atol=1)
    # one colour of a palette, of a grey and of a colour picture
    palette = Image.fromarray(GREY % 4)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 5, 6, 7])
    colours = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    shown = colours[GREY % 4]
    shown[GREY % 4 == 2] = 255
    for suffix in ("png", "gif"):
        palette.save(tmp_path / f"p.{suffix}", transparency=2)
        np.testing.assert_array_equal(read(tmp_path / f"p.{suffix}"), shown)
    Image.fromarray(GREY).save(path, transparency=int(GREY[0, 0]))
    expected = np.where(GREY == GREY[0, 0], 255, GREY)
    np.testing.assert_array_equal(read(path)[..., 1], expected)
    Image.fromarray(COLOUR).save(path, transparency=tuple(map(int, COLOUR[3, 4])))
    assert (read(path)[3, 4] == 255).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "dtype", ["uint16", "int16", "uint32", "int32", "int8", "float32"]
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_the_true_range_of_greys_in_tiff(tmp_path, order, dtype, compression):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = RNG.uniform(0.0008, 0.0022, (20, 30)).astype(kind)
    else:
        limits = np.iinfo(kind)
        values = RNG.integers(limits.min, limits.max, (20, 30), kind, endpoint=True)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, byteorder=order, compression=compression)
    if dtype == "uint32" and order == ">":  # a layout that PIL does not know
        with pytest.raises(ValueError, match="list, line 2: cannot read a.tif"):
            read(path)
        return
    np.testing.assert_array_equal(tifffile.imread(path), values)
    if compression and order == ">" and dtype in ("int16", "int32", "float32"):
        with pytest.raises(
            ValueError, match="Save it uncompressed or in little-endian"
        ):
            read(path)
        return
    np.testing.assert_array_equal(read(path)[..., 0], stretched(values))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_white_may_be_zero(tmp_path, dtype):
    values = RNG.integers(0, 250, (20, 30)).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="miniswhite")
    black = 255 - (values if dtype == "uint8" else stretched(values))
    np.testing.assert_array_equal(read(path)[..., 0], black)


def test_deep_greys_of_other_formats(tmp_path):
    deep = GREY.astype(np.uint16) * 10 + 500
    for name in ("a.png", "a.pgm", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(read(tmp_path / name)[..., 2], stretched(deep))
    floats = Image.fromarray(GREY.astype(np.float32) / 1e5)
    floats.save(tmp_path / "a.pfm")
    np.testing.assert_array_equal(read(tmp_path / "a.pfm")[..., 0], stretched(GREY))


def test_few_saturated_pixels_do_not_squeeze_the_others(tmp_path):
    y, x = np.mgrid[:64, :64]
    deep = (1000 + 8 * x + 4 * y).astype(np.uint16)
    before = stretched(deep)
    deep[10, 10], deep[20, 20] = 65535, 0
    Image.fromarray(deep).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    assert image[10, 10, 0] == 255 and image[20, 20, 0] == 0
    sound = np.ones((64, 64), bool)
    sound[10, 10] = sound[20, 20] = False
    assert np.ptp(image[sound]) > 255 / 2.1  # 3 of 255 if the outer two counted
    order = np.argsort(before[sound], kind="stable")
    assert (np.diff(image[..., 0][sound][order].astype(int)) >= -1).all()
    # Without them, minimum and maximum count, as they do where few pixels differ.
    deep[10, 10], deep[20, 20] = 1300, 1300
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 0], stretched(deep))
    deep[:] = 7
    deep[3, 3] = 9
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[..., 0].sum() == 255
    deep[3, 3] = 7
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert not read(tmp_path / "a.png").any()


def test_a_window_of_ones_own_in_the_units_of_the_file(tmp_path):
    values = np.linspace(-1000, 1000, 600).reshape(20, 30).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    image = read(tmp_path / "a.tif", window=(40.0, 400.0))[..., 0]
    expected = np.round(np.clip((values.astype(float) + 160) / 400 * 255, 0, 255))
    np.testing.assert_array_equal(image, expected)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png \(a window \(40.0, 400.0\), but it"):
        read(tmp_path / "a.png", window=(40.0, 400.0))


def test_a_large_picture_is_shown_as_its_values_are(tmp_path):
    """Through a table of values, where there are fewer of them than pixels."""
    for kind in ("uint16", "int16"):
        limits = np.iinfo(kind)
        deep = RNG.integers(limits.min, limits.max, (256, 260), kind, endpoint=True)
        tifffile.imwrite(tmp_path / "a.tif", deep)
        np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], stretched(deep))


def test_numbers_that_are_none_are_counted(tmp_path):
    values = RNG.uniform(size=(20, 30)).astype(np.float32)
    values[1, :3] = np.nan
    values[2, 2] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", values)
    fault = r"list, line 2: cannot read a.tif \(4 of 600 pixels are NaN or infinite\)"
    with pytest.raises(ValueError, match=fault):
        read(tmp_path / "a.tif")


def eight(values, highest=65535):
    return np.round(values / highest * 255).astype(np.uint8)


def deep_pixels(samples):
    pixels = RNG.integers(0, 65536, (20, 30, samples), np.uint16)
    pixels[0, :4, 0] = 0, 128, 129, 65535
    return pixels


def test_sixteen_bits_of_colour_are_shown_by_their_share(tmp_path):
    pixels = deep_pixels(3)
    assert [int(x) for x in eight(pixels[0, :4, 0])] == [0, 0, 1, 255]
    png(tmp_path / "a.png", pixels, 2)
    names = ["a.png"]
    for order, compression in itertools.product("<>", (None, "zlib")):
        for predictor in {False, compression is not None}:
            names.append(f"{order}{compression}{predictor}.tif")
            tifffile.imwrite(
                tmp_path / names[-1],
                pixels,
                photometric="rgb",
                byteorder=order,
                compression=compression,
                predictor=predictor,
            )
    for name in names:
        np.testing.assert_array_equal(read(tmp_path / name), eight(pixels), name)
    # 257 times a picture of 8 bits is that picture
    png(tmp_path / "b.png", COLOUR.astype(np.uint16) * 257, 2)
    np.testing.assert_array_equal(read(tmp_path / "b.png"), COLOUR)
    for highest in (65535, 4095):
        values = RNG.integers(0, highest + 1, (20, 30, 3), np.uint16)
        head = f"P6 30 20 {highest}\n".encode()
        (tmp_path / "a.ppm").write_bytes(head + values.astype(">u2").tobytes())
        image = read(tmp_path / "a.ppm")
        np.testing.assert_array_equal(image, eight(values, highest))


def test_sixteen_bits_of_colour_with_alpha_and_turned(tmp_path):
    pixels = deep_pixels(4)
    png(tmp_path / "a.png", pixels, 6)
    Image.fromarray(eight(pixels)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), read(tmp_path / "b.png"))
    pixels = deep_pixels(3)
    extra = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=extra)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.rot90(eight(pixels), -1))


def test_sixteen_bits_of_colour_that_would_be_wrong_are_refused(tmp_path):
    pixels = deep_pixels(4)
    png(tmp_path / "grey.png", pixels[..., :2], 4)
    planes = np.moveaxis(pixels[..., :3], -1, 0)
    how = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "planes.tif", planes, **how)
    tifffile.imwrite(tmp_path / "packed.tif", planes, compression="zlib", **how)
    tifffile.imwrite(tmp_path / "alpha.tif", pixels, photometric="rgb")
    for name in ("grey.png", "planes.tif", "packed.tif", "alpha.tif"):
        for measure in (image_size, read_image):
            with pytest.raises(ValueError, match=r"16 bits a colour\); of these"):
                measure(ImageFile(tmp_path / name), "x")
    png(tmp_path / "dark.png", pixels[..., :3] >> 4, 2)
    with pytest.raises(ValueError, match=r"of which none is above 40\d\d\); expected"):
        read(tmp_path / "dark.png")
    png(tmp_path / "black.png", pixels[..., :3] * 0, 2)
    assert not read(tmp_path / "black.png").any()
    png(tmp_path / "a.png", pixels[..., :3], 2)
    with pytest.raises(ValueError, match="but it has 8 bits or colours"):
        read_image(ImageFile(tmp_path / "a.png", window=(40.0, 400.0)), "x")


TURNED = {  # what is shown, from what is stored
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp", "late.png"])
def test_orientation_is_obeyed_in_every_format(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / name
    if name == "late.png":  # behind the pixels, where some cameras write it
        body = exif.tobytes().removeprefix(b"Exif\0\0")
        png(path, COLOUR, 2, bits=8, chunks=body)
    else:
        Image.fromarray(COLOUR).save(path, exif=exif)
    stored = COLOUR
    if name in ("a.jpg", "a.webp"):
        with Image.open(path) as image:
            stored = np.asarray(image.convert("RGB"))
    expected = TURNED[orientation](stored)
    np.testing.assert_array_equal(read(path), expected)


def exif_bytes(order, *directories):
    """EXIF of directories, one after the other, of (tag, type, count, value)."""
    body = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    for n, entries in enumerate(directories):
        body += struct.pack(f"{order}H", len(entries))
        for tag, kind, count, value in entries:
            packed = struct.pack(f"{order}{'HI'[kind > 3]}", value).ljust(4, b"\0")
            body += struct.pack(f"{order}HHI", tag, kind, count) + packed
        last = n == len(directories) - 1
        body += struct.pack(f"{order}I", 0 if last else len(body) + 4)
    return b"Exif\0\0" + body


TURN = (0x0112, 3, 1, 6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_an_orientation_behind_damage_is_refused(tmp_path, name, order):
    path = tmp_path / name
    Image.fromarray(COLOUR).save(path, exif=exif_bytes(order, [TURN]))
    assert read(path).shape == (30, 20, 3)
    beyond = (0x011A, 5, 1, 60_000)  # a resolution that is said to stand past the end
    Image.fromarray(COLOUR).save(path, exif=exif_bytes(order, [beyond, TURN]))
    for measure in (image_size, read_image):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, which names no file
            with pytest.raises(ValueError, match="line 2: .*damaged EXIF, which hides"):
                measure(ImageFile(path), "line 2")


def test_the_orientation_of_a_preview_is_not_that_of_the_picture(tmp_path):
    path = tmp_path / "a.png"
    width = (0x0100, 4, 1, 30)
    Image.fromarray(COLOUR).save(path, exif=exif_bytes("<", [width], [TURN]))
    with Image.open(path) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1).get(0x0112) == 6
    np.testing.assert_array_equal(read(path), COLOUR)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientation_of_a_grey_tiff(tmp_path, orientation, compression):
    extra = [(274, "H", 1, orientation, True)]
    for values in (GREY, GREY.astype(np.uint16) * 200, GREY.astype(np.float32)):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, values, extratags=extra, compression=compression)
        shown = GREY if values is GREY else stretched(values)
        image = read(path)
        np.testing.assert_array_equal(image[..., 0], TURNED[orientation](shown))


def test_a_jpeg_inside_a_turned_tiff(tmp_path):
    exif = Image.Exif()
    y, x = np.mgrid[:64, :96]
    smooth = np.dstack([2 * x, 3 * y, x + y]).astype(np.uint8)
    images = []
    for orientation in (1, 6):
        exif[0x0112] = orientation
        path = tmp_path / "a.tif"
        Image.fromarray(smooth).save(path, compression="jpeg", exif=exif)
        images.append(read(path))
    np.testing.assert_array_equal(images[1], np.rot90(images[0], -1))


def test_pages_are_named_and_animations_refused(tmp_path):
    pages = [GREY, GREY[:10], GREY[:, :7]]
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    for measure in (image_size, read_image):
        with pytest.raises(ValueError, match=r"a.tif \(3 pages\); name one of them"):
            measure(ImageFile(tmp_path / "a.tif"), "x")
    for frame, page in enumerate(pages):
        np.testing.assert_array_equal(
            read(tmp_path / "a.tif", frame=frame)[..., 0], page
        )
    with pytest.raises(ValueError, match=r"a.tif \(frame 3\) \(it has 3 frames\)"):
        read(tmp_path / "a.tif", frame=3)
    for name in ("a.gif", "a.webp", "a.png"):
        first.save(
            tmp_path / name, save_all=True, append_images=[Image.fromarray(GREY[::-1])]
        )
        with pytest.raises(ValueError, match="an animation of 2 frames"):
            image_size(ImageFile(tmp_path / name), "x")
    first.save(tmp_path / "one.png")
    np.testing.assert_array_equal(read(tmp_path / "one.png", frame=0)[..., 0], GREY)
    with pytest.raises(ValueError, match="it has 1 frames"):
        read(tmp_path / "one.png", frame=1)
    with pytest.raises(ValueError, match="it is no volume"):
        read(tmp_path / "one.png", plane="axial")


def test_a_camera_s_second_picture_is_left_alone(tmp_path):
    picture, depth = (Image.fromarray(a) for a in (COLOUR, GREY))
    picture.save(
        tmp_path / "a.mpo", save_all=True, append_images=[depth.convert("RGB")]
    )
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO" and image.n_frames == 2
        first = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), first)


def test_too_many_pixels_and_too_thin_ones(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for limit in (500, 200):  # a warning of PIL's, and an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for measure in (image_size, read_image):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with pytest.raises(ValueError, match=r"x: cannot read a.png .*pixels"):
                    measure(ImageFile(tmp_path / "a.png"), "x")
    monkeypatch.undo()
    for sides in ((2, 400), (400, 2)):
        Image.fromarray(np.zeros(sides, np.uint8)).save(tmp_path / "a.png")
        assert image_size(ImageFile(tmp_path / "a.png"), "x") == sides
        smart_resize(*sides, factor=28, min_pixels=784, max_pixels=78400)
    for sides in ((2, 401), (401, 2)):
        Image.fromarray(np.zeros(sides, np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match="aspect ratio must be at most 200"):
            smart_resize(*sides, factor=28, min_pixels=784, max_pixels=78400)
        for measure in (image_size, read_image):
            with pytest.raises(ValueError, match="x: a.png has .*at most 200 times"):
                measure(ImageFile(tmp_path / "a.png"), "x")


def test_what_is_no_image_names_line_and_file_but_no_folder(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(whole[:-100])
    (tmp_path / "text.png").write_text("<html>not found</html>")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dead.png").symlink_to(tmp_path / "gone")
    (tmp_path / "live.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "jpeg.png").write_bytes((tmp_path / "a.jpg").read_bytes())
    broken = bytearray(whole)
    broken[60] ^= 255
    (tmp_path / "flipped.png").write_bytes(bytes(broken))
    for name, fault in {
        "empty.png": "has 0 bytes",
        "cut.png": "cannot read cut.png",
        "text.png": r"\(no image format\); expected a whole image: PNG",
        "a.heic": "an? 'heic' container.*convert it",
        "folder.png": "is a folder; expected an image file",
        "flipped.png": "cannot read flipped.png",
    }.items():
        for measure in (image_size, read_image):
            with pytest.raises(ValueError, match=rf"list, line 2: .*{fault}") as raised:
                measure(ImageFile(tmp_path / name), "list, line 2")
            assert str(tmp_path) not in str(raised.value)
    for name, fault in {"dead.png": "a link to nothing", "no.png": "no such"}.items():
        with pytest.raises(
            FileNotFoundError, match=rf"line 2: no image {name} \({fault}"
        ):
            image_size(ImageFile(tmp_path / name), "line 2")
    np.testing.assert_array_equal(read(tmp_path / "live.png"), COLOUR)
    np.testing.assert_array_equal(read(tmp_path / "jpeg.png"), read(tmp_path / "a.jpg"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.gif", "a.webp"])
def test_damaged_files_end_in_a_clear_error(tmp_path, name):
    Image.fromarray(COLOUR).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        body = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(body), rng.integers(0, 4)):
            body[place] = rng.integers(0, 256)
        (tmp_path / name).write_bytes(body)
        for measure in (image_size, read_image):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    measure(ImageFile(tmp_path / name), "line 2")
                except ValueError as error:
                    assert str(error).startswith("line 2: ")
                    assert str(tmp_path) not in str(error)
