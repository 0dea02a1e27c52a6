"""What each dataset is: classes, images per split, where it comes from.

The first twelve are those of Mezzini 2018 (the ten of the Visual Domain Decathlon, Rebuffi et al. 2017, MNIST and
CIFAR-10); its thirteen table rows train `imagenet12` with two networks. The decathlon keeps its test labels to
itself, so that all are evaluated on `validation`, as in the paper. `cifar100` is the decathlon's, which holds 10,000
training images back; `cifar100_full` is all of CIFAR-100.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One dataset of the catalogue.

    Attributes:
        name: Name on the command line and in tables.
        classes: Number of classes.
        counts: Images per split, checked when the set is prepared from its source.
        source: `"tfds"`, `"folder"` or `"bundled"`.
        tfds_name: Name of the TFDS builder, for `source="tfds"`.
        url: Where to get it, for `source="folder"`; a host to probe before a download, for TFDS.
        size: Side in pixels when prepared without `--size`; `None` keeps the images' own size.
        evaluation: The split that accuracies are measured on.
        flip: Whether a mirror image still shows its class.
        subtract_mean: Whether inputs are minus the training mean (the paper does so for all but ImageNet).
        synthetic: Whether the images were made by a program; every table says so.
    """

    name: str
    classes: int
    counts: dict = field(hash=False)
    source: str = "tfds"
    tfds_name: str | None = None
    url: str | None = None
    size: int | None = None
    evaluation: str = "validation"
    flip: bool = True
    subtract_mean: bool = True
    synthetic: bool = False


def _decathlon(name, classes, train, validation, test, **options):
    counts = {"train": train, "validation": validation, "test": test}
    options = {"url": "http://www.robots.ox.ac.uk", "size": 64, **options}
    return Entry(name, classes, counts, tfds_name=f"visual_domain_decathlon/{name}", **options)


def _tfds(name, classes, train, others, url, tfds_name=None, evaluation="test", **options):
    counts = {"train": train, evaluation: others}
    return Entry(name, classes, counts, tfds_name=tfds_name or name, url=url, evaluation=evaluation, **options)


def _bundled(name, classes, train, validation, **options):
    return Entry(name, classes, {"train": train, "validation": validation}, source="bundled", **options)


_ENTRIES = (
    _decathlon("aircraft", 100, 3334, 3333, 3333),
    _decathlon("cifar100", 100, 40000, 10000, 10000),
    _decathlon("daimlerpedcls", 2, 23520, 5880, 19600),
    _decathlon("dtd", 47, 1880, 1880, 1880),
    _decathlon("gtsrb", 43, 31367, 7842, 12630),
    _decathlon("imagenet12", 1000, 1232167, 49000, 48238, url="http://www.image-net.org", subtract_mean=False),
    _decathlon("omniglot", 1623, 17853, 6492, 8115),
    _decathlon("svhn", 10, 47217, 26040, 26032),
    _decathlon("ucf101", 101, 7585, 1952, 3783),
    _decathlon("vgg-flowers", 102, 1020, 1020, 6149),
    _tfds("mnist", 10, 60000, 10000, "https://storage.googleapis.com"),
    _tfds("cifar10", 10, 50000, 10000, "https://www.cs.toronto.edu"),
    _tfds("cifar100_full", 100, 50000, 10000, "https://www.cs.toronto.edu", "cifar100"),
    _tfds("fashion_mnist", 10, 60000, 10000, "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"),
    _tfds("svhn_cropped", 10, 73257, 26032, "http://ufldl.stanford.edu"),
    _tfds("stl10", 10, 5000, 8000, "http://ai.stanford.edu"),
    _tfds("lsun", 1, 168103, 300, "http://dl.yf.io", "lsun/classroom", "validation", size=64),
    _tfds(
        "imagenet_resized",
        1000,
        1281167,
        50000,
        "https://image-net.org",
        "imagenet_resized/64x64",
        "validation",
        subtract_mean=False,
    ),
    Entry(
        "tiny_imagenet",
        200,
        {"train": 100000, "validation": 10000},
        source="folder",
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        subtract_mean=False,
    ),
    _bundled("digits", 10, 1437, 360, size=8, flip=False),
    _bundled("glyphs", 62, 1860, 620, size=16, flip=False, synthetic=True),
    _bundled("photos", 2, 2000, 1000, size=32),
    _bundled("noise", 2, 2000, 1000, size=32, synthetic=True),
)

CATALOG = {entry.name: entry for entry in _ENTRIES}
