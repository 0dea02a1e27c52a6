"""The commands of one trained network: `kls evaluate` and `kls guard`."""

import sys
from pathlib import Path

import decathlon.store
from decathlon.options import directory, positive
from decathlon.store import DataError
from kls.calibration.scaling import SCALERS
from kls.evaluation import evaluate
from kls.guarding import Guarded, guard
from kls.guarding.export import FORMATS, check_export
from kls.guarding.guard import SCALINGS
from kls.ood.scores import SCORES, get
from kls.study.data import as_dataset, conformed, ood_of
from kls.utils.files import atomic_write
from kls.utils.last_layer import is_graph


def add_evaluate(commands):
    """Adds the command `evaluate` to those of a parser."""
    command = commands.add_parser(
        "evaluate",
        help="judge a trained network: accuracy, calibration, OOD detection",
        description="Judges a trained network on the evaluation split of a dataset.",
    )
    command.set_defaults(run=lambda options: _run(_evaluate, options))
    add = command.add_argument
    _add_shared(add)
    add("data", metavar="DATA", help="name of a prepared dataset, or a folder of images")
    add(
        "--scores",
        nargs="+",
        choices=(*SCORES, "all"),
        default=["msp"],
        metavar="SCORE",
        help="OOD scores, or all; those that are fitted are fitted to the training images of DATA (default: msp)",
    )
    add("--scaling", choices=SCALERS, metavar="SCALER", help=f"judge by a scaler too: {', '.join(SCALERS)}")
    add("--resamples", type=positive, default=0, metavar="N", help="bootstrap resamples for confidence intervals")


def add_guard(commands):
    """Adds the command `guard` to those of a parser."""
    command = commands.add_parser(
        "guard",
        help="make a trained network one that knows what it does not know",
        description="Writes one model of calibrated probabilities and a decision whether an image is in-distribution.",
    )
    command.set_defaults(run=lambda options: _run(_guard, options))
    add = command.add_argument
    _add_shared(add)
    data = "name of a prepared dataset, or a folder of images"
    add("--calibration", required=True, metavar="DATA", help=f"{data}: its evaluation split")
    add("--training-data", metavar="DATA", help=f"{data}: its training images, for scores that are fitted")
    scores = [name for name, make in SCORES.items() if make().formula is not None]
    add("--score", choices=scores, default="energy", metavar="SCORE", help=f"{', '.join(scores)} (default: energy)")
    add(
        "--scaling",
        choices=(*SCALINGS, "none"),
        default="temperature",
        metavar="SCALER",
        help=f"{', '.join(SCALINGS)} or none (default: temperature)",
    )
    add("--tpr", type=float, default=0.95, metavar="R", help="share of calibration images to keep (default: 0.95)")
    add("--export", nargs="+", choices=FORMATS, default=[], metavar="FORMAT", help=f"also write {', '.join(FORMATS)}")
    add("--out", type=Path, default=Path("guarded.keras"), metavar="FILE", help="default: %(default)s")


def _add_shared(add):
    add("model", type=Path, metavar="MODEL.keras", help="a Keras model of images as they are stored (0 to 255)")
    add("--ood", nargs="+", default=[], metavar="NAME", help="prepared datasets that are OOD to the network")
    data_dir = decathlon.store.default_data_dir()
    add("--data-dir", type=directory, default=data_dir, metavar="DIR", help="prepared data (default: %(default)s)")


def _run(command, options):
    """Runs a command and returns its exit code; what cannot be done is one sentence."""
    try:
        command(options)
    except (ValueError, OSError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 0


def _evaluate(options):
    model = _load(options.model)
    dataset = _dataset(options.data, model, options)
    scores = "all" if "all" in options.scores else options.scores
    evaluation = evaluate(
        model,
        dataset.split(dataset.evaluation),
        ood=_ood(dataset, options),
        scores=scores,
        scaling=options.scaling,
        training_data=dataset.split("train"),
        resamples=options.resamples,
    )
    print(evaluation.summary, end="\n\n")
    print(evaluation.to_markdown())


def _guard(options):
    if options.out.suffix != ".keras":
        raise ValueError(f"--out must end in .keras. Received: {options.out}")
    exports = {format: options.out.with_suffix(FORMATS[format]) for format in options.export}
    model = _load(options.model)
    for format, path in exports.items():
        check_export(path, format, get(options.score), model)
    dataset = _dataset(options.calibration, model, options)
    training = _dataset(options.training_data, model, options).split("train") if options.training_data else None
    guarded = guard(
        model,
        dataset.split(dataset.evaluation),
        scaling=None if options.scaling == "none" else options.scaling,
        score=options.score,
        tpr=options.tpr,
        training_data=training,
        ood=_ood(dataset, options),
    )
    with atomic_write(options.out) as file:
        guarded.save(file.name)
    for format, path in exports.items():
        guarded.export(path, format=format, verbose=False)
    print(guarded.report)
    print(f"Written: {', '.join(map(str, (options.out, *exports.values())))}")


def _load(path):
    """Returns the classifier of a file, of a guarded one too; loading runs no code but that of registered layers."""
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a layer raises that cannot be made again
        raise ValueError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    return model.model if isinstance(model, Guarded) else model


def _dataset(data, model, options):
    """Returns the dataset of an option, at the side of the images that the model takes."""
    sides = model.inputs[0].shape[1:3] if is_graph(model) else (None,)
    return as_dataset(data, sides[0] if len(set(sides)) == 1 else None, options.data_dir)


def _ood(dataset, options):
    """Returns `{name: images}` of the OOD datasets, in the shape of the ID ones."""
    opened = ood_of(options.ood, dataset, options.data_dir)
    return {name: conformed(of.split(of.evaluation)[0], dataset.image_shape) for name, of in opened.items()}
