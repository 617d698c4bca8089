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
        return _begin("backup", name=name)

    @Route
    def compact(self) -> Prepared[MaintenanceAnswer]:
        """Begin to write vectors anew without what was deleted or replaced."""
        return _begin("compact")

    @Route
    def reembed(
        self, bundle: str, *, width: str | None = None, to: str | None = None
    ) -> Prepared[MaintenanceAnswer]:
        """Begin to embed all images for a move to another bundle; `sfsc reembed` on the data folder ends it."""
        return _begin("reembed", bundle=bundle, width=width, to=to)

    @Route
    def stop_maintenance(self) -> Prepared[MaintenanceAnswer]:
        """Stop the check, the backup or the embedding that is under way."""
        return Call("DELETE", "/maintenance", answer_reader(MaintenanceAnswer))


def _begin(task: str, **options: str | None) -> Call[MaintenanceAnswer]:
    """Not sent again where its answer was lost: the second one would be told that one is under way."""
    params = {name: value for name, value in options.items() if value is not None}
    return Call("POST", f"/maintenance/{task}", answer_reader(MaintenanceAnswer), params, repeat="if refused")
