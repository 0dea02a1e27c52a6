"""Datasets in folders: one sub-folder per class, in one tree or in `train/`, `validation/` and `test/`."""

import os
import unicodedata
from collections import Counter
from contextlib import suppress
from pathlib import Path

from decathlon.arguments import check_path
from decathlon.sources import Example, Source, SourceError, absent_classes, listed, open_image, repeated

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
GREY_MODES = ("1", "L", "I", "I;16", "I;16B")
ANNOTATIONS = "val_annotations.txt"
VALIDATION_SHARE = 0.2
SPLIT_SEED = 0


def open_folder(path):
    """Opens a folder of PNG, JPEG, WebP, BMP and TIFF images; of several frames the first is taken.

    Either `path/CLASS/...`, from which one image in five of each class is drawn for validation (seeded, so always
    the same ones), or `path/train/CLASS/...` with `path/validation/CLASS/...` and, optionally, `path/test/CLASS/...`.
    `training`, `val`, `valid` and `testing` are understood too, and all of these in any case. So is the layout of Tiny
    ImageNet (`val/images` and `val/val_annotations.txt`); its `test/images` are left out, since they have no labels.
    Files and folders whose name begins with a dot are ignored. All other files that are left out are counted.

    Args:
        path: The folder.

    Returns:
        A `Source`. Images of mode 1, L and I;16 alone make it one channel, anything else three. Accuracies are measured
        on `test` where there is one, else on `validation`.

    Raises:
        SourceError: If there is no such folder, no class, a class without images, too few to split, if the splits'
            classes differ, if two classes have the same name, or if a link or a path leaves the folder.
    """
    path = check_path(path, "path")
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder.")
    files, remarks, inner = _files_by_split(path)
    class_names = sorted({name for _, name in files["train"]})
    for split, pairs in files.items():
        present = {name for _, name in pairs}
        unknown = sorted(present - set(class_names))
        if unknown:
            raise SourceError(f"{path}: {split} has classes that train lacks: {', '.join(unknown[:5])}.")
        remarks += absent_classes(split, class_names, present)
    if len(class_names) < 2:
        below = f", with {listed(inner)} below" if inner else ""
        raise SourceError(f"{path}: at least two class folders are needed. Found: {class_names}{below}.")
    if inner:
        remarks.append(f"Folders below a class are no classes of their own: {listed(inner)} belong to the one above.")
    alike = repeated([name.strip().casefold() for name in class_names])
    if alike:
        remarks.append(f"Some class names differ only in case or in blanks around them: {listed(alike)}.")
    left_out = _left_out(path, files)
    if left_out:
        counts = ", ".join(f"{count:,} {suffix}" for suffix, count in left_out.items())
        remarks.append(f"Files of {path} that are left out: {counts}.")
    index = {name: i for i, name in enumerate(class_names)}

    def read(split):
        for file, name in files[split]:
            yield Example(str(file.relative_to(path)), file, index[name])

    kinds = _kinds(files)
    if len(kinds) == 2:
        remarks.append(
            f"Some images are grey, such as {str(kinds[1].relative_to(path))!r}: they become RGB as the others."
        )
    counts = {split: len(pairs) for split, pairs in files.items()}
    evaluation = "test" if "test" in files else "validation"
    return Source(
        f"folder {path.name}", class_names, 3 if 3 in kinds else 1, counts, evaluation, read, left_out, remarks
    )


def _files_by_split(path):
    """Returns {split: [(file, class name)]}, remarks on how they were found, and folders below classes."""
    found, remarks, inner = {}, [], []
    folders = {entry.name.casefold(): entry for entry in sorted(path.iterdir()) if entry.is_dir()}
    for split, names in SPLIT_FOLDERS.items():
        for folder in (folders[name] for name in names if name in folders):
            if split not in found and not _is_unlabelled(folder):
                pairs = _annotated(folder, path) if (folder / ANNOTATIONS).is_file() else _by_class(folder, path, inner)
                if pairs:
                    found[split] = pairs
    if "train" not in found:
        found = {"train": _by_class(path, path, inner)}
    if not found["train"]:
        raise SourceError(f"{path}: no class folders with {', '.join(SUFFIXES)} images.")
    if "validation" not in found:
        found["train"], found["validation"] = _split(path, found["train"])
        drawn, kept = len(found["validation"]), len(found["train"])
        remarks.append(
            f"There is no validation folder: {drawn:,} of {drawn + kept:,} training images were drawn for validation, "
            f"the same share of each class (seed {SPLIT_SEED})."
        )
    return {split: found[split] for split in SPLIT_FOLDERS if split in found}, remarks, inner


def _left_out(path, files):
    """Returns how many files below the folder no split holds, by suffix, the most frequent first."""
    taken = {file for pairs in files.values() for file, _ in pairs}
    suffixes = (file.suffix.lower() or "without a suffix" for file in _files_below(path, path) if file not in taken)
    return dict(Counter(suffixes).most_common())


def _is_unlabelled(folder):
    """Whether it is Tiny ImageNet's test split."""
    return folder.name == "test" and (folder.parent / "val" / ANNOTATIONS).is_file()


def _by_class(folder, root, inner):
    """Returns [(file, class name)], and adds to `inner` the folders below a class where it has several."""
    pairs, names = [], []
    for class_folder in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."):
        _refuse_outside(class_folder, root)
        files = sorted(file for file in _files_below(class_folder, root) if file.suffix.lower() in SUFFIXES)
        if not files and folder.name.casefold() not in SPLIT_FOLDERS["test"]:
            raise SourceError(f"{class_folder}: no {', '.join(SUFFIXES)} images in this class folder.")
        names.append(unicodedata.normalize("NFC", class_folder.name))
        pairs += [(file, names[-1]) for file in files]
        below = {file.relative_to(class_folder).parts[0] for file in files if file.parent != class_folder}
        inner += [f"{class_folder.name}/{name}" for name in sorted(below)] if len(below) > 1 else []
    if repeated(names):
        raise SourceError(f"{folder}: two folders have the same class name: {listed(repeated(names))}.")
    return pairs


def _files_below(folder, root):
    """Yields all files at any depth but hidden ones; links to folders are not followed, for these may go in circles."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            _refuse_outside(Path(entry.path), root)
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path, root)
        elif entry.is_file():
            yield Path(entry.path)


def _refuse_outside(file, root):
    """Raises `SourceError` for a file or folder that lies outside of the root: through a link, or a path with `..`."""
    if not file.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"{file}: this is {file.resolve()}, which is outside of {root}.")


def _annotated(folder, root):
    rows = [line.split("\t") for line in (folder / ANNOTATIONS).read_text("utf-8", "replace").splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise SourceError(f"{folder / ANNOTATIONS}: line {number} is not a file name, a tab and a class.")
    pairs = [(folder / "images" / row[0], unicodedata.normalize("NFC", row[1])) for row in rows]
    for file, _ in pairs:
        _refuse_outside(file, root)
    return pairs


def _split(path, pairs):
    from sklearn.model_selection import train_test_split

    classes = [name for _, name in pairs]
    lonely = sorted(name for name, count in Counter(classes).items() if count < 2)
    if lonely:
        raise SourceError(f"{path}: classes of one image cannot be split for validation: {', '.join(lonely[:5])}.")
    share = max(VALIDATION_SHARE, len(set(classes)) / len(classes))
    train, validation = train_test_split(pairs, test_size=share, stratify=classes, random_state=SPLIT_SEED)
    return sorted(train), sorted(validation)


def _kinds(files):
    """Returns `{channels: an image of so many}`: of 1 and of 3, where there are both."""
    kinds = {}
    for file, _ in (pair for pairs in files.values() for pair in pairs):
        with suppress(Exception), open_image(file) as image:  # what is corrupt is named when it is decoded
            kinds.setdefault(1 if image.mode in GREY_MODES else 3, file)
        if len(kinds) == 2:
            break
    return kinds
