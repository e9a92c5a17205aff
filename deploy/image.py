"""`make image`: build the image and say how large it is."""

from deploy.engine import arguments, engine_or_exit, say


def main() -> None:
    """Build it."""
    options = arguments(main.__doc__ or "").parse_args()
    engine = engine_or_exit(options)
    say(f"image {options.tag} built by {engine}: {engine.image_size(options.tag) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
