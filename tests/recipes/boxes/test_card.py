"""The card tells what the run's records say."""

from medjax.data.volumes.ct import CHEST
from medjax.evals.tables import Interval
from medjax.recipes.boxes.card import CardFacts, pretrained_card
from medjax.recipes.boxes.domains import METRICS, DomainRow
from medjax.recipes.policy.card import RunFacts

FACTS = CardFacts(
    run=RunFacts(
        command="python run.py --config=configs/pretrain.py",
        commits=("abc1234",),
        versions={"medjax": "0.2.0"},
        seed=3,
        steps=(4000, 4000),
    ),
    plain=1200,
    examples=192_000,
    parameters=3_015_424,
    packs=(CHEST,),
    shares={"ct_organs": 3.0, "shapes": 1.0},
    held_out={"organs": "heart, liver"},
    size=(112, 112),
    bounds=(3136, 200704),
    ramps=True,
    level=0.95,
)
ROW = DomainRow(
    "the policy", "CT", 40, 7, 12, {name: Interval(0.5, 0.4, 0.61) for name in METRICS}
)


def test_everything_is_told():
    text = pretrained_card(FACTS, [ROW])
    for piece in (
        "3.02 M parameters",
        "`python run.py --config=configs/pretrain.py`",
        "| commits | abc1234 |",
        "| seed | 3 |",
        "| steps | 4000 |",
        "| steps before, on plain pictures | 1200 |",
        "`data.ramps=True` is needed",
        "| CT, the policy | 40 | 7 | 12 | 0.500 [0.400, 0.610] |",
        "95% intervals",
        "ct_organs 75%, shapes 25%",
        f"({CHEST.licence}). {CHEST.credit}.",
        "- organs: heart, liver",
        "--config.policy.max_pixels=200704",
    ):
        assert piece in text, piece
    assert "not finished" not in text


def test_an_unfinished_training_is_said():
    text = pretrained_card(
        FACTS._replace(run=FACTS.run._replace(steps=(300, 4000)), ramps=False), [ROW]
    )
    assert "| steps | 300 of 4000: **training is not finished** |" in text
    assert "| coordinate ramps | not used |" in text
