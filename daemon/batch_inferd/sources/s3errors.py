"""What can go wrong with S3.

S3Error (OSError)
  ├─ S3Missing (FileNotFoundError)   no such key or bucket
  ├─ S3Denied (PermissionError)      wrong credentials, or they do not allow it
  ├─ S3TooLarge                      more bytes than allowed
  └─ S3Unreachable (ConnectionError) network or service: later it may work
"""

from __future__ import annotations


class S3Error(OSError):
    """S3 refused. The message names bucket and key, and says what S3 said."""


class S3Missing(S3Error, FileNotFoundError):  # noqa: N818  an S3Error by its name
    """No such key or bucket."""


class S3Denied(S3Error, PermissionError):  # noqa: N818  an S3Error by its name
    """The credentials are wrong, or they do not allow it."""


class S3TooLarge(S3Error):  # noqa: N818  an S3Error by its name
    """The object has more bytes than allowed."""


class S3Unreachable(S3Error, ConnectionError):  # noqa: N818  an S3Error by its name
    """The network or the service failed: later it may work."""
