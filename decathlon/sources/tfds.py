"""Datasets from TensorFlow Datasets, by its own builders."""

import socket
from contextlib import nullcontext
from urllib.parse import urlsplit
from urllib.request import getproxies

from decathlon.quiet import quiet_tensorflow
from decathlon.replacing import replaced
from decathlon.sources import Example, Source, SourceError

PROBE_SECONDS = 5


def open_tfds(entry, data_dir):
    """Opens a dataset of the catalogue, downloading it if TFDS does not have it yet.

    TFDS keeps its own files in `data_dir/tfds`; archives that already lie in `data_dir/tfds/downloads` are used.

    Args:
        entry: The catalogue's `Entry`.
        data_dir: The data directory.

    Returns:
        A `Source`; its images are the encoded bytes.

    Raises:
        SourceError: If the host cannot be reached, or the archive cannot be read.
    """
    with quiet_tensorflow():
        import tensorflow as tf
        import tensorflow_datasets as tfds

        tf.config.list_physical_devices()  # the first look at them complains of a missing driver

    tfds.core.utils.gcs_utils._is_gcs_disabled = True  # a look-up that hangs for minutes without a network
    root = data_dir / "tfds"
    builder = tfds.builder(entry.tfds_name, data_dir=str(root))
    _download(tfds, builder, entry, root / "downloads")
    splits = {split: builder.info.splits[split].num_examples for split in entry.counts if split in builder.info.splits}
    features = builder.info.features

    def read(split):
        decoders = {"image": tfds.decode.SkipDecoding()}
        dataset = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
        for i, example in enumerate(dataset.as_numpy_iterator()):
            name = example.get("name", example.get("file_name"))
            key = name.decode() if isinstance(name, bytes) else f"{split}[{i}]"
            yield Example(key, example["image"], int(example.get("label", 0)))

    return Source(
        description=f"TFDS {builder.info.full_name}",
        class_names=list(features["label"].names) if "label" in features else [entry.name],
        channels=features["image"].shape[-1] or 3,
        counts=splits,
        evaluation=entry.evaluation,
        read=read,
    )


def _download(tfds, builder, entry, downloads):
    if builder.data_path.exists():
        return
    network = nullcontext() if _reachable(entry.url) else _no_downloads(tfds, builder, entry, downloads)
    try:
        with network:
            builder.download_and_prepare(download_dir=str(downloads))
    except SourceError:
        raise
    except ImportError as error:
        raise SourceError(f"{entry.name}: TFDS needs a package that is not installed: {error}") from error
    except Exception as error:  # TFDS lets through whatever its archive readers raise
        raise SourceError(
            f"{entry.name}: TFDS could not read the archives in {downloads}: {error!r}. If one is truncated, replace "
            f"it, delete {downloads / 'extracted'} and run again."
        ) from error


def _no_downloads(tfds, builder, entry, downloads):
    """Lets TFDS use the archives it has; without a network it would try for minutes to get those it has not."""

    def refuse(_, resource):
        raise SourceError(
            f"{entry.name}: {urlsplit(entry.url).hostname} cannot be reached (tried for {PROBE_SECONDS} s), and "
            f"{downloads / builder.name} does not hold {resource.url}. Prepare it from a local copy with --npz or "
            "--folder."
        )

    return replaced(tfds.download.DownloadManager, _download=refuse)


def _reachable(url):
    """Whether the host answers, or the proxy through which TFDS would ask it."""
    url = getproxies().get(urlsplit(url).scheme, url)
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True
