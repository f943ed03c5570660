"""Data for training, calibration and measurement: `load` gives train, validation and test from any source."""

from tfbig.data.augmentation import augmentation
from tfbig.data.dataset import Data, DataSpec, check_fits
from tfbig.data.given import splits
from tfbig.data.load import load, names
from tfbig.data.tokenizer import Tokenizer

__all__ = ["Data", "DataSpec", "Tokenizer", "augmentation", "check_fits", "load", "names", "splits"]
