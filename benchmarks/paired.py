"""Contestants side by side: shuffled rounds in one process, medians, and ratios taken within a round.

A machine that slows down slows a whole round, so that a ratio within it stays what it is; and no contestant is always
the one that finds the caches as another left them. Nothing absolute is asserted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Measured", "Take", "append", "arguments", "machine", "rounds", "timed"]

Take = Callable[[], float]
"""Does the work once, and returns the seconds that are to count."""

RESULTS = Path(__file__).with_name("RESULTS.md")
_UNITS = {"s": (1.0, 3), "ms": (1e3, 3), "µs": (1e6, 1)}  # what a second is of each, and decimal places


@dataclass(frozen=True)
class Measured:
    """What came of the rounds.

    Args:
        seconds: Of each contestant, one number a round, in the order of the rounds.
    """

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Of a contestant, in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> tuple[float, float, float]:
        """The quartiles, the median in the middle, of a contestant's time over the baseline's of the same round."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        low, middle, high = statistics.quantiles([one / other for one, other in pairs], n=4, method="inclusive")
        return low, middle, high

    def table(self, baseline: str, unit: str = "µs", what: str = "contestant") -> str:
        """As Markdown: each contestant's median, and its ratio to the baseline with quartiles.

        Args:
            baseline: The contestant that the others are held against.
            unit: s, ms or µs.
            what: The heading of the first column.
        """
        scale, places = _UNITS[unit]
        lines = [f"| {what} | median, {unit} | of {baseline} | quartiles |", "|---|---|---|---|"]
        for name in self.seconds:
            low, middle, high = self.ratio(name, baseline)
            ratio = "1 |" if name == baseline else f"{middle:.3f} | {low:.3f} to {high:.3f}"
            lines.append(f"| {name} | {scale * self.median(name):,.{places}f} | {ratio} |")
        return "\n".join(lines)


def rounds(contestants: Mapping[str, Take], count: int, warmup: int = 1, seed: int = 0) -> Measured:
    """Let each contestant take its turn in every round, in an order that is drawn anew.

    Args:
        contestants: By the names that the table gives them.
        count: Rounds that count, at least 2.
        warmup: Rounds before them that don't.
        seed: Of the orders.
    """
    order = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + count):
        for name in order.sample([*contestants], len(contestants)):
            taken = contestants[name]()
            if number >= warmup:
                seconds[name].append(taken)
    return Measured(seconds)


def timed(work: Callable[[], object], times: int = 1, clock: Callable[[], float] = time.perf_counter) -> Take:
    """The seconds that one of ``times`` calls in a row takes.

    Args:
        work: What is called.
        times: So many that the clock's own cost is lost among them.
        clock: `time.process_time` leaves out what other processes of the machine take.
    """

    def take() -> float:
        start = clock()
        for _ in range(times):
            work()
        return (clock() - start) / times

    return take


def arguments(doc: str | None, count: int, **more: Mapping[str, Any]) -> argparse.Namespace:
    """The command line of a benchmark.

    Args:
        doc: The script's.
        count: Rounds, unless told otherwise.
        **more: Options of its own, each with what ``add_argument`` takes.

    Returns:
        ``rounds``; ``dry_run``, for `append`; and its own.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=count, help=f"that count; {count} unless told otherwise")
    parser.add_argument("--dry-run", action="store_true", help=f"print the table, and leave {RESULTS.name} as it is")
    for name, how in more.items():
        parser.add_argument(f"--{name}", **how)
    return parser.parse_args()


def machine() -> str:
    """What it ran on: the date, processors, Python, and torch and its kin where they are imported."""
    cpus = {line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    parts = [str(datetime.date.today()), f"{os.cpu_count()} × {', '.join(cpus) or platform.machine()}"]
    parts.append(f"Python {platform.python_version()}")
    parts += [f"{name} {version(name)}" for name in ("torch", "lightning", "timm") if name in sys.modules]
    if "torch" in sys.modules:
        import torch

        parts.append(f"{torch.get_num_threads()} threads")
        if torch.cuda.is_available():
            parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def append(title: str, doc: str | None, told: str, dry_run: bool = False) -> None:
    """Print what was found, and add it with the machine's line to the end of its section of RESULTS.md.

    Args:
        title: The section's heading; a section of the script's own words is begun where there is none.
        doc: The script's, which those words are.
        told: Markdown.
        dry_run: Whether to print alone.
    """
    entry = f"{machine()}:\n\n{told}\n"
    print(entry)
    if dry_run:
        return
    text, heading = RESULTS.read_text(encoding="utf-8"), f"## {title}\n"
    if heading not in text:
        text = f"{text.rstrip()}\n\n{heading}\n{(doc or '').strip()}\n"
    before, _, after = text.partition(heading)
    section, mark, later = after.partition("\n## ")
    RESULTS.write_text(f"{before}{heading}{section.rstrip()}\n\n{entry}{mark}{later}", encoding="utf-8")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
