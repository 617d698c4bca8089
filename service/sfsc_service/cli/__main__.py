"""`python -m sfsc_service.cli` is `sfsc`, which says what it needs where only the client is installed."""

import sys

from sfsc_bundle.extras import installing

__all__ = ["main"]


def main() -> None:
    """Run the command; without the packages of the extra `service` it is one sentence on stderr, exit code 2."""
    try:
        from sfsc_service.cli.main import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sfsc_"):
            raise
        print(f"sfsc: needs {error.name}, which is not installed: {installing('service,cpu')}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # the imports take a moment
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
