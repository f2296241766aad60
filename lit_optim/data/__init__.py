"""Data that fits in memory: a loader of batches, the data module over it, and four data sets.

Importing this imports Lightning; a data set's own package is imported when the data is loaded.
"""

from lit_optim.data.digits import Digits
from lit_optim.data.idx import read_idx
from lit_optim.data.loader import TensorLoader
from lit_optim.data.mnist import MNIST, FashionMNIST
from lit_optim.data.mnist_5k import MNIST5k
from lit_optim.data.module import InMemoryDataModule, Splits
from lit_optim.data.split import stratified_split

__all__ = [
    "MNIST",
    "Digits",
    "FashionMNIST",
    "InMemoryDataModule",
    "MNIST5k",
    "Splits",
    "TensorLoader",
    "read_idx",
    "stratified_split",
]
