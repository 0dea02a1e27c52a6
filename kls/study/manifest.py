"""`study.json`: what a study was asked for, so that its report can be made from its directory alone."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kls.study.records import StoreError
from kls.utils.arrays import shown
from kls.utils.files import write_atomically

MANIFEST = "study.json"


@dataclass(frozen=True)
class Manifest:
    """What a study was asked for.

    Attributes:
        study: Its name.
        asked: `{id: label}` of the trials that were asked for, in the order of the plan.
        command: The command that runs it again; empty if it was run from Python.
        datasets: `{name: path of the prepared dataset}` of what its networks are trained on, `None` for arrays.
    """

    study: str
    asked: dict
    command: str
    datasets: dict


def manifest_of(plan, sources, command=""):
    """Returns the `Manifest` of a plan.

    Args:
        plan: The `Plan`.
        sources: Its opened datasets, as `Sources`.
        command: As in `Manifest`.
    """
    asked = {trial.id: trial.method.label for trial in plan.trials if plan.asked is None or trial.id in plan.asked}
    paths = {name: getattr(dataset, "path", None) for name, dataset in sources.datasets.items()}
    return Manifest(
        plan.study, asked, command, {name: path and str(Path(path).resolve()) for name, path in paths.items()}
    )


def write_manifest(out, manifest):
    """Writes a `Manifest` into a directory of results."""
    write_atomically(Path(out) / MANIFEST, json.dumps(asdict(manifest), indent=1))


def read_manifest(out):
    """Returns the `Manifest` of a directory of results, `None` where there is none.

    Raises:
        StoreError: If it is damaged.
    """
    path = Path(out) / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or found.keys() != Manifest.__dataclass_fields__.keys():
            raise ValueError(f"it must hold {', '.join(Manifest.__dataclass_fields__)}. Received: {shown(found)}")
        manifest = Manifest(**found)
        texts = [manifest.study, manifest.command]
        maps = [manifest.asked, manifest.datasets]
        if not all(isinstance(of, dict) for of in maps):
            raise ValueError("asked and datasets must be objects")
        texts += [*manifest.asked.values(), *(path for path in manifest.datasets.values() if path is not None)]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its values must be texts")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it: the report is then of all trials.") from None
    return manifest
