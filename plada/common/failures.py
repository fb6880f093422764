"""What the failures of libraries say, on one line, and which of them mean that memory ran out."""


def first_line(err: BaseException) -> str:
    """The first line of an error's message that is not empty; the name of its class where there is none."""
    return next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)


def out_of_memory(err: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left. torch says so by a class of its own, which need not be imported
    to be recognised, or in words."""
    return (
        isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(err)
    )
