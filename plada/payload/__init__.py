"""The file that is sent. Imports numpy and zstandard at most."""
