"""How a batch is divided."""


def divide_batch(batch_size: int, replicas: int, mixes: bool) -> int:
    """The size of each micro-batch; an even one if images are mixed in pairs.

    Raises:
        ValueError: if the batch cannot be divided so.
    """
    size, rest = divmod(batch_size, replicas)
    if rest or not size:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of replicas, {replicas}. "
            f"Received: batch_size={batch_size}"
        )
    if mixes and size % 2:
        raise ValueError(
            f"Images are mixed in pairs: `batch_size` must be a multiple of {2 * replicas}, "
            f"twice the number of replicas. Received: batch_size={batch_size}"
        )
    return size
