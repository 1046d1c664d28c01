"""One module for each way to train the same model; each runs as a process of its own.

None imports what another needs: PyTorch and JAX live in an environment without the project's packages.
"""
