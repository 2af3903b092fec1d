"""A search from the command line; the same as `qrkt tune`, of which `--help` shows all options.

python tuning/search.py    # a first look: 8 trials on digits, two minutes on two cores
python tuning/search.py --model qvit --data digits --tuner bayesian --max-trials 20
"""

import sys

from qrkt_keras.cli import app

if __name__ == "__main__":
    app(["tune", *sys.argv[1:]], prog_name="qrkt")
