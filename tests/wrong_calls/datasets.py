"""Wrong calls of the data package."""

import numpy as np

import decathlon
from decathlon import augmentation, preparation, selection
from decathlon.sources import folder as folders
from decathlon.sources import npz as archives

from .kinds import (
    byte_images,
    changed,
    choice,
    flag,
    function,
    no_array,
    number,
    optional,
    path,
    seed,
    text,
    whole,
)
from .samples import BYTE_LABELS, BYTES, batches, digits, directory, file, folder, npz, source
from .table import Call, Made

SIZES = ["8/../../precious", "../8", "8x", 8.0, 7, 0, -8, 1025, 10**9, 0.5, [8], (8, 8), {}, object(), True, b"8"]
NAMES = [*text(), "", ".", "..", "../precious", "a/b", "a b", "a\0b", "-a", "ä"]
DIRECTORIES = optional(path())
SEED = {"seed": seed()}
FLOATS = (BYTES / 255).astype(np.float32)
DISTRIBUTIONS = np.eye(3, dtype=np.float32)[BYTE_LABELS]
SHAPES = [None, 8, "8x8", (), (8, 8), (8, 8, 2), (8, 8, 1, 1), (0, 8, 1), (-8, -8, 1), (8.5, 8.5, 1), ("8", "8", 1), {}]
RNG = np.random.default_rng(0)
NO_RNG = [None, 0, "seed", object(), np.random.default_rng]
NOISE = decathlon.Noise(sides=(2, 3))


def wrong_labels():
    wide = np.zeros((6, 4), np.float32)
    return [
        *no_array(BYTE_LABELS),
        1,
        BYTE_LABELS[:-1],
        BYTE_LABELS[None],
        BYTE_LABELS[:, None, None],
        *(changed(BYTE_LABELS, value) for value in (-1, 3, 10**9, 0.5, np.nan)),
        np.full(6, -1),
        wide,
        2 * DISTRIBUTIONS,
        -DISTRIBUTIONS,
        np.full((6, 3), np.nan, np.float32),
    ]


def mixing(make, argument, kind, **valid):
    """The rows of a mixing: how it is made, and how it is called."""
    yield Call(f"decathlon.{make.__name__}", make, valid, {argument: kind})
    yield Call(
        f"decathlon.{make.__name__}(...)",
        make(),
        {"images": BYTES, "labels": DISTRIBUTIONS, "rng": RNG, "blank": BYTES[0]},
        {
            "images": [*no_array(BYTES), BYTES[0], BYTES[..., 0]],
            "labels": [*no_array(DISTRIBUTIONS), BYTE_LABELS, DISTRIBUTIONS[:-1], DISTRIBUTIONS[0]],
            "rng": NO_RNG,
            "blank": [*optional(no_array(BYTES[0])), 127, BYTES, BYTES[0, :4]],
        },
        says={"images": ("labels",)},
    )


CALLS = [
    Call(
        "decathlon.Augmentation",
        decathlon.Augmentation,
        {"shift": 0.1, "flip": True, "fill": "zero"},
        {"shift": number("[0, 0.5)"), "flip": flag(), "fill": choice("zero", "reflect")},
    ),
    Call(
        "decathlon.Batches",
        decathlon.Batches,
        {"images": BYTES, "labels": BYTE_LABELS, "classes": 3, "batch_size": 2, "training": True},
        {
            "images": byte_images(BYTES),
            "labels": wrong_labels(),
            "classes": [*whole(2), 2],
            "batch_size": [*whole(1), 7, 10**9],
            "training": flag(),
            "augmentation": [5, "zero", {}, object(), True, decathlon.Augmentation],
            "seed": seed(),
            "epoch": whole(0),
            "mixing": [5, "mixup", {}, object(), True, decathlon.MixUp],
            "appended": [*optional(no_array(FLOATS)), FLOATS[:-1], BYTES, 1.0],
            "blank": [
                *optional(no_array(BYTES[0])),
                *(127, FLOATS[0], 300 * FLOATS[0] + 1, BYTES, BYTES[0, :4], np.full((8, 8, 1), np.nan, np.float32)),
            ],
        },
        fine={
            "labels": [BYTE_LABELS.astype(np.uint8), DISTRIBUTIONS],
            "augmentation": [None, decathlon.Augmentation()],
            "mixing": [None, decathlon.MixUp()],
            "appended": [None, FLOATS],
            "blank": [None, BYTES[0], np.full((8, 8, 1), 127.5)],
        },
        says={"images": ("labels",), "classes": ("labels",)},
    ),
    Call(
        "decathlon.Batches.batch",
        lambda epoch, index: batches().batch(epoch, index),
        {"epoch": 0, "index": 0},
        {"epoch": whole(0), "index": whole(0, 2)},
    ),
    Call(
        "decathlon.WithOutliers",
        decathlon.WithOutliers,
        {"batches": Made("batches", batches), "images": BYTES, "batch_size": 2},
        {
            "batches": [
                *(None, 5, "abc", BYTES, object(), decathlon.Batches),
                Made("batches of distributions", lambda: batches(mixing=decathlon.MixUp())),
            ],
            "images": [*byte_images(BYTES), BYTES[:, :4]],
            "batch_size": whole(1),
        },
    ),
    Call(
        "decathlon.Noise",
        decathlon.Noise,
        {"deviation": 0.3, "sides": (2, 3)},
        {
            "deviation": number("[0, inf)"),
            "sides": [None, 5, "ab", (), (2,), (3, 2), (0, 2), (-1, 2), (2, 3, 4), (1.5, 2), ("2", "3"), (True, 3), {}],
        },
        fine={"sides": [[2, 3], (np.int64(2), 3)]},
    ),
    Call(
        "decathlon.Noise(...)",
        NOISE,
        {"images": BYTES, "rng": RNG},
        {"images": [None, 5, "abc", object(), BYTES[0], BYTES[:, :2]], "rng": NO_RNG},
    ),
    Call(
        "decathlon.Denoising",
        decathlon.Denoising,
        {"batches": Made("batches", batches), "noise": NOISE},
        {
            "batches": [None, 5, "abc", BYTES, object(), decathlon.Batches],
            "noise": [5, "abc", 0.3, object(), decathlon.Noise, decathlon.Noise(sides=(8, 9)), True],
        },
        fine={"noise": [None]},
    ),
    *mixing(decathlon.MixUp, "alpha", number("(0, inf)"), alpha=1.0),
    *mixing(decathlon.CutMix, "alpha", number("(0, inf)"), alpha=1.0),
    *mixing(decathlon.RICAP, "beta", number("(0, inf)"), beta=0.3),
    *mixing(decathlon.CutOut, "size", whole(1), size=16),
    Call(
        "decathlon.KerasLayer",
        decathlon.KerasLayer,
        {"name": "keras.RandomBrightness", "factor": (0.2, 0.2)},
        {
            "name": [*text(), "", "RandomBrightness", "keras.Nonsense", "keras.Dense", "os.path", "keras_cv.Nonsense"],
            "factor": ["a", object(), (1, 2, 3)],
            "nonsense": [1],
            "seed": [0],
        },
        says=dict.fromkeys(("factor", "nonsense", "seed"), ("keras.RandomBrightness",)),
    ),
    Call(
        "decathlon.mixing_named",
        decathlon.mixing_named,
        {"text": "mixup:0.2"},
        {
            "text": [
                *text(),
                *("", "nonsense", "mixup:-1", "mixup:nan", "mixup:1,2", "mixup:alpha=1", "cutout:0.5"),
                *("keras.Nonsense", "keras.RandomBrightness", "keras.RandomBrightness:0.2", "mixup:__import__('os')"),
                *("keras.RandomBrightness:factor=__import__('os')", "mixup:(", "MixUp"),
            ]
        },
        fine={"text": ["mixup", "cutout:3", "keras.RandomBrightness:factor=0.2"]},
        says={"text": ("alpha", "size", "name", "keras.RandomBrightness")},
    ),
    Call(
        "decathlon.augmentation.augment",
        augmentation.augment,
        {"images": BYTES, "augmentation": decathlon.Augmentation(), "rng": RNG, "blank": BYTES[0]},
        {
            "images": [None, 5, "abc", object(), BYTES[0], BYTES.astype(str)],
            "augmentation": [None, 5, "zero", object(), decathlon.Augmentation],
            "rng": NO_RNG,
            "blank": [*optional(no_array(BYTES[0])), 127, BYTES, BYTES[0, :4]],
        },
        fine={"images": [FLOATS, BYTES.astype(int)], "blank": [None, FLOATS[0]]},
    ),
    Call(
        "decathlon.open",
        decathlon.open_dataset,
        {"name": "digits", "size": 8, "data_dir": Made("a directory", lambda: digits().path.parent)},
        {"name": [*NAMES, "nonsense", "DIGITS"], "size": SIZES, "data_dir": DIRECTORIES},
        fine={"size": [None]},
    ),
    Call(
        "decathlon.open_like",
        decathlon.open_like,
        {
            "name": "digits",
            "image_shape": (8, 8, 1),
            "data_dir": Made("a directory", lambda: digits().path.parent),
        },
        {"name": [*NAMES, "nonsense"], "image_shape": SHAPES, "data_dir": DIRECTORIES},
        fine={"image_shape": [[8, 8, 3]]},
    ),
    Call(
        "decathlon.Dataset.split",
        lambda name: digits().split(name),
        {"name": "train"},
        {"name": [None, 5, "nonsense", "", ["train"], {}, object(), "Train", "../train", b"train"]},
    ),
    Call(
        "decathlon.conform",
        decathlon.conform,
        {"images": BYTES, "image_shape": (4, 4, 3)},
        {"images": byte_images(BYTES), "image_shape": [*SHAPES, (4, 6, 1), (10**9, 10**9, 1)]},
    ),
    Call(
        "decathlon.hold_out",
        selection.hold_out,
        {"dataset": Made("digits", digits), "class_index": 0, "validation": 100, "seed": 0},
        {
            "dataset": [None, 5, "digits", object(), BYTES, decathlon.Dataset],
            "class_index": [*whole(0, 9), 10**9],
            "validation": [*whole(1), 10**9],
            "seed": seed(),
            "data_dir": DIRECTORIES,
        },
    ),
    Call(
        "decathlon.prepare",
        decathlon.prepare,
        {"name": "mine", "source": Made("a source", source), "size": 8, "data_dir": Made("a directory", directory)},
        {
            "name": NAMES,
            "source": [None, 5, "digits", object(), BYTES, directory],
            "size": [*SIZES, "8", "8x8"],
            "data_dir": DIRECTORIES,
            "skip_bad": whole(0),
            "progress": optional(function()),
        },
        fine={"size": [None]},
    ),
    Call(
        "decathlon.preparation.check_request",
        preparation.check_request,
        {"name": "mine", "size": 8, "data_dir": Made("a directory", directory)},
        {"name": NAMES, "size": SIZES, "skip_bad": whole(0)},
        fine={"size": [None]},
    ),
    Call(
        "decathlon.preparation.decode",
        preparation.decode,
        {"image": BYTES[0], "channels": 1, "size": 4},
        {
            "image": [None, 5, "abc", object(), FLOATS[0], BYTES[0].astype(np.int8), BYTES],
        },
        fine={"image": [BYTES[0, 0]], "size": [None], "channels": [3]},
    ),
    Call(
        "decathlon.sources.folder.open_folder",
        folders.open_folder,
        {"path": Made("a folder", folder)},
        {
            "path": [
                *path(),
                "absent",
                Made("a file", lambda: file("a.png", lambda path: path.write_bytes(b""))),
                Made("an empty folder", lambda: folder(classes=())),
                Made("one class", lambda: folder(classes=("cat",))),
                Made("an empty class", lambda: folder(images=0)),
                Made("classes of one image", lambda: folder(images=1)),
            ]
        },
        fine={"path": [Made("a str", lambda: str(folder()))]},
    ),
    Call(
        "decathlon.sources.npz.open_npz",
        archives.open_npz,
        {"path": Made("a file", npz)},
        {
            "path": [
                *path(),
                "absent.npz",
                Made("a folder", directory),
                Made("no archive", lambda: file("set.npz", lambda path: path.write_bytes(b"PK"))),
                *(
                    Made(f"{words} {name}", lambda name=name, value=value: npz(**{name: value}))
                    for name, words, value in (
                        ("x_train", "no", None),
                        ("x_train", "float", FLOATS),
                        ("x_train", "int8", BYTES.astype(np.int8)),
                        ("x_train", "text", BYTES.astype(str)),
                        ("x_train", "short", BYTES[:-1]),
                        ("x_train", "flat", BYTES.reshape(6, -1)),
                        ("x_train", "coloured", np.repeat(BYTES, 3, axis=3)),
                        ("x_train", "empty", BYTES[:0]),
                        ("y_train", "float", BYTE_LABELS + 0.5),
                        ("y_train", "text", BYTE_LABELS.astype(str)),
                        ("y_train", "negative", BYTE_LABELS - 1),
                        ("y_train", "wild", changed(BYTE_LABELS, 10**7)),
                        ("y_test", "unknown", BYTE_LABELS + 1),
                        ("class_names", "short", np.array(["a", "b"])),
                        ("class_names", "equal", np.array(["a", "a", "b"])),
                        ("class_names", "nested", np.array([["a", "b", "c"]])),
                    )
                ),
            ]
        },
        fine={"path": [Made("a str", lambda: str(npz()))]},
    ),
]
