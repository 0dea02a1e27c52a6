"""A callback that saves all that a training run needs to go on."""

import inspect
import json
import zipfile

import keras
import numpy as np
from keras import ops

from kls.utils.arrays import shown
from kls.utils.files import as_path, atomic_write


class FullStateCheckpoint(keras.callbacks.Callback):
    """Saves, at each epoch's end, all that a training run needs to go on as if it had never stopped.

    That is every variable of the model (batch statistics and seed generators too) and of the optimiser, the
    number of finished epochs, the history of logs, and the state of other callbacks. An atomic write
    replaces the file, so that a run killed at any moment leaves the last complete one. On the same CPU and thread count
    a resumed run ends with the same bits, provided that its data depend on the epoch alone: not shuffled, or
    `decathlon.Batches(..., epoch=checkpoint.epoch)`.

    Args:
        directory: Where to keep the one file, `state.npz`.
        callbacks: Other callbacks with a state, such as `keras.callbacks.EarlyStopping`: of their public attributes,
            those that are numbers, strings, arrays or lists of arrays are kept, the arguments of their constructor
            excepted. Put this callback after them in `fit`.

    Attributes:
        epoch: Number of finished epochs: pass it to `fit` as `initial_epoch`.
        history: List of one dictionary of logs per finished epoch.

    Raises:
        ValueError: If `directory` is no path or `callbacks` no list of callbacks, or if the file is damaged; at the
            start of `fit`, if it was made by another model or optimiser or with other callbacks, if it is gone or has
            another epoch than `epoch`, if the model is not built, or if `initial_epoch` is not `epoch`.

    Example:

    ```python
    checkpoint = kls.FullStateCheckpoint("runs/mine")
    model.fit(x, y, shuffle=False, epochs=30, initial_epoch=checkpoint.epoch, callbacks=[checkpoint])
    ```
    """

    def __init__(self, directory, callbacks=()):
        super().__init__()
        self.path = as_path(directory, "directory") / "state.npz"
        is_list = isinstance(callbacks, list | tuple)
        if not is_list or not all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks):
            raise ValueError(f"`callbacks` must be a list of Keras callbacks. Received: callbacks={shown(callbacks)}")
        self.callbacks = list(callbacks)
        self.epoch = 0
        self.history = []
        if self.path.exists():
            _, state = self._read()
            self.epoch, self.history = state["epoch"], state["history"]

    def on_train_begin(self, logs=None):
        if self.epoch or self.path.exists():
            self.restore(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            raise ValueError(
                f"`initial_epoch` must be {self.epoch}, the finished epochs in {self.path}. Received: {epoch}"
            )

    def restore(self, model):
        """Gives a compiled model, its optimiser and the other callbacks the saved state; `fit` does so by itself.

        Args:
            model: The built and compiled model.

        Raises:
            ValueError: If the model is not built and compiled, or if the file is absent or damaged, was made by another
                model, or has not the `epoch` of this callback, as when another process writes there.
        """
        if not isinstance(model, keras.Model) or not model.built or getattr(model, "optimizer", None) is None:
            raise ValueError(
                "`model` must be a compiled Keras model that is built: begin it with an `Input` layer. "
                f"Received: {shown(model)}"
            )
        arrays, state = self._read()
        if state["epoch"] != self.epoch:
            raise ValueError(
                f"{self.path} must hold epoch {self.epoch}, as when this callback was made or last saved it. Another "
                f"process may be writing there. Received: epoch {state['epoch']}"
            )
        if state["made_by"] != _signature(model, self.callbacks):
            raise ValueError(
                f"{self.path} was saved by another model, with another optimiser or other callbacks. "
                "Delete it to start anew."
            )
        for index, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"variable/{index:05d}"])
        for index, callback in enumerate(self.callbacks):
            _restore(callback, index, state["callbacks"][index], arrays)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch + 1
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        arrays = {f"variable/{i:05d}": ops.convert_to_numpy(v) for i, v in enumerate(_variables(self.model))}
        states = [_state(callback, index) for index, callback in enumerate(self.callbacks)]
        for _, of_callback in states:
            arrays |= of_callback
        state = {
            "epoch": self.epoch,
            "history": self.history,
            "made_by": _signature(self.model, self.callbacks),
            "callbacks": [plain for plain, _ in states],
        }
        with atomic_write(self.path) as file:
            np.savez(file, **arrays, state=np.array(json.dumps(state)))

    def _read(self):
        """Returns the arrays and the state, or raises if the file is absent or damaged."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = dict(file)
            return arrays, json.loads(str(arrays["state"]))
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} cannot be read ({error}). Delete it to start anew.") from error


def _variables(model):
    """Every variable of model and optimiser; the model's metrics begin anew each epoch and are left out."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    metrics = {id(v) for v in model.metrics_variables}
    return [*(v for v in model.variables if id(v) not in metrics), *model.optimizer.variables]


def _signature(model, callbacks):
    """What a state must have in common with the model and the callbacks that it is given to."""
    return {
        "variables": [[variable.path, list(variable.shape)] for variable in _variables(model)],
        "optimizer": type(model.optimizer).__name__,
        "callbacks": [type(callback).__name__ for callback in callbacks],
    }


def _state(callback, index):
    """Returns a callback's plain attributes, and its arrays by the key they are kept under."""
    settings = inspect.signature(type(callback).__init__).parameters  # `EarlyStopping` turns its `min_delta` in place
    plain, arrays = {}, {}
    for name, value in vars(callback).items():
        if name.startswith("_") or name in settings:
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            arrays[f"callback/{index}/{name}"] = value
        elif isinstance(value, list) and value and all(isinstance(v, np.ndarray) for v in value):
            arrays.update({f"callback/{index}/{name}/{i:05d}": v for i, v in enumerate(value)})
        elif value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
    return plain, arrays


def _restore(callback, index, plain, arrays):
    vars(callback).update(plain)
    lists = {}
    for key in sorted(k for k in arrays if k.startswith(f"callback/{index}/")):
        name, _, position = key.removeprefix(f"callback/{index}/").partition("/")
        if position:
            lists.setdefault(name, []).append(arrays[key])
        else:
            setattr(callback, name, arrays[key])
    vars(callback).update(lists)
