"""`kls.Study`: many trainings and one comparison."""

import hashlib
import inspect
import json
import textwrap
from dataclasses import replace
from pathlib import Path

import decathlon
from kls.ood.scores import SCORES
from kls.study.architecture import code_of
from kls.study.backbones import default_side, is_backbone
from kls.study.checks import check_features, check_fine_tuning, check_last_layer
from kls.study.data import DEFAULT_SIZE, Sources, as_dataset, ood_of, open_others
from kls.study.defaults import (
    METHODS,
    PRETRAINED,
    SEEDS,
    batch_size_of,
    epochs_of,
    learning_rate_of,
    pretrained_model,
    small_model,
)
from kls.study.executors.processes import check_importable, check_workers
from kls.study.manifest import manifest_of, write_manifest
from kls.study.methods import Method, check_registered, parse
from kls.study.models import describe_model, find
from kls.study.plan import OF_FEATURES, Plan, PlanError, with_parents
from kls.study.precision import PRECISIONS
from kls.study.results import Results
from kls.study.run import STOPPED, Trainer, check_methods, run, wanted_of
from kls.study.store import RunStore
from kls.study.train import STRATEGIES, check_strategy
from kls.study.trial import HEAD, trial_of
from kls.study.verdict import WIDTH
from kls.utils.arrays import check_choice, check_whole, shown
from kls.utils.files import as_path

SCALING = {
    "mean": "pixels are scaled to [0, 1] and the mean training image is subtracted before it",
    "scale": "pixels are scaled to [0, 1] before it",
    "none": "it gets pixels in 0..255",
}


class Study:
    """Trains a network by several methods and seeds, and compares what comes of it.

    Each training is a trial, named by its recipe. Finished trials are kept in `out`: what has been trained is never
    trained again, and a study that was stopped goes on where it was, with the same bits.

    Args:
        model: A registered name (`kls.models.names()`), a function `(input_shape, classes) -> keras.Model`,
            `"package.module:function"`, or `"path/to/file.py:function"`. The model may end in a softmax or not. Unless
            it has a `Rescaling` or `Normalization` layer, pixels are scaled to [0, 1] and centred before it. Or a
            network with pretrained weights, `"keras.applications.NAME"` or `"keras_hub:PRESET"` where KerasHub is
            installed, with its own preprocessing and a new head. `None` takes EfficientNetV2B0 where Keras has its
            weights already, else a small network.
        data: Name of a prepared dataset, a folder of images, `(x, y)`, `((x, y), (x_validation, y_validation))`, a
            mapping of the splits `train`, `validation` and `test` to such pairs, or a `decathlon.Dataset`. Images are
            uint8; float arrays of any shape are features, which are neither scaled nor augmented.
        methods: `kls.study.methods`, or their text forms; by default cross-entropy, and label smoothing with gamma
            0.95, 0.9 and 0.8.
        seeds: How many seeds, from 0 on, or the seeds themselves.
        epochs: Number of epochs; by default 20, and up to 100 where these would be fewer than 200 steps.
        batch_size: Samples per step; by default 64, or all where there are fewer.
        optimizer: `"adam"`, `"momentum"` or `"nesterov"` (SGD).
        learning_rate: First learning rate; by default 1e-3, and 1e-4 where a pretrained backbone is trained too.
        schedule: `"cosine"`, or pairs `(epoch, factor)` of the learning rate; `()` keeps it.
        weight_decay: That of all trainable weights, as in PyTorch's SGD; `None` leaves the model's own penalty.
        shift: Largest random shift of images, as a share of the side.
        flip: Whether images are mirrored at random; by default, unless the dataset's entry in the catalogue forbids it.
        ood: Names of prepared datasets, or `{name: data}`, data being such a name, an array or a dataset.
        out: Directory of the results.
        precision: `"float32"`, `"mixed_bfloat16"`, or `"auto"`: the latter where this machine has units for it.
        scores: Names of `kls.ood.scores` to store, of those that need more than logits.
        features: Whether to store features beside logits.
        image_size: Side in pixels, of a name or a folder. A network of `keras.applications` or KerasHub works at that
            side, and by default at its own, to which it resizes the images.
        compile: A function `(model, loss, trial)` that compiles the model with an optimizer, and a rate, of your own.
            Its code is part of the recipe. Loss and metrics of the compiled model are the study's.
        callbacks: A function of a trial that returns Keras callbacks, such as a tracker's. They must not change the
            training: they are no part of the recipe. Heads that are trained at once have those of the first of them,
            with logs called `loss0`, `accuracy0`, `loss1` and so on.
        normalisation: What stands before the network: `"mean"` (pixels to [0, 1], minus the mean training image),
            `"scale"` or `"none"`; by default the first, unless the model has layers of its own for that.
        fine_tune: What is trained of a network with pretrained weights, which must not depend on the seed. `"head"`,
            the default for `keras.applications` and KerasHub: the last layer alone, on features of the images as they
            are, computed once and kept in `out`. `"all"`, or how many of the topmost layers of the backbone that have
            weights: first such a head for 20 epochs, then both. Batch normalisation stays frozen.
        weights: Path of a file of the backbone's weights, in place of those that Keras downloads.
        data_dir: Directory of prepared data; `$KLS_DATA` or `~/.cache/kls` by default.
        name: Name of the study in the results.

    Raises:
        PlanError: If it cannot be run as asked; nothing has been trained.

    Example:

    ```python
    def build(input_shape, classes):
        return keras.Sequential([
            keras.layers.Input(input_shape),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, activation="softmax"),
        ])

    methods = [kls.study.methods.CrossEntropy(), kls.study.methods.LabelSmoothing(0.9)]
    study = kls.Study(build, (x, y), methods, seeds=3, epochs=10, out="runs/mine")
    results = study.run()
    results.to_frame()
    ```
    """

    def __init__(
        self,
        model,
        data,
        methods=None,
        seeds=SEEDS,
        epochs=None,
        batch_size=None,
        optimizer="adam",
        learning_rate=None,
        schedule="cosine",
        weight_decay=None,
        shift=0.1,
        flip=None,
        ood=(),
        out="runs/study",
        precision="float32",
        scores=(),
        features=False,
        image_size=None,
        compile=None,
        callbacks=None,
        normalisation=None,
        fine_tune=None,
        weights=None,
        data_dir=None,
        name="study",
    ):
        if not (isinstance(name, str) and name):
            raise PlanError(f"`name` must be a text. Received: name={shown(name)}")
        out = as_path(out, "out")
        scores = tuple(check_choice(score, "scores", SCORES) for score in _as_list(scores))
        if not (callbacks is None or callable(callbacks)):
            raise PlanError(f"`callbacks` must be a function of a trial. Received: callbacks={shown(callbacks)}")
        check_choice(precision, "precision", (*PRECISIONS, "auto"))
        data_dir = Path(data_dir) if data_dir is not None else decathlon.store.default_data_dir()
        asked = model
        model = pretrained_model() if asked is None else asked
        has_backbone = is_backbone(model)
        dataset = as_dataset(data, image_size, data_dir, default_side(model) if has_backbone else DEFAULT_SIZE)
        images = dataset.counts["train"]
        model_name, own = find(small_model(images) if model is None else model, weights, image_size)
        if asked is None:
            print(textwrap.fill(_choice(model_name, has_backbone, images), WIDTH))
        if fine_tune is None and has_backbone:
            fine_tune = HEAD
        batch_size = batch_size_of(images) if batch_size is None else check_whole(batch_size, "batch_size", 1)
        methods = _checked_methods(methods)
        trial = trial_of(
            dataset,
            model=model_name,
            method=methods[0],
            epochs=epochs_of(images, batch_size) if epochs is None else epochs,
            schedule=tuple(map(tuple, schedule)) if isinstance(schedule, list) else schedule,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate_of(fine_tune) if learning_rate is None else learning_rate,
            weight_decay=weight_decay,
            compile=None if compile is None else _describe_function(compile),
            shift=shift,
            flip=flip,
            normalisation=normalisation,
            precision=precision,
        )
        own_models, found = {}, None
        if own is not None:
            found = describe_model(own, dataset.image_shape, dataset.classes)
            check_last_layer(model_name, found, methods, features, scores)
            own_models[model_name] = replace(own, ending=found.ending, rates=found.rates)
            trial = _of_own_model(trial, found, dataset, normalisation)
        if fine_tune is not None:
            check_fine_tuning(model_name, found, fine_tune, methods, scores)
            trial = replace(trial, **(OF_FEATURES if fine_tune == HEAD else {"fine_tune": fine_tune}))
        others = _others(methods, dataset, data_dir)
        plan = _plan_of(name, trial, methods, seeds, others)
        sources = Sources({dataset.name: dataset}, {dataset.name: ood_of(ood, dataset, data_dir)}, others)
        self._set(plan, sources, out, features, scores, False, own_models, compile, callbacks)

    @classmethod
    def of(cls, plan, sources, out, features=False, scores=(), class_losses=False):
        """Returns the study of a plan, as the papers have it.

        Args:
            plan: The `Plan`.
            sources: Its opened datasets, as `Sources`.
            out: Directory of the results.
            features: Whether to store features beside logits.
            scores: Names of `kls.ood.scores` to store.
            class_losses: Whether to store the loss of each class after each epoch.
        """
        study = cls.__new__(cls)
        study._set(plan, sources, out, features, scores, class_losses)
        return study

    def _set(self, plan, sources, out, features, scores, class_losses, own_models=None, compile=None, callbacks=None):
        check_methods(plan, sources.datasets)
        check_features(plan, features, scores)
        self.scores = scores
        self.trainer = Trainer(
            plan,
            RunStore(out),
            sources,
            wanted_of(sources, features, scores, class_losses),
            own_models or {},
            compile_function=compile,
            callbacks=callbacks,
        )

    @property
    def store(self):
        """The `RunStore` of its results."""
        return self.trainer.store

    def plan(self):
        """Returns the `Plan`: all trials, in the order in which they run."""
        return self.trainer.plan

    def run(self, workers=1, strategy="none"):
        """Trains what is not finished, and returns the `Results`. A study that is run again goes on where it was.

        Args:
            workers: How many networks to train side by side, each in a process with its share of the cores.
            strategy: `"none"`, or `"mirrored"`: each batch is shared among all devices of this machine (TensorFlow).

        Raises:
            PlanError: If it cannot be run so.
            StoreError: If another process is writing into the directory.
            KeyboardInterrupt: If it was stopped; finished epochs are kept.
        """
        with self.store.writing():
            if self.execute(workers, strategy) == STOPPED:
                raise KeyboardInterrupt
        return self.results()

    def execute(self, workers=1, strategy="none", command=""):
        """Trains what is not finished, for whoever holds `store.writing()`, and returns the exit code of `run.run`.

        What was asked for is written into `study.json` before, with the command that asked for it.
        """
        trials = self.trainer.plan.trials
        check_choice(strategy, "strategy", STRATEGIES)
        check_workers(check_whole(workers, "workers", 1), strategy)
        for batch_size in {trial.batch_size for trial in trials}:
            check_strategy(strategy, batch_size)
        alone = next((trial for trial in trials if trial.method.one_replica), None)
        if strategy != "none" and alone is not None:
            raise PlanError(f"{alone.label} keeps the memory of one replica. Received: strategy={strategy!r}.")
        if workers > 1:
            self._check_importable()
        with self.store.going_on_if_unwritten():
            write_manifest(self.store.out, manifest_of(self.trainer.plan, self.trainer.sources, command))
        return run(replace(self.trainer, strategy=strategy), workers)

    def _check_importable(self):
        trainer = self.trainer
        things = [(own.function, "model") for own in trainer.own_models.values() if own.path is None]
        things += [(type(trial.method), "methods") for trial in trainer.plan.trials]
        things += [(trainer.compile_function, "compile"), (trainer.callbacks, "callbacks")]
        for thing, argument in things:
            if thing is not None:
                check_importable(thing, argument)

    def results(self):
        """Returns the `Results` of the trials that are finished."""
        return Results(self.trainer)


def _choice(name, has_backbone, images):
    """Returns which network is taken, and why."""
    if has_backbone:
        return f"Network: {name}, since its pretrained weights are there."
    return (
        f"Network: {name}, a small one for {images:,} training images, since there are no pretrained weights of "
        f"{PRETRAINED}. To download them, give the model {PRETRAINED}."
    )


def _of_own_model(trial, description, dataset, normalisation):
    """Returns a trial with what the user's own network is, and says what stands before that."""
    are_images = getattr(dataset, "are_images", True)
    scales = description.has_preprocessing and normalisation is None and are_images
    trial = replace(trial, architecture=description.architecture, own_preprocessing=scales)
    if are_images:
        print(f"{trial.model}: {SCALING[trial.scaling]}")
    return trial


def _plan_of(name, trial, methods, seeds, others):
    """Returns the plan of a trial with each seed and method, after what these start from."""
    chains = [
        with_parents(replace(trial, method=method, seed=seed), others)
        for seed in _checked_seeds(seeds)
        for method in methods
    ]
    trials = tuple(found for chain in chains for found in chain)
    return Plan(name, trials, frozenset(chain[-1].id for chain in chains))


def _checked_methods(methods):
    methods = METHODS if methods is None else methods
    methods = [parse(method) if isinstance(method, str) else method for method in _as_list(methods)]
    wrong = [method for method in methods if not isinstance(method, Method)]
    if wrong or not methods:
        raise PlanError(
            f"`methods` must be `kls.study.methods`, or texts. Received: {shown(wrong[0]) if wrong else 'none'}"
        )
    for method in methods:
        check_registered(method)
    labels = [method.label for method in dict.fromkeys(methods)]
    if len(set(labels)) < len(labels):
        raise PlanError(f"`methods` must differ in their labels: give each a `title`. Received: {', '.join(labels)}")
    return methods


def _as_list(values):
    return list(values) if isinstance(values, list | tuple) else [values]


def _checked_seeds(seeds):
    if isinstance(seeds, list | tuple | range) and len(seeds):
        return [check_whole(seed, "seeds", 0) for seed in seeds]
    return range(check_whole(seeds, "seeds", 1))


def _others(methods, dataset, data_dir):
    """Returns `{(name, other): dataset}` of what methods, and the methods that they start from, read besides."""
    names = dict.fromkeys(name for method in methods for name in _all_datasets(method))
    opened = open_others(names, dataset, data_dir, "methods:")
    return {(dataset.name, name): other for name, other in opened.items()}


def _all_datasets(method):
    return [*method.datasets, *(name for part in method.inner for name in _all_datasets(part))]


def _describe_function(function):
    """Returns a function's name, and a hash of its code and of what it holds."""
    if not inspect.isfunction(function):
        raise PlanError(f"`compile` must be a function (model, loss, trial). Received: {shown(function)}")
    code = json.dumps(code_of(function), sort_keys=True)
    return f"{function.__qualname__} {hashlib.sha256(code.encode()).hexdigest()[:12]}"
