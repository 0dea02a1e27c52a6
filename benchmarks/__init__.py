"""The studies. Each is a program: `python -m benchmarks.decathlon`."""

from decathlon.quiet import quiet_tensorflow

with quiet_tensorflow():
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.list_physical_devices()
        tensorflow.get_logger().setLevel("ERROR")  # each trial is a new model: its tracing is no news
