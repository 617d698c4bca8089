"""`python -m sfsc_training` is `sfsc-train`, in the form that torchrun needs."""

from sfsc_training.cli import main

if __name__ == "__main__":
    main()
