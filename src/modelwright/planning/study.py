"""Which trial a search tries next: optuna, behind this module.

The record of all trials is a file beside the run, so that a search goes on after a stop or a kill;
the trial that was under way then goes on first. What is proposed depends on the seed and on the
trials that have ended, not on whether the search was interrupted.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelwright.errors import require
from modelwright.files import Json, JsonObject

STARTUP = 8
"""So many trials are drawn at random, beside those that are given, before a model of what is good
is made of them."""
_FIRST_RUNG, _FACTOR = 2, 2
"""After so many validations a trial goes on if it is in the better half of those that came so far,
and again at twice as many, and so on (successive halving without waiting: Li et al. 2020, `A system
for massively parallel hyperparameter tuning`)."""
_OUTCOME = "outcome"


class Study:
    """The trials of one search; each has settings, figures that its targets miss, and a value."""

    def __init__(
        self,
        path: Path,
        space: Mapping[str, Sequence[str]],
        *,
        seed: int,
        higher_is_better: bool,
        is_random: bool = False,
    ) -> None:
        """Open the record of a search, or begin one.

        Args:
            path: the file of the record.
            space: the values of each setting, of which a trial has one.
            seed: decides what is proposed.
            higher_is_better: of the value.
            is_random: propose at random, as a reference to compare with.

        Raises:
            MissingExtraError: optuna isn't installed.
        """
        require("optuna", extra="train", purpose="to search for what meets the targets")
        import optuna
        from sqlalchemy.engine import URL

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = {name: list(values) for name, values in space.items()}
        self._seed, self._is_random = seed, is_random
        address = URL.create("sqlite", database=str(path)).render_as_string()
        with _quiet():
            self._study = optuna.create_study(
                study_name="search",
                storage=address,
                load_if_exists=True,
                direction="maximize" if higher_is_better else "minimize",
                pruner=optuna.pruners.SuccessiveHalvingPruner(
                    min_resource=_FIRST_RUNG, reduction_factor=_FACTOR
                ),
            )

    def propose_first(self, trials: Sequence[Mapping[str, str]]) -> None:
        """Give settings that are tried before any others; only for a search that begins."""
        if not self._study.get_trials(deepcopy=False):
            for settings in trials:
                self._study.enqueue_trial(dict(settings))

    def ask(self, *, explores: bool = False) -> Trial:
        """Return the trial that was under way when the search ended, or else a new one.

        With `explores` it is drawn at random: what the model of good trials proposes was tried.
        """
        import optuna

        running = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        if running:
            trial = optuna.trial.Trial(self._study, running[0]._trial_id)
        else:
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._sampler(self._seed + number, explores)
            trial = self._study.ask()
        settings = {
            name: str(trial.suggest_categorical(name, values))
            for name, values in self._space.items()
        }
        return Trial(self._study, trial, settings)

    def _sampler(self, seed: int, explores: bool) -> Any:
        import optuna

        if self._is_random or explores:
            return optuna.samplers.RandomSampler(seed=seed)
        with _quiet():
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=STARTUP, multivariate=True
            )

    def ended(self) -> list[JsonObject]:
        """Return what `tell` and `reject` were given of each trial that has ended, in order."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial.user_attrs[_OUTCOME] for trial in trials if _OUTCOME in trial.user_attrs]


class Trial:
    """One trial, from its settings to its end."""

    def __init__(self, study: Any, trial: Any, settings: dict[str, str]) -> None:
        self._study, self._trial = study, trial
        self.settings = settings

    @property
    def number(self) -> int:
        """Its number, from 0 on."""
        return int(self._trial.number)

    def begin(self) -> int:
        """Note that it is begun, and return how often it was before without an end."""
        before = int(self._trial.user_attrs.get("begun", 0))
        self._trial.set_user_attr("begun", before + 1)
        return before

    def stop(self) -> None:
        """Note that it was stopped on request, which isn't held against it."""
        self._trial.set_user_attr("begun", int(self._trial.user_attrs.get("begun", 1)) - 1)

    def is_hopeless(self, step: int, value: float) -> bool:
        """Take a score on the way, and say whether the trial should end for it."""
        with _quiet():
            self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def tell(self, value: float, missing: Mapping[str, float], outcome: Json) -> None:
        """End the trial.

        Args:
            value: the main metric.
            missing: by how much each target is missed; 0 or less where it is met.
            outcome: is kept, for `Study.ended`.
        """
        self._end(missing, outcome)
        self._study.tell(self._trial, value)

    def reject(self, missing: Mapping[str, float], outcome: Json) -> None:
        """End a trial that wasn't carried out, or not to its end."""
        import optuna

        self._end(missing, outcome)
        self._study.tell(self._trial, state=optuna.trial.TrialState.PRUNED)

    def _end(self, missing: Mapping[str, float], outcome: Json) -> None:
        for name, share in missing.items():
            self._trial.set_constraint(name, float(share))
        self._trial.set_user_attr(_OUTCOME, outcome)


class _quiet(warnings.catch_warnings):  # noqa: N801 (it is used as the function that it extends)
    """Keeps optuna's warnings on features that may change, and on doubled steps, to itself."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
