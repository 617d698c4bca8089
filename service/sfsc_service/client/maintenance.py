"""Calls about an operator's work on the data folder of a running service; they need a key with the scope admin."""

from sfsc_service.client.answers import MaintenanceAnswer, answer_reader
from sfsc_service.client.call import Call, Prepared, Route

__all__ = ["MaintenanceRoutes"]


class MaintenanceRoutes:
    """Those methods of both clients."""

    @Route
    def maintenance(self) -> Prepared[MaintenanceAnswer]:
        """What is under way, and what came of the last one of each kind."""
        return Call("GET", "/maintenance", answer_reader(MaintenanceAnswer))

    @Route
    def check(self) -> Prepared[MaintenanceAnswer]:
        """Begin to check every row, vector and image."""
        return _begin("check")

    @Route
    def backup(self, *, name: str | None = None) -> Prepared[MaintenanceAnswer]:
        """Begin a copy in the service's folder for backups."""
        return _begin("backup", name)

    @Route
    def compact(self) -> Prepared[MaintenanceAnswer]:
        """Begin to write vectors anew without what was deleted or replaced."""
        return _begin("compact")

    @Route
    def stop_maintenance(self) -> Prepared[MaintenanceAnswer]:
        """Stop the check or the backup that is under way."""
        return Call("DELETE", "/maintenance", answer_reader(MaintenanceAnswer))


def _begin(task: str, name: str | None = None) -> Call[MaintenanceAnswer]:
    """Not sent again where its answer was lost: the second one would be told that one is under way."""
    params = {} if name is None else {"name": name}
    return Call("POST", f"/maintenance/{task}", answer_reader(MaintenanceAnswer), params, repeat="if refused")
