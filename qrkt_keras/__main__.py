"""`python -m qrkt_keras …` is `qrkt …`."""

from __future__ import annotations

from qrkt_keras.cli import main

if __name__ == "__main__":
    main()
