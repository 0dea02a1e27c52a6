"""The catalogue against the figures of the decathlon and against the builders of TFDS."""

import pytest

from decathlon.catalog import CATALOG
from decathlon.quiet import quiet_tensorflow

DECATHLON = {
    "aircraft": (100, 3334, 3333, 3333),
    "cifar100": (100, 40000, 10000, 10000),
    "daimlerpedcls": (2, 23520, 5880, 19600),
    "dtd": (47, 1880, 1880, 1880),
    "gtsrb": (43, 31367, 7842, 12630),
    "imagenet12": (1000, 1232167, 49000, 48238),
    "omniglot": (1623, 17853, 6492, 8115),
    "svhn": (10, 47217, 26040, 26032),
    "ucf101": (101, 7585, 1952, 3783),
    "vgg-flowers": (102, 1020, 1020, 6149),
}
OTHERS = {
    "mnist": (10, {"train": 60000, "test": 10000}),
    "cifar10": (10, {"train": 50000, "test": 10000}),
    "cifar100_full": (100, {"train": 50000, "test": 10000}),
    "fashion_mnist": (10, {"train": 60000, "test": 10000}),
    "svhn_cropped": (10, {"train": 73257, "test": 26032}),
    "stl10": (10, {"train": 5000, "test": 8000}),
    "lsun": (1, {"train": 168103, "validation": 300}),
    "imagenet_resized": (1000, {"train": 1281167, "validation": 50000}),
    "tiny_imagenet": (200, {"train": 100000, "validation": 10000}),
    "digits": (10, {"train": 1437, "validation": 360}),
    "glyphs": (62, {"train": 1860, "validation": 620}),
    "photos": (2, {"train": 2000, "validation": 1000}),
    "noise": (2, {"train": 2000, "validation": 1000}),
}
TFDS_NAMES = sorted(entry.name for entry in CATALOG.values() if entry.source == "tfds")


@pytest.fixture(scope="module")
def tfds():
    with quiet_tensorflow():
        import tensorflow_datasets
    return tensorflow_datasets


@pytest.mark.parametrize("name", DECATHLON)
def test_decathlon_set_has_the_published_classes_and_sizes(name):
    classes, train, validation, test = DECATHLON[name]
    entry = CATALOG[name]
    assert entry.classes == classes
    assert entry.counts == {"train": train, "validation": validation, "test": test}
    assert entry.tfds_name == f"visual_domain_decathlon/{name}"
    assert entry.evaluation == "validation"
    assert entry.size == 64


@pytest.mark.parametrize("name", OTHERS)
def test_other_set_has_its_classes_and_sizes(name):
    assert (CATALOG[name].classes, CATALOG[name].counts) == OTHERS[name]


def test_the_sets_of_the_paper_come_first_and_nothing_else_is_held():
    assert set(CATALOG) == {*DECATHLON, *OTHERS}
    assert list(CATALOG)[:12] == [*DECATHLON, "mnist", "cifar10"]
    assert all(name == entry.name for name, entry in CATALOG.items())


@pytest.mark.parametrize("name", CATALOG)
def test_entry_is_evaluated_on_a_split_it_has_other_than_train(name):
    assert CATALOG[name].evaluation in set(CATALOG[name].counts) - {"train"}


@pytest.mark.parametrize("name", CATALOG)
def test_entry_says_where_its_images_come_from(name):
    entry = CATALOG[name]
    assert (entry.tfds_name is not None) == (entry.source == "tfds")
    assert (entry.url is None) == (entry.source == "bundled")
    if entry.source == "bundled":
        assert entry.size is not None


def test_only_the_means_of_imagenets_stay_in():
    kept = {name for name, entry in CATALOG.items() if not entry.subtract_mean}
    assert kept == {"imagenet12", "imagenet_resized", "tiny_imagenet"}


def test_synthetic_sets_and_sets_of_characters_are_marked():
    assert {name for name, entry in CATALOG.items() if entry.synthetic} == {"glyphs", "noise"}
    assert {name for name, entry in CATALOG.items() if not entry.flip} == {"digits", "glyphs"}


@pytest.mark.parametrize("name", TFDS_NAMES)
def test_tfds_has_a_builder_of_that_name_with_as_many_classes(name, tfds, tmp_path, connections):
    entry = CATALOG[name]
    tfds.core.utils.gcs_utils._is_gcs_disabled = True
    builder = tfds.builder(entry.tfds_name, data_dir=str(tmp_path))
    if "label" in builder.info.features:
        assert builder.info.features["label"].num_classes == entry.classes
    else:
        assert entry.classes == 1
    assert not connections


def test_every_config_of_the_decathlon_builder_is_in_the_catalogue(tfds):
    configs = tfds.builder_cls("visual_domain_decathlon").BUILDER_CONFIGS
    assert {config.name: config.num_classes for config in configs} == {n: row[0] for n, row in DECATHLON.items()}
