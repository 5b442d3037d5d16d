"""What is public about MedMNIST's sets and not in their files: classes, and their kind.

Names and order are those of MedMNIST's `INFO` (Yang et al., Scientific Data 2023).
"""

from typing import NamedTuple

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)


class MedSet(NamedTuple):
    """What is public about a set and not in its file."""

    picture: str  # what one is, in a question
    classes: tuple[str, ...]
    ordinal: bool = False
    multi: bool = False  # several classes a picture, or none
    volumes: bool = False


SETS = {
    "pathmnist": MedSet(
        "H&E stained patch of colorectal tissue",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus"),
            *("smooth muscle", "normal colon mucosa", "cancer-associated stroma"),
            "colorectal adenocarcinoma epithelium",
        ),
    ),
    "dermamnist": MedSet(
        "dermoscopic picture",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
        ),
    ),
    "octmnist": MedSet(
        "retinal OCT picture",
        (
            "choroidal neovascularization",
            *("diabetic macular edema", "drusen", "normal"),
        ),
    ),
    "pneumoniamnist": MedSet("chest radiograph of a child", ("normal", "pneumonia")),
    "retinamnist": MedSet("fundus photograph", ("0", "1", "2", "3", "4"), True),
    "breastmnist": MedSet("breast ultrasound picture", ("malignant", "normal, benign")),
    "bloodmnist": MedSet(
        "picture of a blood cell",
        (
            *("basophil", "eosinophil", "erythroblast"),
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            *("lymphocyte", "monocyte", "neutrophil", "platelet"),
        ),
    ),
    "tissuemnist": MedSet(
        "fluorescence picture of a kidney cortex cell",
        (
            *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule"),
            *("Glomerular endothelial cells", "Interstitial endothelial cells"),
            *("Leukocytes", "Podocytes", "Proximal Tubule Segments"),
            "Thick Ascending Limb",
        ),
    ),
    "organamnist": MedSet("axial CT crop", _ORGANS),
    "organcmnist": MedSet("coronal CT crop", _ORGANS),
    "organsmnist": MedSet("sagittal CT crop", _ORGANS),
    "chestmnist": MedSet(
        "frontal chest radiograph",
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass"),
            *("nodule", "pneumonia", "pneumothorax", "consolidation", "edema"),
            *("emphysema", "fibrosis", "pleural", "hernia"),
        ),
        multi=True,
    ),
    "organmnist3d": MedSet(
        "slice of a CT crop of an organ",
        (
            *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left"),
            *("bladder", "heart", "lung-right", "lung-left", "spleen", "pancreas"),
        ),
        volumes=True,
    ),
    "nodulemnist3d": MedSet(
        "slice of a CT crop of a lung nodule", ("benign", "malignant"), volumes=True
    ),
    "adrenalmnist3d": MedSet(
        "slice of the mask of an adrenal gland",
        ("normal", "hyperplasia"),
        volumes=True,
    ),
    "fracturemnist3d": MedSet(
        "slice of a CT crop of a broken rib",
        (
            *("buckle rib fracture", "nondisplaced rib fracture"),
            "displaced rib fracture",
        ),
        volumes=True,
    ),
    "vesselmnist3d": MedSet(
        "slice of the mask of a brain vessel", ("vessel", "aneurysm"), volumes=True
    ),
    "synapsemnist3d": MedSet(
        "slice of an electron microscopy crop of a synapse",
        ("inhibitory synapse", "excitatory synapse"),
        volumes=True,
    ),
}
"""The sets of MedMNIST v2 and MedMNIST+; names and order as its `INFO` has them."""
