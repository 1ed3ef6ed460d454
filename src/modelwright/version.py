"""The version, written here so that a source tree that isn't installed knows it too."""

__version__ = "0.1.0"
