"""Everything a caller can be told went wrong.

Each message is one sentence that says what happened, followed by what mends it. The library raises these and never
prints; the command line prints them and exits with `exit_code`.
"""


class EdgeAIError(Exception):
    """Base of every error edgeai raises on purpose."""

    exit_code = 1


class UsageProblem(EdgeAIError):
    """An argument, option, filter or setting cannot be used as given."""

    exit_code = 2


class PathNotFound(EdgeAIError):
    """A path the user named does not exist or cannot be read."""


class NothingToIndex(EdgeAIError):
    """The paths given hold no document that can be read."""


class DocumentUnreadable(EdgeAIError):
    """One file could not be turned into text; the message is the reason shown in the sync report."""


class IndexMissing(EdgeAIError):
    """There is no index at this path yet."""


class IndexUnusable(EdgeAIError):
    """The file is not an edgeai index, is damaged, or was written by a newer version."""


class EmbedderMismatch(EdgeAIError):
    """The index was built with another embedder or chunker than the one in use."""


class IndexBusy(EdgeAIError):
    """Another process is writing to this index and did not finish in time."""


class DiskFull(EdgeAIError):
    """The disk (or its quota) is full; what was acknowledged before is kept."""


class ReadOnly(EdgeAIError):
    """The index is on a read-only place, so it can be searched but not changed."""


class ModelUnknown(EdgeAIError):
    """No catalog entry or file goes by this name."""


class ModelMissing(EdgeAIError):
    """The model is known but not installed, and may not or cannot be fetched now."""


class ModelRejected(EdgeAIError):
    """A model file failed verification: wrong bytes, truncated, or a format that is not accepted."""


class DownloadFailed(EdgeAIError):
    """No source of a model could be reached or finished."""


class EngineMissing(EdgeAIError):
    """A native engine (llama.cpp, ONNX Runtime) is not installed or does not load."""


class ContextTooLong(EdgeAIError):
    """The prompt does not fit into the model's context."""
