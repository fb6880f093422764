"""The version of this package: written into models, reports and the answer of `plada --version`."""

__version__ = "0.1.0"
