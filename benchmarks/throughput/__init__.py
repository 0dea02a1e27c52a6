"""How fast: `kls` beside stock Keras, PyTorch and others, and where its time goes."""
