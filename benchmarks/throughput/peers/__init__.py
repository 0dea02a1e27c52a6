"""Programs of a process of their own that must not import Keras or TensorFlow unless they measure them.

They are started by their path, since `import benchmarks` imports Keras, and import each other by name.
"""
