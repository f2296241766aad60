"""What several independent checks refuse, told as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from omegaconf.errors import InterpolationResolutionError

from lit_optim.errors import ConfigError, LitOptimError, Mistake, PlanError

__all__ = ["Refusals", "unresolved"]


@dataclass
class Refusals:
    """Gathers the mistakes of checks that don't need each other."""

    errors: list[LitOptimError] = field(default_factory=list)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a refusal inside the block, and go on behind it."""
        try:
            yield
        except LitOptimError as error:
            self.errors.append(error)
        except InterpolationResolutionError as error:
            self.errors.append(ConfigError(unresolved(error)))

    def told(self) -> None:
        """Raise them as one, each mistake once.

        Raises:
            LitOptimError: There is one.
        """
        if any(error.mistakes for error in self.errors):
            raise self.joined() from self.errors[0]

    def joined(self) -> LitOptimError:
        """All of them."""
        mistakes: dict[Mistake, None] = {}
        for error in self.errors:
            mistakes |= dict.fromkeys(error.mistakes)
        seeds = [mistake.given for mistake in mistakes if mistake.key == "seed"]  # which data.seed follows
        mistakes = {one: None for one in mistakes if one.key != "data.seed" or one.given not in seeds}
        kinds = {type(error) for error in self.errors if error.mistakes}
        kind: type[LitOptimError] = kinds.pop() if len(kinds) == 1 else PlanError
        return kind(*mistakes)


def unresolved(error: InterpolationResolutionError) -> Mistake:
    """The mistake of an interpolation that comes to nothing."""
    problem = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Mistake(str(error.full_key or "config"), problem, remedy="mend the interpolation")
