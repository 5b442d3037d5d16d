"""Runs the notebooks and stores their outputs in them: `make notebooks`.

What differs from run to run or from machine to machine is left out (times, addresses of
objects, versions), so that a notebook whose results are the same stays the same file.
"""

import pathlib
import sys
from typing import Any

import nbclient
import nbformat

NOTEBOOKS = pathlib.Path(__file__).parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def run(path: pathlib.Path) -> None:
    """Run the notebook in a kernel of its own, in its folder, and write it again.

    Raises:
        CellExecutionError: a cell of it failed; the file is then as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [_stored(output) for output in cell.outputs]
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def _stored(output: Any) -> Any:  # noqa: ANN401
    """The output; of a figure the picture alone."""
    if "image/png" in output.get("data", {}):
        output.data = {"image/png": output.data["image/png"]}
        output.metadata = {}
    return output


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(NOTEBOOKS.glob("*.ipynb")):
        run(pathlib.Path(name))
