"""The command `kls report`: the report of a run from its directory, without training."""

import sys

from decathlon.store import DataError
from kls.pages.page import page_path
from kls.study.manifest import read_manifest
from kls.study.report.images import find_dataset
from kls.study.report.page import study_page
from kls.study.store import RunStore, StoreError

REPORT = "report.html"


def run_report(options):
    """Writes the report of a run and returns the exit code: 0, 1 if trials are left out, 2 if there can be none.

    Args:
        options: The parsed command line: `directory`, `out` and `data_dir`.
    """
    store = RunStore(options.directory)
    try:
        path = page_path(options.out or store.out / REPORT)
        page_of_run(store, options.data_dir).write(path)
    except (StoreError, DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Report: {path}")
    return 1 if store.left_out else 0


def page_of_run(store, data_dir=None):
    """Returns the `Page` of the trials that a run was asked for; of all in its directory, if it does not say.

    Args:
        store: The `RunStore`.
        data_dir: The data directory, in place of that of the run.

    Raises:
        StoreError: If there are no finished trials.
    """
    manifest = read_manifest(store.out)
    records = store.believed(store.records())
    unfinished, command = 0, None
    if manifest is not None:
        found = {record["trial"]: record for record in records}
        asked = manifest.asked.items()
        records = [{**found[trial], "method": label} for trial, label in asked if trial in found]
        unfinished, command = len(asked) - len(records), manifest.command
    if not records:
        raise StoreError(f"{store.out} holds no finished trials to report. It must be the --out of a study.")
    return study_page(records, store, lambda record: find_dataset(record, manifest, data_dir), command, unfinished)
