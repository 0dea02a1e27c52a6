"""The command line of the datasets: `python -m decathlon list | prepare | check`."""

import argparse
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from decathlon import preparation, store
from decathlon.catalog import CATALOG
from decathlon.options import warnings_as_notes
from decathlon.sources import SourceError

REFUSALS = (store.DataError, SourceError, ValueError)


def main(arguments=None):
    """Runs a command and returns its exit code: 0, 1 if a check failed, 2 if it could not be done."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.command(options)
    except REFUSALS as error:
        return _refused(error)
    except OSError as error:
        return _refused(f"{error.strerror or error}: {error.filename or options.data_dir}. Nothing was kept.")
    except KeyboardInterrupt:
        print("\nStopped. Nothing half-made was kept.", file=sys.stderr)
        return 130


def _refused(why):
    print(f"error: {why}", file=sys.stderr)
    return 2


def _each(names, command):
    """Calls a command with each name and returns the exit code; one that cannot be done does not stop the others."""
    code = 0
    for name in names:
        try:
            command(name)
        except REFUSALS as error:
            code = _refused(error)
    return code


def _parser():
    parser = argparse.ArgumentParser("python -m decathlon", description="Prepares image datasets, once.")
    commands = parser.add_subparsers(required=True, metavar="list | prepare | check")

    listing = commands.add_parser("list", help="show all datasets and which are prepared")
    listing.set_defaults(command=list_datasets)

    preparing = commands.add_parser("prepare", help="prepare datasets in the data directory")
    preparing.set_defaults(command=prepare)
    preparing.add_argument(
        "names", nargs="+", metavar="NAME", help="of the catalogue, or a new one with --folder or --npz"
    )
    preparing.add_argument(
        "--size", type=int, help="side in pixels: the shorter side is resized to it, the longer cropped"
    )
    origin = preparing.add_mutually_exclusive_group()
    origin.add_argument(
        "--folder", type=Path, metavar="DIR", help="images in class sub-folders, or train/ and validation/"
    )
    origin.add_argument(
        "--npz", type=Path, metavar="FILE", help="x_train, y_train, x_test, y_test as in keras.datasets"
    )
    preparing.add_argument("--skip-bad", type=int, default=0, metavar="N", help="leave out up to N corrupt images")

    checking = commands.add_parser("check", help="re-hash prepared datasets")
    checking.set_defaults(command=check)
    checking.add_argument("names", nargs="*", metavar="NAME", help="all that are prepared by default")

    for command in (listing, preparing, checking):
        command.add_argument(
            "--data-dir", type=Path, default=store.default_data_dir(), metavar="DIR", help="default: %(default)s"
        )
    return parser


def list_datasets(options):
    """Prints every dataset with its classes, images, source and state."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "classes", "images per split", "source", "prepared, or the command that prepares it")
    names = [*CATALOG, *(name for name in store.prepared_names(options.data_dir) if name not in CATALOG)]
    code = _each(names, lambda name: table.add_row(name, *map(escape, _describe(name, options.data_dir))))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return code


def _describe(name, data_dir):
    entry = CATALOG.get(name)
    datasets = store.prepared(name, data_dir)
    if datasets:
        sizes = ", ".join(dataset.size for dataset in datasets)
        return str(datasets[0].classes), _counts(datasets[0].counts), datasets[0].meta["source"], f"at {sizes} px"
    state = "made on first use" if entry.source == "bundled" else store.prepare_command(name)
    source = f"TFDS {entry.tfds_name}" if entry.tfds_name else entry.source
    return str(entry.classes), _counts(entry.counts), source, state


def _counts(counts):
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def prepare(options):
    """Prepares the named datasets."""
    if (options.folder or options.npz) and len(options.names) > 1:
        raise ValueError(f"--folder and --npz prepare one dataset. Received: {' '.join(options.names)}")
    return _each(options.names, lambda name: prepare_one(name, options))


def prepare_one(name, options):
    """Opens a dataset's source, prepares it and says what was made."""
    entry = CATALOG.get(name)
    size = options.size
    if size is None and entry is not None and not (options.folder or options.npz):
        size = entry.size
    if not (options.folder or options.npz) and str(size) in store.prepared_sizes(name, options.data_dir):
        print(f"{name}: prepared already at {size} px")
        return
    preparation.check_request(name, size, options.data_dir, options.skip_bad)
    source = _open_source(name, entry, size, options)
    with _progress(name) as progress, warnings_as_notes():
        dataset = preparation.prepare(name, source, size, options.data_dir, options.skip_bad, progress)
    skipped = f", {len(dataset.meta['skipped'])} corrupt left out" if dataset.meta["skipped"] else ""
    print(f"{name}: {dataset.classes} classes, {_counts(dataset.counts)}, {dataset.size} px{skipped} -> {dataset.path}")
    if entry is not None and (dataset.classes, dataset.counts.get("train")) != (entry.classes, entry.counts["train"]):
        print(
            f"note: the catalogue's {name} has {entry.counts['train']:,} training images in {entry.classes} classes; "
            "tables will say that this one differs."
        )


def check(options):
    """Re-hashes the named datasets, or all, and says which files changed."""
    names = options.names or store.prepared_names(options.data_dir)
    if not names:
        raise store.NotPreparedError(f"{options.data_dir} holds no prepared dataset: there is nothing to check.")
    code = 0
    for name in names:
        sizes = store.prepared_sizes(name, options.data_dir)
        if not sizes:
            raise store.NotPreparedError(f"{name} is not prepared. Run: {store.prepare_command(name)}")
        for size in sizes:
            damage = _damage(options.data_dir / f"{name}-{size}")
            code = 1 if damage else code
            print(f"{name} {size} px: {f'DAMAGED: {damage}' if damage else 'ok'}")
    return code


def _damage(path):
    """Returns what is wrong with a prepared dataset, or `None`."""
    try:
        changed = store.read(path).check()
        if changed:
            return f"{', '.join(changed)}; delete {path} and prepare it anew"
        store.load(path)
    except store.DataError as error:
        return str(error)
    return None


def _open_source(name, entry, size, options):
    if (options.folder or options.npz) and entry is not None and entry.source == "bundled":
        raise ValueError(f"{name} is bundled. Give your own images another name.")
    if options.folder:
        from decathlon.sources.folder import open_folder

        return open_folder(options.folder)
    if options.npz:
        from decathlon.sources.npz import open_npz

        return open_npz(options.npz)
    if entry is None:
        raise ValueError(
            f"{name!r} is not in the catalogue ({', '.join(CATALOG)}). Your own images: --folder DIR or --npz FILE."
        )
    if entry.source == "folder":
        raise ValueError(f"{name} comes as a folder: download {entry.url}, unpack it and run with --folder DIR.")
    if entry.source == "bundled":
        from decathlon.sources.bundled import open_bundled

        return open_bundled(name, size)
    from decathlon.sources.tfds import open_tfds

    source = open_tfds(entry, options.data_dir)
    _check_against_catalogue(entry, source, options)
    return replace(source, counts=entry.counts)


def _check_against_catalogue(entry, source, options):
    if len(source.class_names) != entry.classes:
        raise store.DataError(
            f"{entry.name} must have {entry.classes} classes. The source has {len(source.class_names)}."
        )
    for split, expected in entry.counts.items():
        found = source.counts.get(split, 0)
        if 0 <= expected - found <= options.skip_bad:
            continue
        message = f"{entry.name}: {split} must have {expected:,} images, the source has {found:,}."
        if found < expected:
            tfds = options.data_dir / "tfds"
            message += (
                f" If an archive is truncated, replace it, delete {tfds / entry.tfds_name} and "
                f"{tfds / 'downloads' / 'extracted'} and run again. To go on with what is there: "
                f"--skip-bad {expected - found}"
            )
        raise store.DataError(message)


@contextmanager
def _progress(name):
    """Yields a function that draws a bar per split, with rate and time left; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    class RateColumn(ProgressColumn):
        def render(self, task):
            return f"{task.speed or 0:,.0f} images/s"

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    tasks = {}
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:

        def update(split, done, total):
            if split not in tasks:
                tasks[split] = bar.add_task(f"{name} {split}", total=total)
            bar.update(tasks[split], completed=done)

        yield update


if __name__ == "__main__":
    sys.exit(main())
