"""Small shapes that answers share."""


def stop_shape(kind: str, at: str) -> dict[str, str] | None:
    """A stop request as the API shows it: null, or what is asked and when it takes effect."""
    return {"kind": str(kind), "at": str(at)} if kind else None
