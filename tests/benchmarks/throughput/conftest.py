collect_ignore = ["compare_torch.py"]  # a program of its own, which imports PyTorch
