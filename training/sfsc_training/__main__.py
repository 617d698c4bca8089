"""`python -m sfsc_training` is `sfsc-train`; torchrun starts it so."""

from sfsc_training.cli import main

if __name__ == "__main__":
    main()
