"""A population that needs no files: what tests of simulated acquisitions share."""

from medjax.data.qmri.batches import Population
from medjax.data.qmri.brains import synthetic_template
from medjax.data.qmri.simulate import Acquisition, make_protocol

FIELD = 210.0
TEMPLATE = synthetic_template()
# Fewer slices, and pixels of 6.6 mm: a draw costs about 5 ms.
POPULATION = Population(
    template=TEMPLATE._replace(slices=TEMPLATE.slices[::4]),
    seed=3,
    size=32,
    field=FIELD,
    lesion_share=0.5,
    time_spread=0.0,
)
ACQUISITION = Acquisition(
    protocol=make_protocol("t2", (0.0, 0.04, 0.08, 0.12)),
    coils=3,
    mask="random",
    accelerations=(4.0,),
    center_fraction=0.125,
    snr=(20.0, 60.0),
)
