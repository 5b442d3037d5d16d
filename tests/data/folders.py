"""Small folders in the layouts of published data sets, pixels of noise and all."""

import json

import numpy as np
from PIL import Image

LESIONS = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")


def picture(path, *, size=(40, 56), seed=0, box=None):
    """A grey picture of noise, (height, width), with a bright box in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 120, (*size, 3), np.uint8)
    if box is not None:
        x1, y1, x2, y2 = (int(edge) for edge in box)
        pixels[y1:y2, x1:x2] = 230
    Image.fromarray(pixels).save(path)
    return path


def mask(path, *, size=(40, 56), boxes=(), value=255, values=None):
    """A mask with filled boxes (x1, y1, x2, y2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    for (x1, y1, x2, y2), mine in zip(
        boxes, values or (value,) * len(boxes), strict=True
    ):
        pixels[y1:y2, x1:x2] = mine
    Image.fromarray(pixels).save(path)
    return path


def some_box(seed, size=(40, 56)):
    rng = np.random.default_rng(seed)
    x1, y1 = (int(rng.integers(2, side // 2)) for side in size[::-1])
    return x1, y1, x1 + int(rng.integers(8, size[1] // 2 - 2)), y1 + size[0] // 3


def ham10000(root, *, lesions=12, masks=True):
    """Two images a lesion in two folders, metadata, and masks in PNG."""
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for n in range(2 * lesions):
        name, lesion = f"ISIC_{24306 + n:07d}", n // 2
        box = some_box(n)
        part = f"HAM10000_images_part_{1 + (n >= lesions)}"
        picture(root / part / f"{name}.jpg", seed=n, box=box)
        if masks:
            folder = root / "HAM10000_segmentations_lesion_tschandl"
            mask(folder / f"{name}_segmentation.png", boxes=[box])
        dx = LESIONS[lesion % len(LESIONS)]
        age = "" if n == 3 else f"{30 + n}.0"
        lines.append(f"HAM_{lesion:07d},{name},{dx},histo,{age},male,back")
    (root / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def tn3k(root, *, train=8, val=3, test=4, labels=True):
    """Images and masks in JPEG, a fold by numbers, and lists without a header."""
    for half, count in (("trainval", train + val), ("test", test)):
        lines = []
        for n in range(count):
            seed = n + 100 * (half == "test")
            box = some_box(seed)
            picture(root / f"{half}-image" / f"{n:04d}.jpg", seed=seed, box=box)
            mask(root / f"{half}-mask" / f"{n:04d}.jpg", boxes=[box])
            lines.append(f"{n:04d}.jpg,{n % 2}")
        if labels:
            (root / f"label4{half}.csv").write_text("\n".join(lines) + "\n")
    order = np.random.default_rng(0).permutation(train + val).tolist()
    fold = {"train": order[:train], "val": order[train:]}
    (root / "tn3k-trainval-fold0.json").write_text(json.dumps(fold))
    return root


NIH_ENTRIES = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
NIH_FINDINGS = ("Cardiomegaly", "Effusion|Mass", "No Finding", "Nodule")


def nih(root, *, patients=8, folder="images_001/images", size=(1024, 1024)):
    """Two images a patient; boxes of those that have findings; both lists."""
    entries, boxes = [NIH_ENTRIES], ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    parts = {"train_val_list.txt": [], "test_list.txt": []}
    for n in range(2 * patients):
        patient = n // 2
        name = f"{patient + 1:08d}_{n % 2:03d}.png"
        labels = NIH_FINDINGS[n % len(NIH_FINDINGS)]
        entries.append(
            f"{name},{labels},{n % 2},{patient + 1},{40 + n},M,PA,2682,2749,0.1,0.1,"
        )
        box = [float(edge) for edge in some_box(n, size)]
        if labels != "No Finding":
            label = labels.partition("|")[0]
            x1, y1, x2, y2 = box
            boxes.append(f"{name},{label},{x1},{y1},{x2 - x1},{y2 - y1},,,")
        part = "test_list.txt" if patient % 4 == 3 else "train_val_list.txt"
        parts[part].append(name)
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full(size, 10 + n, np.uint8)
        x1, y1, x2, y2 = (int(edge) for edge in box)
        pixels[y1:y2, x1:x2] = 200
        Image.fromarray(pixels).save(path, compress_level=1)
    (root / "Data_Entry_2017.csv").write_text("\n".join(entries) + "\n")
    (root / "BBox_List_2017.csv").write_text("\n".join(boxes) + "\n")
    for name, names in parts.items():
        (root / name).write_text("\n".join(names) + "\n")
    return root


VINDR = ("Aortic enlargement", "Cardiomegaly", "Nodule/Mass")


def vindr(root, *, train=6, test=3, kaggle=False, suffix=".dicom", size=(40, 48)):
    """Three readers an image, every third image without findings; DICOM pictures."""
    columns = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    if kaggle:
        columns = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    for split, count in (("train", train), ("test", test)):
        readers = ("R1", "R2", "R3") if split == "train" else (None,)
        lines = [columns if split == "train" else columns.replace("rad_id,", "")]
        labels = [["image_id", *(["rad_id"] if split == "train" else []), *VINDR]]
        labels[0].append("No finding")
        for n in range(count):
            name = f"{n + 1000 * (split == 'test'):032x}"
            box = some_box(n, size)
            seed = n + 100 * (split == "test")  # no picture is in both parts
            found = None if n % 3 == 2 else VINDR[n % len(VINDR)]
            shown = None if found is None else box
            dicom(root / split / f"{name}{suffix}", size=size, box=shown, seed=seed)
            for k, reader in enumerate(readers):
                mine = None if found is None or (n == 0 and k == 2) else found
                edges = "," * 3
                if mine is not None:
                    edges = ",".join(str(edge + 0.5 * k) for edge in box)
                cells = [reader] if reader else []
                if kaggle:
                    number = 14 if mine is None else VINDR.index(mine)
                    cells = [mine or "No finding", str(number), *cells]
                else:
                    cells = [*cells, mine or "No finding"]
                lines.append(",".join([name, *cells, edges]))
                flags = [str(int(label == mine)) for label in VINDR]
                flags.append(str(int(mine is None)))
                labels.append([name, *([reader] if reader else []), *flags])
        if kaggle:
            if split == "train":
                (root / "train.csv").write_text("\n".join(lines) + "\n")
            continue
        folder = root / "annotations"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"annotations_{split}.csv").write_text("\n".join(lines) + "\n")
        text = "\n".join(",".join(line) for line in labels) + "\n"
        (folder / f"image_labels_{split}.csv").write_text(text)
    return root


def dicom(path, *, size, box, seed):
    """A grey picture as DICOM, or as PNG where the path says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 1000, size).astype(np.uint16)
    if box is not None:
        x1, y1, x2, y2 = box
        pixels[y1:y2, x1:x2] = 3000
    if path.suffix == ".png":
        Image.fromarray((pixels >> 4).astype(np.uint8)).save(path)
        return
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID = "CR", "anonymous"
    data.Rows, data.Columns = size
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


def coco(root, *, images=6, name="instances.json"):
    """One annotation an image, none for the last; categories with gaps in their ids."""
    content = {
        "info": {"year": 2026},
        "licenses": [{"id": 1, "name": "own"}],
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 3, "name": "nodule", "supercategory": "finding"},
            {"id": 9, "name": "cyst"},
        ],
    }
    for n in range(images):
        box = some_box(n)
        x1, y1, x2, y2 = box
        picture(root / "images" / "a" / f"{n}.png", seed=n, box=box)
        content["images"].append(
            {
                "id": n + 1,
                "file_name": f"a/{n}.png",
                "height": 40,
                "width": 56,
                "license": 1,
                "patient_id": f"p{n // 2}",
            }
        )
        if n < images - 1:
            content["annotations"].append(
                {
                    "id": 10 + n,
                    "image_id": n + 1,
                    "category_id": (3, 9)[n % 2],
                    "bbox": [x1, y1, x2 - x1 + 0.25, y2 - y1],
                    "area": 1.0,
                    "iscrowd": 0,
                }
            )
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return content
