def main(argv: list[str]) -> int:
    """Not yet."""
    del argv
    raise SystemExit(2)
