"""Metadata of qrkt_keras, with ranges; `constraints.txt` holds the pinned set that CI installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """Reads `__version__` without importing the package."""
    text = (ROOT / "qrkt_keras" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE).group(1)


README = ROOT / "README.md"

INSTALL_REQUIRES = [
    "keras>=3.15.1,<4",
    # TensorFlow Quantum's ops are compiled against one minor release of TensorFlow. Never
    # tensorflow-cpu: TFQ pulls tensorflow in through tf-keras, and the two overwrite each other.
    "tensorflow>=2.18.1,<2.19",
    "tensorflow-quantum>=0.7.6,<0.7.7",
    "cirq-core>=1.5,<1.6",
    "cirq-google>=1.5,<1.6",
    "qsimcirq>=0.22.1,<0.23",
    "sympy>=1.14,<1.15",
    "numpy>=2.0,<2.1",
    "protobuf>=5.29,<5.30",
    "tensorflow-datasets>=4.9.10,<4.10",
    # A newer one makes TFDS import empty under protobuf 5.
    "tensorflow-metadata>=1.17.3,<1.18",
    # TFDS imports it to find and prepare a data set, and declares it for Python 3.8 only.
    "importlib_resources>=6.4",
    "keras-tuner>=1.4.8,<1.5",
    "tensorflow-gan>=2.1,<2.2",
    "tensorflow-probability>=0.25,<0.26",
    # tensorflow-hub, which tensorflow-gan imports, needs pkg_resources at run time.
    "setuptools<81",
    "scikit-learn>=1.6,<2",
    "scipy>=1.14,<2",
    "matplotlib>=3.9,<4",
    "pillow>=11",
    "typer>=0.15,<1",
    "rich>=13.9",
]

TEST_REQUIRES = [
    "build>=1.2,<2",
    "hypothesis>=6.120,<7",
    "pytest>=8.3,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.12,<1",
]

setup(
    name="qrkt_keras",
    version=version(),
    description="Quantum transformers with Runge-Kutta residual blocks: a Keras 3 model zoo.",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["qrkt_keras", "qrkt_keras.*"]),
    package_data={"qrkt_keras": ["py.typed", "zoo/*/presets/*/*"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={"test": TEST_REQUIRES},
    entry_points={"console_scripts": ["qrkt = qrkt_keras.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
