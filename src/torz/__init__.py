"""Torz: one HTTP API over every place where a torrent can live."""

__version__ = "0.1.0"
