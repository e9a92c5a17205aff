"""Pictures of scale and soak: memory, restart and speed over what is held, and what a minute of a soak was like."""

from typing import Any

PER_MIB = 1 << 20


def draw_scale(figure: Any, results: dict[str, Any], options: dict[str, Any]) -> str:
    """Draw memory and restart time over the number of held locks."""
    axes = one_axes(figure)
    rows = sorted(results["locks"].values(), key=lambda one: one["size"])
    sizes = [one["size"] for one in rows]
    axes.plot(sizes, [one["rss_bytes"] / PER_MIB for one in rows], marker="o", label="memory of a node")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="locks held", ylabel="resident memory, MiB")
    right = axes.twinx()
    known = [one for one in rows if one["restart_s"] is not None]
    right.plot(
        [one["size"] for one in known],
        [one["restart_s"] for one in known],
        marker="s",
        color="tab:orange",
        label="restart until caught up",
    )
    right.set_ylabel("seconds")
    right.set_ylim(bottom=0)
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], loc="upper left")
    largest = rows[-1]
    del options
    return f"Memory and restart over held locks ({largest['rss_bytes_per_item']} B a lock at {largest['size']:,})"


def draw_soak(figure: Any, results: dict[str, Any], options: dict[str, Any]) -> str:
    """Draw memory and the 99th percentile of each minute."""
    axes = one_axes(figure)
    samples = results["samples"]
    minutes = [one["minute"] for one in samples]
    axes.plot(minutes, [one["rss_bytes"] / PER_MIB for one in samples], label="memory of the largest node")  # fmt: skip
    axes.set(xlabel="minutes", ylabel="resident memory, MiB")
    axes.set_ylim(0, max(one["rss_bytes"] for one in samples) / PER_MIB * 1.4)
    right = axes.twinx()
    for key, label, color in (
        ("p50_ms", "median", "tab:green"),
        ("p99_ms", "99 %", "tab:orange"),
    ):
        right.plot(minutes, [one[key] for one in samples], label=label, color=color)
    right.set(yscale="log", ylabel="latency, ms")
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], loc="upper center", ncols=3)
    del options
    return f"Soak at {results['rate']:,.0f} operations a second: {results['verdict']}"


def one_axes(figure: Any) -> Any:
    """Return the only axes of a picture, with a grid."""
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return axes
