"""`python -m sfsc_training` is `sfsc-train`, in the form that torchrun needs."""

import sys

from sfsc_bundle.extras import installing

__all__ = ["main"]


def main() -> None:
    """Run the command; without the packages of the extra `training` it is one sentence on stderr, exit code 2."""
    try:
        _check_words()
        from sfsc_training.cli import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sfsc_"):
            raise
        print(
            f"sfsc-train: needs {error.name}, which is not installed: {installing('training')}",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:  # the imports take seconds
        sys.exit(130)
    run()


def _check_words() -> None:
    from sfsc_training.early_checks import check_early
    from sfsc_training.errors import TrainingError

    try:
        check_early(sys.argv[1:])
    except TrainingError as error:
        print(f"sfsc-train: {' '.join(str(error).splitlines())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
