"""batch_infer: answer very large files of LLM requests, offline. This package is the thin client.

It never imports `batch_inferd`: whatever needs sources, backends or YAML is a request to the daemon.
"""

from batch_infer.version import __version__

__all__ = ["__version__"]
