"""Who may see and do what. Everything is asked of Airflow's auth manager; nobody has a right of our own making.

========================================  ======================================================================
to                                        one needs, in Airflow,
========================================  ======================================================================
see a job of a DAG                        to read the DAG's task instances
see what it writes                        to read the DAG's task logs
cancel or retry it                        to edit the DAG's task instances
see other jobs, runners, queues           to see Airflow's own jobs (the view Jobs)
cancel or retry other jobs,
steer runners and queues,
see jobs of which nobody knows the DAG    to edit pools, which say how much runs at once, too
========================================  ======================================================================

A job is of the DAG that its label `dag_id` names. One whose files are damaged may have had that label.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends
from sqlalchemy import select

from air_executor import model

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager, ResourceMethod

DAG_LABEL = "dag_id"
REMEMBERED = 5.0
"""Seconds: with 5,000 DAGs it takes 50 ms to ask which of them somebody may see, and each open page asks each second.
Only lists are of what was remembered; a job, its log and all that changes something are asked about each time."""
MOST_REMEMBERED = 1000
_listed: dict[tuple[type, str], tuple[float, frozenset[str] | None]] = {}
"""When it was asked of whom, and what came of it."""
UNKNOWN_DAG = "air-executor: a DAG that nobody knows"
"""The id of no DAG: who may see that may see all."""


@dataclass(frozen=True)
class Owner:
    """Whose a job is."""

    dag_id: str | None = None
    """None: of no DAG."""
    known: bool = True
    """Whether that is certain."""


def owner_of(labels: dict[str, str], exit_kind: str | None, *, sound: bool = True) -> Owner:
    """From what is known of a job. Pure.

    Args:
        sound: whether its state could be read.
    """
    damaged = not sound or exit_kind == model.ExitKind.DAMAGED
    return Owner(labels.get(DAG_LABEL) or None, known=bool(labels) or not damaged)


def _known_dags() -> frozenset[str]:
    with create_session() as session:
        return frozenset(session.scalars(select(DagModel.dag_id)))


class Visitor:
    """Somebody who is logged in. Asks Airflow's database, so it belongs into a thread."""

    def __init__(self, user: Any, manager: BaseAuthManager[Any]) -> None:
        self._user, self._manager = user, manager

    @property
    def name(self) -> str:
        """As whom it is written down what somebody did."""
        return f"airflow user {self._user.get_name()}"

    @cached_property
    def sees_home(self) -> bool:
        """Runners, queues, and jobs that are of no DAG."""
        return bool(self._manager.is_authorized_view(access_view=AccessView.JOBS, user=self._user))

    @cached_property
    def operates(self) -> bool:
        """Runners, queues, and what is of no DAG."""
        return self.sees_home and bool(self._manager.is_authorized_pool(method="PUT", user=self._user))

    def reads(self, owner: Owner) -> bool:
        """Whether a job may be seen."""
        return self._may("GET", DagAccessEntity.TASK_INSTANCE, owner, self.sees_home)

    def reads_logs(self, owner: Owner) -> bool:
        """Whether what its tasks write may be seen."""
        return self.reads(owner) and self._may("GET", DagAccessEntity.TASK_LOGS, owner, self.sees_home)

    def edits(self, owner: Owner) -> bool:
        """Whether it may be cancelled and started again."""
        return self.reads(owner) and self._may("PUT", DagAccessEntity.TASK_INSTANCE, owner, self.operates)

    def _may(self, method: ResourceMethod, entity: DagAccessEntity, owner: Owner, of_no_dag: bool) -> bool:
        if not owner.known:
            return self.operates
        if owner.dag_id is None:
            return of_no_dag
        details = DagDetails(id=owner.dag_id, team_name=DagModel.get_team_name(owner.dag_id))
        allowed = self._manager.is_authorized_dag(method=method, access_entity=entity, details=details, user=self._user)
        return bool(allowed)

    @cached_property
    def listed(self) -> frozenset[str] | None:
        """The DAGs of which jobs are listed; None: of all, also of those that Airflow does not know any more.

        As it was `REMEMBERED` seconds ago at most.
        """
        key, moment = (type(self._manager), self._user.get_id()), time.monotonic()
        asked_at, found = _listed.get(key, (float("-inf"), None))
        if moment - asked_at >= REMEMBERED:
            found = self._ask_what_is_listed()
            if len(_listed) >= MOST_REMEMBERED:
                _listed.clear()
            _listed[key] = moment, found
        return found

    def _ask_what_is_listed(self) -> frozenset[str] | None:
        if self.operates and self.reads(Owner(UNKNOWN_DAG)) and self._dags >= _known_dags():
            return None
        return self._dags

    @cached_property
    def _dags(self) -> frozenset[str]:
        """Found as Airflow finds those of which it lists task instances."""
        entity = DagAccessEntity.TASK_INSTANCE
        if not self._manager.is_authorized_dag(
            method="GET", access_entity=entity, details=DagDetails(), user=self._user
        ):
            return frozenset()
        return frozenset(self._manager.get_authorized_dag_ids(user=self._user, method="GET"))


def visitor(user: GetUserDep) -> Visitor:
    """Who asks; an answer with 401 for one who is not logged in."""
    return Visitor(user, get_auth_manager())


VisitorDep = Annotated[Visitor, Depends(visitor)]
