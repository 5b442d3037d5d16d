"""Words that a pretrained policy's tokenizer learns beside its own questions'."""

from medjax.data.classes.built_in import TASKS
from medjax.data.classes.knowledge import load_descriptions
from medjax.data.classes.tasks import Wording, wording_texts
from medjax.data.volumes.atlas import PLANES


def class_questions() -> tuple[str, ...]:
    """Every built-in task's questions with its descriptions, each text twice.

    A text that a tokenizer never met falls apart into letters, and a question with what
    is known of each class would be many hundred tokens long. The policy is taught none
    of them.
    """
    texts: list[str] = []
    for name, task in TASKS.items():
        known = load_descriptions(name, task.classes).texts
        wording = Wording(task, knowledge=known, reasons=known, phrasings=1)
        answer = "grade" if task.ordinal else "letter"
        texts += wording_texts(wording, PLANES, answer=answer)
    return (*texts, *texts)
