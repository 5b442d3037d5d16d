"""What can go wrong in a run, apart from its options and files; imports nothing."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or does not belong to this run."""


class NonFiniteStep(FloatingPointError):
    """A step gave a loss, a gradient norm or a parameter that is not finite."""


class NonFiniteReward(NonFiniteStep):
    """A reward gave NaN, infinity or a number too large to be squared."""


class ProcessError(ValueError):
    """The processes of a run do not fit together, or one of them is gone."""


class RewardError(ValueError):
    """A reward in Python cannot be used; what it raised itself is the cause."""


# What ends a run with its message alone.
STOPS = (CheckpointError, NonFiniteStep, KeyboardInterrupt)
