"""Data sets in folders: one sub-folder per class, in one tree or in `train/` and `validation/`."""

from collections import Counter

from PIL import Image

from decathlon.sources import Example, Source, SourceError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
ANNOTATIONS = "val_annotations.txt"
VALIDATION_SHARE = 0.2
SPLIT_SEED = 0


def open_folder(path):
    """Opens a folder of PNG, JPEG and WebP images.

    Either `path/CLASS/...`, from which one image in five of each class is drawn for validation (seeded, so always
    the same ones), or `path/train/CLASS/...` with `path/validation/CLASS/...` (or `val/`) and, optionally,
    `path/test/CLASS/...`. The layout of Tiny ImageNet (`val/images` and `val/val_annotations.txt`) is understood;
    its `test/images` are left out, since they have no labels.

    Args:
        path: The folder.

    Returns:
        A `Source`. Images of mode 1, L and I;16 alone make it one channel, anything else three.

    Raises:
        SourceError: If there is no such folder, no class, a class without images, too few to split, or if the
            splits' classes differ.
    """
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder.")
    files = _files_by_split(path)
    class_names = sorted({name for _, name in files["train"]})
    for split, pairs in files.items():
        unknown = sorted({name for _, name in pairs} - set(class_names))
        if unknown:
            raise SourceError(f"{path}: {split} has classes that train lacks: {', '.join(unknown[:5])}.")
    if len(class_names) < 2:
        raise SourceError(f"{path}: at least two class folders are needed. Found: {class_names}.")
    index = {name: i for i, name in enumerate(class_names)}

    def read(split):
        for file, name in files[split]:
            yield Example(str(file.relative_to(path)), file, index[name])

    counts = {split: len(pairs) for split, pairs in files.items()}
    return Source(f"folder {path.name}", class_names, _channels(files), counts, "validation", read)


def _files_by_split(path):
    """Returns {split: [(file, class name)]}."""
    found = {}
    for split, folders in SPLIT_FOLDERS.items():
        for folder in (path / name for name in folders):
            if folder.is_dir() and split not in found and not _is_unlabelled(folder):
                pairs = _annotated(folder) if (folder / ANNOTATIONS).is_file() else _by_class(folder)
                if pairs:
                    found[split] = pairs
    if "train" not in found:
        found = {"train": _by_class(path)}
    if not found["train"]:
        raise SourceError(f"{path}: no class folders with {', '.join(SUFFIXES)} images.")
    if "validation" not in found:
        found["train"], found["validation"] = _split(path, found["train"])
    return {split: found[split] for split in SPLIT_FOLDERS if split in found}


def _is_unlabelled(folder):
    """Whether it is Tiny ImageNet's test split."""
    return folder.name == "test" and (folder.parent / "val" / ANNOTATIONS).is_file()


def _by_class(folder):
    pairs = []
    for class_folder in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        files = sorted(f for f in class_folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        if not files and folder.name != "test":
            raise SourceError(f"{class_folder}: no {', '.join(SUFFIXES)} images in this class folder.")
        pairs += [(file, class_folder.name) for file in files]
    return pairs


def _annotated(folder):
    rows = [line.split("\t") for line in (folder / ANNOTATIONS).read_text().splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise SourceError(f"{folder / ANNOTATIONS}: line {number} is not a file name, a tab and a class.")
    return [(folder / "images" / row[0], row[1]) for row in rows]


def _split(path, pairs):
    from sklearn.model_selection import train_test_split

    classes = [name for _, name in pairs]
    lonely = sorted(name for name, count in Counter(classes).items() if count < 2)
    if lonely:
        raise SourceError(f"{path}: classes of one image cannot be split for validation: {', '.join(lonely[:5])}.")
    share = max(VALIDATION_SHARE, len(set(classes)) / len(classes))
    train, validation = train_test_split(pairs, test_size=share, stratify=classes, random_state=SPLIT_SEED)
    return sorted(train), sorted(validation)


def _channels(files):
    for pairs in files.values():
        for file, _ in pairs:
            try:
                with Image.open(file) as image:
                    if image.mode not in ("1", "L", "I", "I;16"):
                        return 3
            except Exception:
                continue  # the store decodes every file, and names the corrupt ones
    return 1
