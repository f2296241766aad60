"""Model + recipe + horizon → plan: what each parameter ends with, the merged groups, and every refusal.

Nothing is changed and nothing is stepped here; the model is only looked at.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from lit_optim.advice import warnings_of
from lit_optim.cascade import Cascade, Settled
from lit_optim.checks import bound_mistakes, class_mistakes, group_mistakes, schedule_mistakes
from lit_optim.depth import Depths
from lit_optim.durations import Duration, Horizon, steps_of
from lit_optim.errors import Mistake, PlanError
from lit_optim.execution import argument_mistakes, arguments_of, by_class, execution_of
from lit_optim.grouping import few, merge, to_group
from lit_optim.hyperparameters import place_of
from lit_optim.idle import idle_rules
from lit_optim.lr_scaling import SIZE
from lit_optim.matching import Matching
from lit_optim.monitors import monitors_in, never_logged
from lit_optim.plan import FROZEN, Plan
from lit_optim.recipe import Recipe
from lit_optim.torch_traps import shared_mistakes

__all__ = ["Planner", "make_plan"]


def make_plan(model: nn.Module, recipe: Recipe | Mapping[str, Any] | str | Path, horizon: Horizon) -> Plan:
    """Say who claims what, and how it moves, before anything is built.

    Args:
        model: Any module; wrappers (``torch.compile``, DDP, FSDP, activation checkpointing) are looked through.
        recipe: What the user wrote: a `Recipe`, or what `Recipe.from_config` reads.
        horizon: The run that durations are measured against.

    Returns:
        The plan; the same for the same input, byte for byte, everywhere.

    Raises:
        RecipeError: The recipe's structure is wrong.
        PlanError: With every mistake that was found.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_config(recipe)
    with _collector_at_rest():
        planner = Planner(model, recipe, horizon)
        plan = planner.plan()
    if planner.mistakes or plan is None:
        raise PlanError(*dict.fromkeys(planner.mistakes))
    return plan


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Without it a model of 100,000 tensors is walked by the garbage collector again and again: half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Planner:
    """One pass over a recipe; ``mistakes`` gathers what is wrong on the way, so that all of it is told at once.

    Args:
        model: Any module.
        recipe: What the user wrote.
        horizon: The run.

    Attributes:
        matching: Which rules match each parameter.
        ends: What each parameter ends with; None where no class is in force or the model itself has frozen it.
        merged: The groups.
        mistakes: What is wrong.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, horizon: Horizon) -> None:
        self.model = model
        self.recipe = recipe
        self.horizon = horizon
        self.mistakes: list[Mistake] = never_logged(model, monitors_in(recipe))
        self.matching = Matching(model, recipe, self.mistakes)
        self.cascade = Cascade(recipe, self.mistakes, self._lr_factor())
        self._settled: dict[tuple[int, ...], Settled | None] = {}
        self._at_depth: dict[tuple[tuple[int, ...], int], Settled] = {}
        self._last_layers: dict[str, int] = {}
        self._trainable = [self._is_trainable(position) for position in range(len(self.matching.index.entries))]
        self._check_parameters()
        self._check_rules()
        entries = self.matching.index.entries
        self.ends = [self._end(position) for position in range(len(entries))]
        held = [
            (entry, settled)
            for entry, settled in zip(entries, self.ends, strict=True)
            if settled is not None and not settled.is_frozen
        ]
        self.merged = merge(held, self._settle(()))
        for index in {*range(len(recipe.rules))}.difference(*self.matching.rules_of):
            self._settle((index,))  # it matches nothing, and may be wrong in other ways as well

    def plan(self) -> Plan | None:
        """The plan; None where there are mistakes."""
        self._check_groups()
        if self.mistakes or not self.merged:
            return None
        entries = self.matching.index.entries
        frozen = [
            entry for entry, settled in zip(entries, self.ends, strict=True) if settled is None or settled.is_frozen
        ]
        return Plan(
            groups=tuple(to_group(one, self.recipe) for one in self.merged),
            horizon=self.horizon,
            frozen=tuple(entry.name for entry in frozen),
            frozen_numel=sum(entry.numel for entry in frozen),
            frozen_by={
                entry.name: settled.freeze.rule.name
                for entry, settled in zip(entries, self.ends, strict=True)
                if settled is not None and settled.is_frozen and settled.freeze is not None
            },
            tied={name: entry.name for entry in entries for name in entry.names[1:]},
            rules=self._groups_of_rules(),
            warnings=(
                *self._idle_rules(),
                *warnings_of(self.merged, self.horizon, self.matching.index, self.cascade.lr_factor),
            ),
            arguments=arguments_of(self.merged, self.cascade.classes),
            execution=execution_of(self.merged, self.cascade.classes, self.model),
            lr_scaling=self.recipe.lr_scaling,
        )

    def _lr_factor(self) -> float:
        """What the batch size of this run multiplies every learning rate by."""
        scaling, batch = self.recipe.lr_scaling, self.horizon.global_batch
        if scaling is None:
            return 1.0
        if batch is None:
            problem = "how large the batches of this run are, nobody knows (or gradient accumulation changes it)"
            remedy = (
                "load data with a batch_size and keep trainer.accumulate_grad_batches the same all along (in Python: "
                f"Horizon(…, global_batch=512)), or scale nothing ({SIZE}=null)"
            )
            self._note(SIZE, problem, given=repr(scaling.batch_size), remedy=remedy)
            return 1.0
        return scaling.factor(batch)

    def _settle(self, rules: tuple[int, ...]) -> Settled | None:
        """What these rules make of a parameter, wherever it stands; asked once for each combination."""
        if rules not in self._settled:
            settled = self.cascade.settle([self.recipe.rules[index] for index in rules])
            if settled is not None and settled.freeze is not None and settled.freeze.until is not None:
                key = f"{settled.freeze.rule.key}.freeze_until"
                settled = replace(settled, freeze_until=self._first_step(settled.freeze.until, key))
            self._settled[rules] = settled
        return self._settled[rules]

    def _first_step(self, freeze_until: Duration, key: str) -> int:
        try:
            steps = steps_of(freeze_until, self.horizon, key)
        except PlanError as error:
            self.mistakes.extend(error.mistakes)
            return 0
        if steps == self.horizon.total_steps:
            remedy = "write freeze: true for the whole run, or a shorter time"
            self._note(key, "it would never train: this is the whole run", given=repr(freeze_until), remedy=remedy)
        return steps

    def _end(self, position: int) -> Settled | None:
        """What a parameter ends with, at its layer where a layer decay is in force."""
        if not self._trainable[position]:
            return None
        rules, entry = self.matching.rules_of[position], self.matching.index.entries[position]
        settled = self._settle(rules)
        if settled is None or settled.is_frozen or settled.layer_decay is None:
            return settled
        depths = self.matching.depths(settled.layer_decay)
        depth = next((depths[name] for name in entry.names if name in depths), None)
        if depth is None:  # its order has been refused
            return settled
        if (rules, depth) not in self._at_depth:
            last = self._last_layer(settled.layer_decay.name, depths)
            self._at_depth[rules, depth] = self.cascade.at_depth(settled, depth, last)
        return self._at_depth[rules, depth]

    def _last_layer(self, rule: str, depths: Depths) -> int:
        """The layer of the output, looked for once a rule: a model may have thousands."""
        if rule not in self._last_layers:
            self._last_layers[rule] = max(depths.values())
        return self._last_layers[rule]

    def _is_trainable(self, position: int) -> bool:
        """Whether the model leaves it to the recipe; what a rule freezes is left to it, before and after it is done."""
        if self.matching.index.entries[position].parameter.requires_grad:
            return True
        settled = self._settle(self.matching.rules_of[position])
        return settled is not None and settled.is_frozen

    def _check_parameters(self) -> None:
        entries = self.matching.index.entries
        trainable = list(itertools.compress(entries, self._trainable))
        if not trainable:
            what = "every parameter is frozen (requires_grad=False)" if entries else "the model has no parameters"
            self._note("model", f"nothing to train: {what}", remedy="give a model with trainable parameters")
        for entry in trainable:
            if entry.is_lazy:
                problem = f"{entry.name} has no shape yet (a lazy module)"
                self._note("model", problem, remedy="run one batch through the model before it is planned")

    def _check_rules(self) -> None:
        """Refuse a rule that only matches what the model itself has frozen."""
        matched: set[int] = set()
        trained: set[int] = set()
        for position, rules in enumerate(self.matching.rules_of):
            matched.update(rules)
            if self._trainable[position]:
                trained.update(rules)
        for index, rule in enumerate(self.recipe.rules):
            if index in matched - trained:
                names = tuple(entry.name for entry in itertools.compress(self.matching.index.entries, self._trainable))
                remedy = f"correct the match, or remove the rule ({rule.key}=null)"
                problem = "only frozen parameters match (requires_grad=False)"
                self._note(f"{rule.key}.match", problem, given=repr(rule.match), allowed=names, remedy=remedy)

    def _check_groups(self) -> None:
        trained = [one for one in self.merged if one.settled.freeze_until == 0]
        unclaimed = [
            entry
            for position, (entry, settled) in enumerate(zip(self.matching.index.entries, self.ends, strict=True))
            if settled is None and self._trainable[position]
        ]
        if unclaimed and self.recipe.optimizer is None:
            remedy = "name a class under optimizer for the rest, give them a rule with an optimizer, or freeze them"
            self._note("optimizer", f"no optimizer holds {few(unclaimed)}", remedy=remedy)
        if not self.merged and self.ends and any(settled is not None for settled in self.ends):
            self._note("rules", "nothing is left to train: the rules freeze it all", remedy="freeze less")
        elif self.merged and not trained:
            first = min(one.settled.freeze_until for one in self.merged)
            self._note("rules", f"nothing trains before step {first}", remedy="freeze less, or for a shorter time")
        for one in self.merged:
            said = self.cascade.classes.arguments(one.settled.traits)
            self.mistakes += group_mistakes(one, self.recipe, self.matching.index, said)
            for name in one.settled.schedules:
                self.mistakes += schedule_mistakes(one, name, self.horizon)
        if self.recipe.lr_scaling and self.merged and all("lr" not in g.settled.hyperparameters for g in self.merged):
            self._note(SIZE, "no group has a learning rate to scale", remedy=f"leave it out ({SIZE}=null)")
        self.mistakes += class_mistakes(self.merged)
        self.mistakes += shared_mistakes(self.merged)
        self._check_schedules()
        for groups in by_class(self.merged).values():
            self.mistakes += argument_mistakes(groups, self.cascade.classes.arguments(groups[0].settled.traits))

    def _check_schedules(self) -> None:
        """A shared schedule needs a group with its hyperparameter; what is nowhere in force is checked by itself."""
        nodes = {f"schedule.{name}": node for name, node in self.recipe.schedule.items() if node is not None}
        for name, node in self.recipe.schedule.items() if self.merged else ():
            known = any(place_of(name, one.settled.hyperparameters) is not None for one in self.merged)
            if not known and nodes.pop(f"schedule.{name}", None) is not None:
                first = self.merged[0].settled
                self.cascade.note_unscheduled(f"schedule.{name}", name, node, first.hyperparameters, first.traits)
        for rule in self.recipe.rules:
            nodes |= {f"{rule.key}.schedule.{name}": node for name, node in rule.schedule.items() if node is not None}
        in_force = {key for one in self.merged for key in one.settled.schedule_origins.values()}
        for key, node in nodes.items():
            if key not in in_force:
                self.mistakes += bound_mistakes(node, 1.0, self.horizon, key)[0]

    def _groups_of_rules(self) -> dict[str, tuple[str, ...]]:
        """Where each rule's parameters ended, in the order of the groups, the frozen last."""
        order = {name: number for number, name in enumerate([*(one.name for one in self.merged), FROZEN])}
        ended: dict[str, set[str]] = {rule.name: set() for rule in self.recipe.rules}
        for one in self.merged:
            for index in set().union(*{self.matching.rules_of[entry.position] for entry in one.entries}):
                ended[self.recipe.rules[index].name].add(one.name)
        for settled in {id(settled): settled for settled in self.ends if settled is not None}.values():
            if settled.is_frozen and settled.freeze is not None:
                ended[settled.freeze.rule.name].add(FROZEN)
        return {name: tuple(sorted(groups, key=order.__getitem__)) for name, groups in ended.items()}

    def _idle_rules(self) -> Iterator[str]:
        """See `idle_rules`; what would be wrong without a rule is nobody's mistake."""
        told = len(self.mistakes)
        matching = dict.fromkeys(itertools.compress(self.matching.rules_of, self._trainable))
        yield from idle_rules(self.recipe, matching, self._settle, self.cascade.classes)
        del self.mistakes[told:]

    def _note(self, key: str, problem: str, **more: Any) -> None:
        self.mistakes.append(Mistake(key, problem, **more))
