"""Encryption, signatures, and who may ask a server for what."""
